"""Make ``ckptaudit/identification/index.bin`` from the shipped catalogue: run it after ``tools/make_catalogue.py``. Takes some seconds.

python tools/make_index.py
"""

from __future__ import annotations

from pathlib import Path

from ckptaudit.arch.catalogue import shipped
from ckptaudit.identification.index import build_index

TARGET = Path(__file__).parent.parent / "ckptaudit" / "identification" / "index.bin"

if __name__ == "__main__":
    data = build_index(shipped())
    TARGET.write_bytes(data)
    print(f"{len(data):,} bytes: {TARGET}")
