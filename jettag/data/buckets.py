"""The two passes of the global shuffle, each in bounded memory.

Every jet has a random 64-bit key, a function of (seed, its file's content, its entry), and the data set is the jets in
the order of their keys. Pass one reads a file chunk by chunk and appends each chunk, sorted into buckets by the upper
end of the key, to the file's own streams. Pass two collects one bucket from all files, sorts it by key, and that is a
shard. Neither the order of the files nor who did which pass leaves a trace.
"""

import shutil
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.config.files import sync
from jettag.data.card import DataCard
from jettag.data.columns import Piece, make_piece
from jettag.data.dataset import SplitRule, hashed, mixed
from jettag.data.features import feature_set
from jettag.data.labels import OTHER
from jettag.data.read import Job, file_chunks
from jettag.data.shards import SINGLE, write_shard
from jettag.data.staged import CONSTITUENTS, Staged, StagedWriter
from jettag.errors import DataError

__all__ = ["PART", "Layout", "collect", "scatter"]

PART = ".part"  # a file in the middle of pass one

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """What both passes need to know.

    Attributes:
        card: the card.
        features: name of the set to compute.
        max_constituents: constituents kept in a jet.
        jet_columns: jet columns to keep.
        seed: of the shuffle.
        rule: which jets go to which split.
        buckets: number of shards of each split.
        halved: places of the features that a shard holds in float16, known when all files went through pass one.
    """

    card: DataCard
    features: str
    max_constituents: int
    jet_columns: tuple[str, ...]
    seed: int
    rule: SplitRule
    buckets: tuple[int, int, int]
    halved: tuple[int, ...] = ()


def scatter(job: Job, sha256: str, place: int, layout: Layout, folder: Path) -> None:
    """Pass one for one file: its streams in ``folder``, which appears when they are complete.

    Args:
        job: the file and what to read of it.
        sha256: of its content; with the seed it decides where its jets go.
        place: among the sources of the data set.
        layout: what all files share.
        folder: to make.

    Raises:
        DataError: the file is damaged or holds what cannot be right.
        OSError: the disk refuses.
    """
    # A name of its own: a cluster may still be at a task whose client was killed.
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{PART}")
    temporary.mkdir(parents=True)
    notes: Counter[str] = Counter()
    features = len(feature_set(layout.features).names)
    with closing(StagedWriter(temporary, sum(layout.buckets), features)) as writer:
        for chunk in _chunks(job, sha256, place, layout, notes):
            writer.add(*chunk)
        writer.finish(notes)
    try:
        temporary.replace(folder)
    except OSError:
        if Staged.load(folder) is None:
            raise
        shutil.rmtree(temporary)  # another made the same one
    sync(folder.parent)


