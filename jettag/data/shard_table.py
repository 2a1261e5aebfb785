"""Jets of a prepared directory, on disk: what the loader needs of a `Table`, in memory that does not grow with them."""

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from jettag.data.dataset import Dataset
from jettag.data.jets import JetTable, concatenate
from jettag.data.quotas import Quota, share
from jettag.data.shards import BLOCK, SINGLE, Shard
from jettag.errors import DataError

__all__ = ["Part", "ShardTable"]

Index = npt.NDArray[np.int64]
NOT_WANTED = -1


@dataclass(frozen=True)
class Part:
    """One split of one prepared directory.

    Attributes:
        folder: the directory.
        dataset: its manifest.
        split: ``train``, ``val`` or ``test``.
    """

    folder: Path
    dataset: Dataset
    split: str

    @property
    def shards(self) -> list[tuple[Path, Mapping[str, Any]]]:
        """(file, facts) of each shard."""
        named = self.dataset.shards.items()
        return [(self.folder / name, facts) for name, facts in named if name.startswith(f"{self.split}/")]


@dataclass(frozen=True)
class _Chosen:
    """What is taken of a block: rows of the shard's constituents, and of each jet their number, label and columns."""

    rows: slice | Index
    counts: Index
    label: Index
    jet: Mapping[str, npt.NDArray]

    def only(self, places: Index) -> "_Chosen":
        """Of these jets of it, in ascending order."""
        counts, ends = self.counts[places], np.cumsum(self.counts)
        begins = (ends - self.counts)[places]
        rows = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        rows = rows + self.rows.start if isinstance(self.rows, slice) else self.rows[rows]
        label = self.label[places] if len(self.label) else self.label
        return _Chosen(rows, counts, label, {name: values[places] for name, values in self.jet.items()})


@dataclass(frozen=True)
class Look:
    """Jets on disk: how many constituents they have, their labels and columns, and on demand the constituents.

    Attributes:
        pieces: what is taken of each block.
        read: makes a table of pieces; without constituents where they are not asked for.
    """

    pieces: Sequence[_Chosen]
    read: Callable[..., JetTable]

    @cached_property
    def outline(self) -> JetTable:
        """All jets, without constituents."""
        return self.read(self.pieces, constituents=False)

    def take(self, jets: Index | None = None) -> JetTable:
        """These jets, places in `outline` in ascending order, in memory; None for all.

        Raises:
            DataError: bytes are not those that were written.
        """
        if jets is None:
            return self.read(self.pieces)
        edges = np.cumsum([0] + [len(piece.counts) for piece in self.pieces])
        cuts = np.searchsorted(jets, edges)
        parts = zip(self.pieces, edges[:-1], itertools.pairwise(cuts), strict=True)
        return self.read([piece.only(jets[low:high] - begin) for piece, begin, (low, high) in parts])


