"""What pass one of the shuffle leaves of a file for pass two: its streams, and an index that tells what is in them.

A stream is a column, chunk after chunk, the rows of each chunk sorted into buckets. ``index.json`` comes last; it has
an XXH3 of what each bucket has in all streams, compared whenever pass two reads it, and one of itself.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from jettag.config.files import sync
from jettag.data.dataset import CHECKSUM, checksum
from jettag.data.shards import SINGLE
from jettag.errors import DataError

__all__ = ["CONSTITUENTS", "Staged", "StagedWriter", "StreamDamage"]

CONSTITUENTS = ("features", SINGLE, "p4")  # the columns with one row a constituent
INDEX = "index.json"

Array = npt.NDArray[Any]


class StreamDamage(DataError):
    """The streams of a file are not what pass one wrote.

    Attributes:
        folder: of these streams.
    """

    def __init__(self, what: str, folder: Path) -> None:
        super().__init__(what, where=folder, do="remove it and run the same command again: it is made anew")
        self.folder = folder


@dataclass(frozen=True)
class Staged:
    """A file after pass one, with C chunks and B buckets.

    Attributes:
        folder: its streams.
        notes: what was left out, counted.
        streams: dtype and shape of a row of each.
        jets: (C, B) number of jets.
        constituents: (C, B) their constituents.
        sums: (B,) XXH3 of the rows of each bucket, chunk by chunk and in each in the order of the streams' names.
        largest: (F,) largest absolute value of each feature.
    """

    folder: Path
    notes: Mapping[str, int]
    streams: Mapping[str, tuple[str, tuple[int, ...]]]
    jets: npt.NDArray[np.int64]
    constituents: npt.NDArray[np.int64]
    sums: npt.NDArray[np.uint64]
    largest: npt.NDArray[np.float64]

    @classmethod
    def load(cls, folder: Path) -> "Staged | None":
        """What an earlier `StagedWriter` finished, or None: nothing, or not what it wrote."""
        try:
            content = json.loads((folder / INDEX).read_bytes())
            if content.pop(CHECKSUM) != checksum(content):
                return None
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            return None
        sums = np.array(content["sums"], dtype=np.uint64)
        jets, constituents = (
            np.array(content[k], dtype=np.int64).reshape(-1, len(sums)) for k in ("jets", "constituents")
        )
        streams = {name: (kind, tuple(width)) for name, (kind, width) in sorted(content["streams"].items())}
        return cls(folder, content["notes"], streams, jets, constituents, sums, np.array(content["largest"]))

    def pieces(self, bucket: int) -> list[dict[str, Array]]:
        """What a bucket has of each chunk that has any of it: views of the streams, compared with what was written.

        Raises:
            StreamDamage: a stream is missing or of another length, or a bit of the bucket has changed.
        """
        chunks = np.flatnonzero(self.jets[:, bucket])
        if not len(chunks):
            return []
        streams = {name: self._mapped(name) for name in self.streams}
        digest = xxhash.xxh3_64()
        pieces = []
        for chunk in chunks:
            rows = {}
            for jagged, table in ((False, self.jets), (True, self.constituents)):
                begin = int(table[:chunk].sum() + table[chunk, :bucket].sum())
                rows[jagged] = slice(begin, begin + int(table[chunk, bucket]))
            piece = {name: stream[rows[name in CONSTITUENTS]] for name, stream in streams.items()}
            for values in piece.values():
                digest.update(values.data)
            pieces.append(piece)
        if digest.intdigest() != self.sums[bucket]:
            raise StreamDamage("the checksum of the streams is not the one written", self.folder)
        return pieces

    def _mapped(self, name: str) -> Array:
        """A stream, memory-mapped."""
        dtype, width = self.streams[name]
        table = self.constituents if name in CONSTITUENTS else self.jets
        shape = (int(table.sum()), *width)
        path = self.folder / name
        if not path.is_file() or path.stat().st_size != np.dtype(dtype).itemsize * int(np.prod(shape)):
            raise StreamDamage(f"the stream {name} is missing or of another length than it was written", self.folder)
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)


class StagedWriter:
    """Writes the streams and then, by `finish`, the index.

    Args:
        folder: an empty one.
        buckets: B.
        features: F.
    """

    def __init__(self, folder: Path, buckets: int, features: int) -> None:
        self._folder = folder
        self._files = ExitStack()
        self._streams: dict[str, Any] = {}
        self._rows: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._digests = [xxhash.xxh3_64() for _ in range(buckets)]
        self._tables: dict[str, list[list[int]]] = {"jets": [], "constituents": []}
        self._largest: Array = np.zeros(features)

    def close(self) -> None:
        """Close the streams."""
        self._files.close()

    def add(self, columns: Mapping[str, Array], bucket: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        """The next chunk.

        Args:
            columns: the same in every chunk; those of `CONSTITUENTS` have a row a constituent, the others one a jet.
            bucket: (J,) of each jet.
            counts: (J,) constituents of each jet.

        Raises:
            OSError: the disk refuses.
        """
        order = np.argsort(bucket, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(counts)])
        sizes = counts[order]
        ends = np.cumsum(sizes)
        rows = np.repeat(offsets[order] - (ends - sizes), sizes) + np.arange(offsets[-1])
        jets = np.bincount(bucket, minlength=len(self._digests))
        constituents = np.bincount(bucket, weights=counts, minlength=len(self._digests)).astype(int)
        edges = {jagged: np.cumsum(table).tolist() for jagged, table in ((False, jets), (True, constituents))}
        for name, values in sorted(columns.items()):
            dealt = np.ascontiguousarray(values[rows if name in CONSTITUENTS else order])
            self._stream(name, dealt).write(dealt.data)
            begin = 0
            for digest, end in zip(self._digests, edges[name in CONSTITUENTS], strict=True):
                if end > begin:
                    digest.update(dealt[begin:end].data)
                begin = end
        self._largest = np.maximum(self._largest, np.abs(columns["features"]).max(0, initial=0.0))
        self._tables["jets"].append(jets.tolist())
        self._tables["constituents"].append(constituents.tolist())

    def _stream(self, name: str, values: Array) -> Any:
        if name not in self._streams:
            self._streams[name] = self._files.enter_context((self._folder / name).open("wb"))
            self._rows[name] = (values.dtype.str, values.shape[1:])
        return self._streams[name]

    def finish(self, notes: Mapping[str, int]) -> None:
        """Have the disk hold all of it, the index last.

        Args:
            notes: what was left out, counted.

        Raises:
            OSError: the disk refuses.
        """
        self.close()
        for name in self._streams:
            sync(self._folder / name)
        content = {
            "notes": notes,
            "streams": self._rows,
            "sums": [digest.intdigest() for digest in self._digests],
            "largest": self._largest.tolist(),
            **self._tables,
        }
        path = self._folder / INDEX
        path.write_text(json.dumps(content | {CHECKSUM: checksum(content)}), encoding="utf-8")
        sync(path)
