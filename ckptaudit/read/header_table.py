"""The tensors of a header, a row of numbers each, for files that name a million of them.

As Python objects a tensor takes eight times what it takes in the header: its storage, its shape, its strides, its offsets. Here shapes and
dtypes are kept once each, offsets in an array, and the objects are made when they are asked for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from ckptaudit.read.identity import identity_of
from ckptaudit.read.stored import Storage, StoredTensor, contiguous_strides

if TYPE_CHECKING:
    from pathlib import Path

#: Shape, strides, dtype, bytes, and why the values cannot be read.
_Kind = tuple[tuple[int, ...], tuple[int, ...], str, int, str]


class HeaderTable(Mapping[str, StoredTensor]):
    """Tensors by name, in the file's order, each dense, in a storage of its own and within one file.

    Parameters
    ----------
    path, begin:
        The file, which is open, and where offsets count from.
    """

    def __init__(self, path: Path, begin: int) -> None:
        self._path, self._begin, self._file = path, begin, identity_of(path)
        self._rows: dict[str, int] = {}
        self._kinds: dict[tuple[tuple[int, ...], str, int, str], int] = {}
        self._by_number: list[_Kind] = []
        self._kind, self._first = array("I"), array("Q")

    @property
    def count(self) -> int:
        """Rows so far, named or not."""
        return len(self._first)

    def add(self, shape: tuple[int, ...], dtype: str, first: int, nbytes: int, unavailable: str = "") -> None:
        """Add a row for the next name."""
        kind = (shape, dtype, nbytes, unavailable)
        number = self._kinds.setdefault(kind, len(self._by_number))
        if number == len(self._by_number):
            self._by_number.append((shape, contiguous_strides(shape), dtype, nbytes, unavailable))
        self._kind.append(number)
        self._first.append(first)

    def name(self, rows: dict[str, int]) -> None:
        """Give the rows their names: by name, in the file's order, the number of each."""
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> StoredTensor:
        row = self._rows[name]
        shape, strides, dtype, nbytes, unavailable = self._by_number[self._kind[row]]
        storage = Storage(name, self._path, self._begin + self._first[row], nbytes, unavailable, file=self._file)
        return StoredTensor(shape, strides, dtype, 0, storage)

    @property
    def paths(self) -> frozenset[Path]:
        """The files that hold the values."""
        return frozenset((self._path,))

    def spans(self) -> Iterator[tuple[int, int, str]]:
        """First byte, the one behind the last, and name of each tensor, in the order in which they lie."""
        sizes = [kind[3] for kind in self._by_number]
        spans = ((self._first[row], self._first[row] + sizes[self._kind[row]], name) for name, row in self._rows.items())
        if any(before >= after for before, after in pairwise(map(self._first.__getitem__, self._rows.values()))):
            return iter(sorted(spans))
        return spans
