"""One module per format. A module put here is found by :func:`ckptaudit.read.opening.formats`; see ``Format`` there for what it offers."""
