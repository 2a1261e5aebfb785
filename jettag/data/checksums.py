"""A checksum a column, because a ROOT file alone does not notice every flipped bit.

ZLIB's own Adler-32 covers compressed baskets only: a basket that does not shrink is stored raw, by ROOT as by uproot.
"""

from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import xxhash

__all__ = ["Checksums"]


class Checksums:
    """XXH3 of each column's numbers and, for jagged ones, of the counts; how rows were cut does not matter."""

    def __init__(self) -> None:
        self._hashes: dict[str, tuple[Any, Any]] = {}

    def add(self, columns: Mapping[str, ak.Array]) -> None:
        """The next rows."""
        for name, column in columns.items():
            content, counts = self._hashes.setdefault(name, (xxhash.xxh3_64(), xxhash.xxh3_64()))
            values, lengths = _parts(column)
            if lengths is not None:
                counts.update(np.ascontiguousarray(lengths, dtype="<i8"))
            values = np.ascontiguousarray(values)
            content.update(values.astype(values.dtype.newbyteorder("<"), copy=False).view(np.uint8))

    @property
    def digests(self) -> dict[str, str]:
        """Column to checksum."""
        return {name: content.hexdigest() + counts.hexdigest() for name, (content, counts) in self._hashes.items()}


def _parts(column: ak.Array) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """The numbers of a column in a row, and of a jagged one how many each entry has."""
    layout = column.layout
    # As files are read: awkward's own functions take longer than the hash.
    if isinstance(layout, ak.contents.NumpyArray) and layout.data.ndim == 1:
        return np.asarray(layout.data), None
    if isinstance(layout, ak.contents.ListOffsetArray) and isinstance(layout.content, ak.contents.NumpyArray):
        offsets = np.asarray(layout.offsets.data)
        return np.asarray(layout.content.data)[offsets[0] : offsets[-1]], np.diff(offsets)
    if column.ndim > 1:
        return ak.to_numpy(ak.flatten(column)), ak.to_numpy(ak.num(column))
    return ak.to_numpy(column), None
