"""Batches in an order that (seed, epoch) alone decides, so that a resumed run sees what an uninterrupted one would."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.data.jets import Jets, JetTable
from jettag.errors import CheckpointError

__all__ = ["Loader", "once"]

WINDOW = 64  # batches whose jets are sorted by length together: wide enough to save padding, narrow enough to mix

Index = npt.NDArray[np.int64]


class Loader:
    """Endless batches of a table; every epoch has every jet once.

    Args:
        table: the jets.
        batch_size: jets in a batch; the last batch of an epoch may have fewer.
        seed: with the epoch's number it decides the order.
        shuffle: False keeps the table's order, but for bucketing.
        bucket: sort jets by constituent count within windows of `WINDOW` batches and shuffle the batches, so that
            jets of similar length are padded together. Changes the order only.
    """

    def __init__(
        self, table: JetTable, *, batch_size: int, seed: int, shuffle: bool = True, bucket: bool = True
    ) -> None:
        self._table = table
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._bucket = bucket
        self._epoch = 0
        self._cursor = 0
        self._batches = self._order(0)

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._epoch

    @property
    def batch_size(self) -> int:
        """Jets in a batch."""
        return self._batch_size

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one epoch."""
        return len(self._batches)

    def _order(self, epoch: int) -> list[Index]:
        """Row indices of each batch of an epoch."""
        random = np.random.default_rng([self._seed, epoch])
        jets = len(self._table)
        order = random.permutation(jets) if self._shuffle else np.arange(jets)
        if self._bucket:
            counts = self._table.counts
            width = WINDOW * self._batch_size
            windows = [order[begin : begin + width] for begin in range(0, jets, width)]
            order = np.concatenate([window[np.argsort(counts[window], kind="stable")] for window in windows])
        batches = [order[begin : begin + self._batch_size] for begin in range(0, jets, self._batch_size)]
        if self._bucket and self._shuffle:
            batches = [batches[place] for place in random.permutation(len(batches))]
        return batches

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Jets:
        if self._cursor == len(self._batches):
            self._epoch += 1
            self._cursor = 0
            self._batches = self._order(self._epoch)
        self._cursor += 1
        return self._table.batch(self._batches[self._cursor - 1])

    def origin(self) -> dict[str, Index]:
        """Of each jet of the latest batch: its row in the table, ``file`` and ``entry`` where the table has them."""
        rows = self._batches[max(self._cursor, 1) - 1]
        known = {name: self._table.jet[name][rows] for name in ("file", "entry") if name in self._table.jet}
        return {"row": rows, **known}

    def state_dict(self) -> dict[str, int]:
        """Where the loader is, and what must be equal for that to mean the same."""
        return {"epoch": self._epoch, "cursor": self._cursor, **self._identity()}

    def _identity(self) -> dict[str, int]:
        return {
            "jets": len(self._table),
            "constituents": int(self._table.offsets[-1]),
            "batch_size": self._batch_size,
            "seed": self._seed,
            "shuffle": int(self._shuffle),
            "bucket": int(self._bucket),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another loader of the same table and settings was.

        Raises:
            CheckpointError: the table or the settings are others, so the order would be another one.
        """
        changed = [f"{k} {state.get(k)} then, {v} now" for k, v in self._identity().items() if state.get(k) != v]
        if changed:
            raise CheckpointError(f"cannot resume on other data or settings ({'; '.join(changed)})")
        self._epoch, self._cursor = int(state["epoch"]), int(state["cursor"])
        self._batches = self._order(self._epoch)


def once(table: JetTable, batch_size: int) -> Iterator[tuple[Index, Jets]]:
    """Every jet once, longest first (so that memory peaks at the first batch), with the row index of each batch."""
    order = np.argsort(-table.counts, kind="stable")
    for begin in range(0, len(order), batch_size):
        index = order[begin : begin + batch_size]
        yield index, table.batch(index)
