"""A checksum a column, because a ROOT file alone does not notice every flipped bit.

ZLIB's own Adler-32 covers compressed baskets only: a basket that does not shrink is stored raw, by ROOT as by uproot.
"""

from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
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
            if column.ndim > 1:
                counts.update(np.ascontiguousarray(ak.to_numpy(ak.num(column)), dtype="<i8"))
                column = ak.flatten(column)
            values = np.ascontiguousarray(ak.to_numpy(column))
            content.update(values.astype(values.dtype.newbyteorder("<"), copy=False).view(np.uint8))

    @property
    def digests(self) -> dict[str, str]:
        """Column to checksum."""
        return {name: content.hexdigest() + counts.hexdigest() for name, (content, counts) in self._hashes.items()}