def _chunks(
    job: Job, sha256: str, place: int, layout: Layout, notes: Counter[str]
) -> Iterator[tuple[dict[str, Array], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """(columns, bucket of each jet, constituents of each jet) of each chunk of a file."""
    start = np.uint64(hashed(f"{layout.seed} {sha256}"))
    branches = dict.fromkeys((*job.binding.branches, *(job.labels.branches if job.labels else ())))
    for entries, chunk in file_chunks(job, layout.card, tuple(branches)):
        label = job.labels(chunk, entries) if job.labels else None
        if label is not None and (others := int(np.count_nonzero(label == OTHER))):
            notes["other_classes"] += others
            chunk = {branch: column[label != OTHER] for branch, column in chunk.items()}
            entries, label = entries[label != OTHER], label[label != OTHER]
        if not len(entries):
            continue
        piece = make_piece(chunk, job.binding, entries, layout.max_constituents)
        notes.update(piece.notes)
        kept = entries[piece.kept]
        if layout.rule.by == "file":
            split = np.full(len(kept), layout.rule.of_file(sha256))
        elif layout.rule.by == "entry":
            split = layout.rule.of_entries(sha256, kept)
        else:
            split = layout.rule.of_events(piece.jet["event_number"])
        key = mixed(start + kept.astype(np.uint64))
        begins = np.concatenate([[0], np.cumsum(layout.buckets)])[split]
        # The upper 32 bits of the key times the number of buckets, over 2^32: in order of the key.
        bucket = (key >> np.uint64(32)) * np.array(layout.buckets, dtype=np.uint64)[split] >> np.uint64(32)
        columns = _columns(piece, layout, job.binding.where)
        columns |= {"key": key, "jet.file": np.full(len(kept), place), "jet.entry": kept.astype(np.int64)}
        if label is not None:
            columns["label"] = label[piece.kept].astype(np.int16)
        yield columns, begins + bucket.astype(np.int64), piece.counts


def _columns(piece: Piece, layout: Layout, where: str) -> dict[str, Array]:
    wanted = feature_set(layout.features)
    scaled = wanted.scaled(piece.columns)
    features = wanted(scaled)
    if not np.isfinite(features).all():
        bad = wanted.names[int(np.argmax(~np.isfinite(features).all(axis=0)))]
        raise DataError(f"{bad} is not finite", where=where, do="repair or leave out these jets")
    momentum = np.stack([scaled[name] for name in ("px", "py", "pz", "energy")], axis=1).astype(np.float32)
    columns: dict[str, Array] = {"features": features, "p4": momentum, "count": piece.counts.astype(np.int32)}
    for name in layout.jet_columns:
        values = piece.jet[name]
        columns[f"jet.{name}"] = values.astype(np.int64 if values.dtype.kind in "biu" else np.float32)
    return columns


def collect(staged: Sequence[Staged], bucket: int, layout: Layout, path: Path) -> dict[str, Any] | None:
    """Pass two for one bucket: its shard; None where it has no jet.

    Args:
        staged: the files, in the order of their checksums.
        bucket: which one.
        layout: as in pass one.
        path: the shard to write.

    Raises:
        StreamDamage: the streams of a file are not what pass one wrote; no shard is written.
        OSError: the disk refuses.
    """
    jets = sum(int(file.jets[:, bucket].sum()) for file in staged)
    if not jets:
        return None
    rows = sum(int(file.constituents[:, bucket].sum()) for file in staged)
    columns: dict[str, Array] = {}
    at = {False: 0, True: 0}  # rows filled of the columns with a row a jet, and of those with a row a constituent
    for file in staged:
        for piece in file.pieces(bucket):
            for name, values in piece.items():
                jagged = name in CONSTITUENTS
                for part, places, kind in _stored_as(name, values, layout):
                    taken = values if places is None else values[:, places]
                    if part not in columns:
                        columns[part] = np.empty((rows if jagged else jets, *taken.shape[1:]), dtype=kind)
                    columns[part][at[jagged] : at[jagged] + len(taken)] = taken
            at = {False: at[False] + len(piece["key"]), True: at[True] + len(piece["p4"])}
    return write_shard(path, _sorted(columns))


def _stored_as(name: str, stream: Array, layout: Layout) -> list[tuple[str, list[int] | None, Any]]:
    """The shard's columns that a stream becomes: name, places taken of it (None takes all), dtype."""
    if name != "features" or not layout.halved:
        return [(name, None, stream.dtype)]
    single = [place for place in range(stream.shape[1]) if place not in layout.halved]
    if not single:
        return [(name, None, np.float16)]
    return [(name, list(layout.halved), np.float16), (SINGLE, single, np.float32)]


def _sorted(columns: Mapping[str, Array]) -> dict[str, Array]:
    """The jets of a bucket in the order of their keys, with offsets."""
    order = np.argsort(columns["key"], kind="stable")
    counts = columns["count"].astype(np.int64)
    begins = np.cumsum(counts) - counts
    sizes = counts[order]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.repeat(begins[order] - offsets[:-1], sizes) + np.arange(offsets[-1])
    result: dict[str, Array] = {"offsets": offsets}
    for name, values in columns.items():
        if name not in ("key", "count"):
            result[name] = values[rows if name in CONSTITUENTS else order]
    return result
