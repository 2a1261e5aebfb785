"""Batches in an order that (seed, epoch) alone decides, so that a resumed run sees what an uninterrupted one would.

An epoch is the table's blocks in a random order, cut into windows of some batches. A window is loaded at once; its jets
are shuffled, sorted by length, cut into batches, and the batches are shuffled. So memory is that of a window, whatever
the size of the table, and a shard on disk is read in stretches. Several ranks plan a window alike, from the lengths and
labels of its jets; then each reads its own share of the blocks, and a few that it shares with its neighbours, and
builds its own jets of each batch.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from jettag.data.cuts import cut, cut_by_tokens
from jettag.data.jets import CPU, Batch, Jets, JetTable, Table
from jettag.data.sampling import Sampling
from jettag.data.shard_table import ShardTable
from jettag.errors import CheckpointError, DataError, UsageError

__all__ = ["WINDOW", "Loader", "Share", "longest_jets"]

WINDOW = 64  # batches whose jets are sorted by length together: wide enough to save padding, narrow enough to mix

Index = npt.NDArray[np.int64]


class Share(NamedTuple):
    """What a rank has of a batch.

    Attributes:
        total: jets of the batch of all ranks.
        places: (B,) of this rank's jets in it.
        width: constituents of its longest jet, to which every rank pads.
        pieces: in which it is cut; jets ``k``, ``k + pieces``, ... of each rank are the ``k``-th.
    """

    total: int
    places: Index
    width: int
    pieces: int = 1


class Loader:
    """Endless batches of a table; every epoch has every jet once.

    Args:
        table: the jets.
        batch_size: jets in a batch of all ranks together; the last batch of an epoch may have fewer.
        seed: with the epoch's number it decides the order.
        shuffle: False keeps the table's order, but for bucketing.
        bucket: sort jets by constituent count within windows of `WINDOW` batches and shuffle the batches, so that
            jets of similar length are padded together. Changes the order only.
        max_tokens: at most so many constituents in a batch of all ranks, padding counted; batches of long jets then
            have fewer jets than ``batch_size``. A single jet may exceed it, and one for each rank.
        rank: which part of each batch to give.
        world_size: processes that share the batches. Every rank takes the same number of steps, and all ranks
            together see, step by step, the jets that one process would.
        pieces: in which batches will be cut (`Share`), short ones in fewer. The jets of all ranks in a piece are those
            that one process would have in it, wherever a batch has a jet for each rank in every piece.
        sampling: take each jet as often as it says, drawn anew in every epoch; windows then differ in length.
        device: where batches will go, which decides their form (`JetTable.batch_for`).

    Raises:
        DataError: fewer jets than ranks.
        UsageError: ``batch_size`` below ``world_size``.
    """

    def __init__(
        self,
        table: Table,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        bucket: bool = True,
        max_tokens: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        pieces: int = 1,
        sampling: Sampling | None = None,
        device: torch.device = CPU,
    ) -> None:
        if len(table) < world_size:
            raise DataError(f"{len(table)} jets for {world_size} processes", do="give more jets")
        if batch_size < world_size:
            raise UsageError(f"a batch of {batch_size} jets for {world_size} processes", do="raise data.batch_size")
        self._table = table
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._bucket = bucket
        self._max_tokens = max_tokens
        self._rank, self._world_size, self._pieces = rank, world_size, pieces
        self._sampling = sampling
        self._device = device
        self._sizes = table.block_sizes
        self._of_table = table.identity
        self._epoch = 0
        self._window = -1
        self._cursor = 0
        self._batches: list[Index] = []
        self._shares: list[Share] = []
        self._loaded: JetTable | None = None
        self._begin_epoch(0)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._epoch

    @property
    def batch_size(self) -> int:
        """Jets in a batch of all ranks."""
        return self._batch_size

    @property
    def pieces(self) -> int:
        """In which a full batch is cut."""
        return self._pieces

    @property
    def batches_per_epoch(self) -> int:
        """Batches in the epoch that is being read; with ``max_tokens`` or ``sampling`` all are planned to tell."""
        if self._max_tokens is None and self._sampling is None:
            jets, width = len(self._table), WINDOW * self._batch_size
            last = jets - (self._windows - 1) * width
            return (self._windows - 1) * WINDOW + len(cut(last, self._batch_size, self._world_size))
        return sum(self._count(window) for window in range(self._windows))

    def estimate_batches(self) -> int:
        """Batches in an epoch as far as its first window, which is a random part of it, tells."""
        if self._window < 0:
            self._open(0)
        first = min(WINDOW * self._batch_size, len(self._table))
        return max(round(len(self._batches) * len(self._table) / first), 1)

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        random = np.random.default_rng([self._seed, epoch])
        blocks = len(self._sizes)
        self._order: Index = random.permutation(blocks) if self._shuffle else np.arange(blocks)
        self._starts: Index = np.concatenate([[0], np.cumsum(self._sizes[self._order])])
        jets, width = len(self._table), WINDOW * self._batch_size
        self._windows = max(-(-jets // width), 1)
        if self._windows > 1 and jets - (self._windows - 1) * width < self._world_size:
            self._windows -= 1  # too few jets for a window of their own: every rank must have one

    def _blocks(self, window: int) -> tuple[Index, slice]:
        """The blocks that a window touches, and which of their jets are in it."""
        width = WINDOW * self._batch_size
        begin = window * width
        stop = len(self._table) if window == self._windows - 1 else begin + width
        low = int(np.searchsorted(self._starts, begin, side="right")) - 1
        high = int(np.searchsorted(self._starts, stop, side="left"))
        return self._order[low:high], slice(begin - self._starts[low], stop - self._starts[low])

    def _plan(self, window: int, loaded: JetTable, rows: Index) -> list[Index]:
        """The rows of each batch of all ranks; ``rows`` are those of the window, in the order of its blocks."""
        random = np.random.default_rng([self._seed, self._epoch, window])
        if self._shuffle:
            rows = random.permutation(rows)
        if self._sampling is not None:
            label = None if loaded.label is None else loaded.label[rows]
            jet = {name: loaded.jet[name][rows] for name in self._sampling.columns}
            copies = self._sampling.copies(random, label, jet, len(rows))
            rows = np.repeat(rows, copies)
            if copies.max(initial=0) > 1 and self._shuffle:
                rows = random.permutation(rows)
            if len(rows) < self._world_size:
                return []
        counts = loaded.offsets[rows + 1] - loaded.offsets[rows]
        if self._bucket:
            order = np.argsort(counts, kind="stable")
            rows, counts = rows[order], counts[order]
        if self._max_tokens is None:
            edges = cut(len(rows), self._batch_size, self._world_size)
        else:
            edges = cut_by_tokens(counts, self._batch_size, self._max_tokens, self._world_size)
        batches = [rows[begin:stop] for begin, stop in edges]
        if self._bucket and self._shuffle:
            batches = [batches[place] for place in random.permutation(len(batches))]
        return batches

    def _count(self, window: int) -> int:
        """Batches of a window; of a table on disk no constituent is read to tell."""
        blocks, inside = self._blocks(window)
        if isinstance(self._table, ShardTable):
            loaded = self._table.look(blocks).outline
            return len(self._plan(window, loaded, np.arange(len(loaded))[inside]))
        loaded, rows = self._table.load(blocks)
        return len(self._plan(window, loaded, rows[inside]))

    def _open(self, window: int) -> None:
        self._loaded = None  # before the next is loaded, so that there is one in memory
        blocks, inside = self._blocks(window)
        if self._world_size > 1 and isinstance(self._table, ShardTable):
            look = self._table.look(blocks)
            batches = self._plan(window, look.outline, np.arange(len(look.outline))[inside])
            self._shares = [self._share(batch, look.outline) for batch in batches]
            own = [batch[share.places] for batch, share in zip(batches, self._shares, strict=True)]
            mine = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *own]))
            self._loaded = look.take(mine)
            self._batches = [np.searchsorted(mine, batch) for batch in own]
        else:
            self._loaded, rows = self._table.load(blocks)
            batches = self._plan(window, self._loaded, rows[inside])
            self._shares = [self._share(batch, self._loaded) for batch in batches]
            self._batches = [batch[share.places] for batch, share in zip(batches, self._shares, strict=True)]
        self._window = window  # last: a window that could not be loaded is asked for again

    def _share(self, batch: Index, loaded: JetTable) -> Share:
        """This rank's part of a batch; from disk, jets of nearby blocks, nearly the same blocks for every batch."""
        pieces = self._pieces
        if self._max_tokens is None:  # else fewer jets are longer
            pieces = -(-len(batch) * pieces // self._batch_size)  # none with more jets than those of a full batch
        pieces = max(min(pieces, self._pieces, len(batch) // self._world_size), 1)
        places = np.arange(len(batch))
        if isinstance(self._table, ShardTable) and (self._world_size > 1 or pieces > 1):
            turns = len(batch) // pieces  # in each of which every piece gets a jet
            edges = [pieces * (turns * rank // self._world_size) for rank in range(self._world_size)] + [len(batch)]
            places = np.argsort(batch, kind="stable")[edges[self._rank] : edges[self._rank + 1]]
        else:
            places = places[places // pieces % self._world_size == self._rank]
        width = int((loaded.offsets[batch + 1] - loaded.offsets[batch]).max(initial=1))
        return Share(len(batch), places, width, pieces)

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Batch:
        return self.draw()()

    def draw(self) -> Callable[[], Batch]:
        """Go on to the next batch; what is given builds it, on any thread and whenever that is wanted."""
        if self._window < 0:
            self._open(0)
        while self._cursor >= len(self._batches):  # more, where another number of ranks was before
            if self._window == self._windows - 1:
                self._begin_epoch(self._epoch + 1)
                self._window, self._cursor, self._batches = -1, 0, []
            self._open(self._window + 1)
            self._cursor = 0
        self._cursor += 1
        assert self._loaded is not None  # opened above
        return partial(self._build, self._loaded, self._batches[self._cursor - 1], self.share().width)

    def _build(self, loaded: JetTable, rows: Index, width: int) -> Batch:
        batch = loaded.batch_for(self._device, rows, width)
        if self._sampling is None or self._sampling.method != "weights":
            return batch
        label = None if loaded.label is None else loaded.label[rows]
        jet = {name: loaded.jet[name][rows] for name in self._sampling.columns}
        weight = self._sampling(label, jet, len(rows)).astype(np.float32)
        return replace(batch, weight=torch.from_numpy(weight))

    def share(self) -> Share:
        """What this rank has of the latest batch."""
        return self._shares[max(self._cursor, 1) - 1]

    def origin(self) -> dict[str, Index]:
        """Of each jet of the latest batch: ``file`` and ``entry`` where the table has them, and its row.

        The row is that in the table, or of a table on disk among the jets of the window that this rank has loaded.
        """
        rows = self._batches[max(self._cursor, 1) - 1]
        assert self._loaded is not None  # there was a batch
        known = {name: self._loaded.jet[name][rows] for name in ("file", "entry") if name in self._loaded.jet}
        return {"row": rows, **known}

    def state_dict(self) -> dict[str, int | str]:
        """Where the loader is, and what must be equal for that to mean the same; the same on every rank."""
        return {"epoch": self._epoch, "window": max(self._window, 0), "cursor": self._cursor, **self._identity()}

    def _identity(self) -> dict[str, int | str]:
        return {
            **self._of_table,
            "batch_size": self._batch_size,
            "seed": self._seed,
            "shuffle": int(self._shuffle),
            "bucket": int(self._bucket),
            "max_tokens": self._max_tokens or 0,
            "sampling": "" if self._sampling is None else self._sampling.digest,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another loader of the same table and settings was, on any number of ranks.

        Raises:
            CheckpointError: the table or the settings are others, so the order would be another one.
        """
        changed = [f"{k} {state.get(k)} then, {v} now" for k, v in self._identity().items() if state.get(k) != v]
        if changed:
            raise CheckpointError(f"cannot resume on other data or settings ({'; '.join(changed)})")
        self._begin_epoch(int(state["epoch"]))
        self._open(int(state["window"]))
        self._cursor = int(state["cursor"])


def longest_jets(table: Table, jets: int) -> Jets:
    """The longest jets of a table in memory; of one on disk, the longest of its first `WINDOW` batches of so many."""
    blocks = np.arange(len(table.block_sizes))
    if not isinstance(table, JetTable):
        blocks = blocks[: int(np.searchsorted(np.cumsum(table.block_sizes), WINDOW * jets)) + 1]
    loaded, rows = table.load(blocks)
    return loaded.batch(rows[np.argsort(-loaded.counts[rows], kind="stable")[:jets]])
