"""``python -m ckptaudit``."""

from ckptaudit.cli import main

if __name__ == "__main__":
    main()