class ShardTable:
    """Prepared jets, read block by block; every block is checked when it is read.

    What is kept in memory is a number for every `BLOCK` jets.

    Args:
        parts: with the same features and jet columns.
        labels: False gives jets without labels.
        class_names: keep these classes only; labels index into them.
        max_constituents: constituents kept in a jet, of highest pT.
        jet_columns: jet columns to load with the jets, besides ``file`` and ``entry``.
        batch_columns: jet columns that batches carry.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        labels: bool,
        class_names: tuple[str, ...] = (),
        max_constituents: int,
        jet_columns: tuple[str, ...] = (),
        batch_columns: tuple[str, ...] = (),
    ) -> None:
        self._parts = tuple(parts)
        self._labels = labels
        self.feature_names = parts[0].dataset.feature_names
        self.class_names = class_names if labels else ()
        self._max_constituents = max_constituents
        self._jet_columns = tuple(dict.fromkeys(("file", "entry", *jet_columns, *batch_columns)))
        self._batch_columns = tuple(batch_columns)
        self._checked: set[int] = set()  # shards whose small columns were compared with their checksums
        self._shards: list[tuple[Path, Mapping[str, Any]]] = []
        self._places: list[Index] = []  # class in the shard -> label, of each shard
        self._halved: list[tuple[int, ...]] = []  # of each shard: places of the features in float16
        self._first_file: list[int] = []  # of each shard: its file 0 among the files of all parts
        files = 0
        for part in parts:
            known = part.dataset.class_names
            place = [class_names.index(name) if name in class_names else NOT_WANTED for name in known]
            self._shards += part.shards
            self._places += [np.array(place, dtype=np.int64)] * len(part.shards)
            self._halved += [part.dataset.halved] * len(part.shards)
            self._first_file += [files] * len(part.shards)
            files += len(part.dataset.sources)
        lengths = [facts["jets"] for _, facts in self._shards]
        self._first_block = np.concatenate([[0], np.cumsum([-(-length // BLOCK) for length in lengths])]).astype(int)
        sizes = [self._sizes(number) for number in range(len(lengths))]
        self.block_sizes: Index = np.concatenate([np.zeros(0, dtype=np.int64), *sizes])
        self._jets = int(self.block_sizes.sum())
        self.num_entries = sum(lengths)
        others = self.num_entries - self._jets
        self.notes: Mapping[str, int] = {"other_classes": others} if others else {}

    def __len__(self) -> int:
        return self._jets

    def _partial(self, number: int) -> bool:
        """Whether a shard has jets that are not wanted."""
        counts = self._shards[number][1].get("labels", ())
        return self._labels and any(count and self._places[number][c] < 0 for c, count in enumerate(counts))

    def _sizes(self, number: int) -> Index:
        """Wanted jets in each block of a shard."""
        length = int(self._shards[number][1]["jets"])
        begins = np.arange(0, length, BLOCK)
        if not self._partial(number):
            return np.minimum(begins + BLOCK, length) - begins
        wanted = self._places[number][self._open(number).columns["label"]] >= 0
        sizes: Index = np.add.reduceat(wanted.astype(np.int64), begins)
        return sizes

    def _open(self, number: int) -> Shard:
        small = ("offsets", "blocks", *(("label",) if self._labels else ()), *(f"jet.{n}" for n in self._jet_columns))
        shard = Shard(*self._shards[number], check=() if number in self._checked else small)
        self._checked.add(number)
        return shard

    @property
    def identity(self) -> dict[str, int | str]:
        """Number of jets, and a hash of all checksums and of what was chosen of them."""
        digest = xxhash.xxh3_64()
        for _, facts in self._shards:
            digest.update("".join(facts["xxh3"].values()).encode())
        digest.update(f"{self.class_names} {self._labels} {self._max_constituents}".encode())
        return {"jets": len(self), "shards": digest.hexdigest()}

    def load(self, blocks: Index) -> tuple[JetTable, Index]:
        """The jets of these blocks in memory, in the order of ``blocks``, and their rows there.

        Raises:
            DataError: a shard is missing, or its bytes are not those that were written.
        """
        table = self.look(blocks).take()
        return table, np.arange(len(table))

    def look(self, blocks: Index) -> Look:
        """The jets of these blocks without their constituents, of which any can be read then.

        Raises:
            DataError: as `load`, but for the constituents.
        """
        if not len(blocks):
            raise DataError("no jet", where=self._parts[0].folder)
        owner = np.searchsorted(self._first_block, blocks, side="right") - 1
        inner = (blocks - self._first_block[owner]).tolist()
        by_shard = {number: np.flatnonzero(owner == number).tolist() for number in np.unique(owner).tolist()}
        found: dict[int, _Chosen] = {}
        for number, places in by_shard.items():
            shard = self._open(number)
            found |= {place: self._choose(shard, inner[place], number) for place in places}
        return Look([found[place] for place in range(len(blocks))], partial(self._read, by_shard, inner))

    def _read(
        self,
        by_shard: Mapping[int, Sequence[int]],
        inner: Sequence[int],
        chosen: Sequence[_Chosen],
        *,
        constituents: bool = True,
    ) -> JetTable:
        """The jets chosen of some blocks, by shard and place in it, in memory; blocks without any are not read."""
        lengths = [len(piece.counts) for piece in chosen]
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([piece.counts for piece in chosen]))])
        edges = offsets[np.cumsum([0, *lengths])]
        kind = np.float16 if all(len(halved) == len(self.feature_names) for halved in self._halved) else np.float32
        features = np.empty((offsets[-1] if constituents else 0, len(self.feature_names)), dtype=kind)
        p4 = np.empty((len(features), 4), dtype=np.float32)
        for number, places in by_shard.items() if constituents else ():
            shard = self._open(number)  # one open at a time, and each copied once: memory is the result's
            for place in places:
                if not lengths[place]:
                    continue
                shard.check_block(inner[place])
                rows = chosen[place].rows
                self._take_features(shard, number, rows, features[edges[place] : edges[place + 1]])
                p4[edges[place] : edges[place + 1]] = shard.columns["p4"][rows]
        return JetTable(
            features=features,
            p4=p4,
            offsets=offsets.astype(np.int64),
            feature_names=self.feature_names,
            label=np.concatenate([piece.label for piece in chosen]) if self._labels else None,
            class_names=self.class_names,
            jet={name: np.concatenate([piece.jet[name] for piece in chosen]) for name in self._jet_columns},
            batch_columns=self._batch_columns,
        )

    def _take_features(self, shard: Shard, number: int, rows: slice | Index, out: npt.NDArray[Any]) -> None:
        """Copy features from where a shard holds them, in float16, float32, or some in each."""
        if SINGLE not in shard.columns:
            out[:] = shard.columns["features"][rows]
            return
        halved = list(self._halved[number])
        out[:, halved] = shard.columns["features"][rows]
        out[:, [place for place in range(out.shape[1]) if place not in halved]] = shard.columns[SINGLE][rows]

    def _choose(self, shard: Shard, block: int, number: int) -> _Chosen:
        """The wanted jets of a block, cut to length."""
        columns = shard.columns
        offsets = columns["offsets"][block * BLOCK : (block + 1) * BLOCK + 1]
        jets: slice | Index = slice(block * BLOCK, block * BLOCK + len(offsets) - 1)
        begins, counts = offsets[:-1], np.minimum(np.diff(offsets), self._max_constituents)
        label = self._places[number][columns["label"][jets]] if self._labels else np.zeros(0, dtype=np.int64)
        if self._partial(number):
            wanted = np.flatnonzero(label >= 0)
            jets = wanted + block * BLOCK
            begins, counts, label = begins[wanted], counts[wanted], label[wanted]
        if len(counts) and begins[-1] + counts[-1] - begins[0] == counts.sum():
            rows: slice | Index = slice(int(begins[0]), int(begins[-1] + counts[-1]))
        else:
            rows = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        jet = {name: columns[f"jet.{name}"][jets].copy() for name in self._jet_columns}
        jet["file"] += self._first_file[number]
        return _Chosen(rows, counts, label, jet)

    @property
    def class_counts(self) -> Index | None:
        """(C,) jets of each class, from the manifests."""
        if not self._labels:
            return None
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for (_, facts), places in zip(self._shards, self._places, strict=True):
            for place, count in zip(places, facts["labels"], strict=False):
                if place >= 0:
                    counts[place] += count
        return counts

    @cached_property
    def label(self) -> Index | None:
        """(J,) index into ``class_names``, read when first asked for: 8 bytes a jet."""
        if not self._labels:
            return None
        found = [places[self._open(n).columns["label"]] for n, places in enumerate(self._places)]
        label = np.concatenate([np.zeros(0, dtype=np.int64), *found])
        return label[label >= 0]

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Index | None, Mapping[str, npt.NDArray]]]:
        """Labels and those jet columns that there are, of all jets, shard by shard."""
        for number, places in enumerate(self._places):
            stored = self._open(number).columns
            jet = {name: stored[f"jet.{name}"] for name in columns if f"jet.{name}" in stored}
            if not self._labels:
                yield None, jet
                continue
            label = places[stored["label"]]
            yield label[label >= 0], {name: values[label >= 0] for name, values in jet.items()}

    def sample_features(self, constituents: int, seed: int) -> npt.NDArray[np.float32]:
        """(M, F) features of at most so many constituents, of whole blocks drawn with ``seed``."""
        random = np.random.default_rng(seed)
        found = []
        missing = constituents
        for block in random.permutation(len(self.block_sizes)):
            if self.block_sizes[block]:
                features = self.load(np.array([block]))[0].features[:missing].astype(np.float32)
                found.append(features)
                missing -= len(features)
            if not missing:
                break
        return np.concatenate(found)

    def first(self, max_jets: int) -> JetTable:
        """At most so many jets in memory: the first ones, the same number of each class as far as they go.

        The jets are shuffled on disk, so the first ones are a fair sample.
        """
        counts = self.class_counts
        groups: dict[Hashable, int] = {0: len(self)} if counts is None else dict(enumerate(counts.tolist()))
        quota = Quota({int(str(group)): count for group, count in share(max_jets, [groups])[0].items()})
        found = []
        for block in np.flatnonzero(self.block_sizes):
            if quota.full:
                break
            piece, _ = self.load(np.array([block]))
            label = np.zeros(len(piece), dtype=np.int64) if piece.label is None else piece.label
            found.append(piece.select(quota.take(label)))
        table = concatenate(found)
        features = table.features.astype(np.float32)
        return replace(table, features=features, notes=self.notes, num_entries=self.num_entries)

    def sibling(self, split: str) -> "ShardTable":
        """Another split of the same directories, read the same way.

        Raises:
            DataError: a directory has no jet there.
        """
        for part in self._parts:
            if not part.dataset.count(split):
                do = "give jets with --val, or prepare again with another --split"
                raise DataError(f"no {split} jets", where=part.folder, do=do)
        parts = [replace(part, split=split) for part in self._parts]
        return ShardTable(
            parts,
            labels=self._labels,
            class_names=self.class_names,
            max_constituents=self._max_constituents,
            jet_columns=self._jet_columns,
            batch_columns=self._batch_columns,
        )
