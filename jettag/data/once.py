"""Every jet once: batches whose jets and numbers are the same however many processes share them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from jettag.data.jets import CPU, Batch, Jets, JetTable, Table
from jettag.data.loader import WINDOW
from jettag.data.shard_table import ShardTable

__all__ = ["Dealt", "dealt", "once"]

Index = npt.NDArray[np.int64]


class Dealt(NamedTuple):
    """A batch of one process.

    Attributes:
        number: of the batch among those of all processes.
        rows: (B,) of its jets in the table.
        jets: the batch.
        counts: False where it only keeps this process in step with those that have one more.
    """

    number: int
    rows: Index
    jets: Batch
    counts: bool


def once(table: Table, batch_size: int, device: torch.device = CPU) -> Iterator[tuple[Index, Jets]]:
    """Every jet once, with the row index of each batch; of a table in memory longest first, so that memory peaks early.

    Args:
        table: the jets.
        batch_size: jets in a batch.
        device: where the batches shall be.
    """
    for batch in dealt(table, batch_size, device=device):
        yield batch.rows, batch.jets.to(device)


def dealt(
    table: Table, batch_size: int, *, rank: int = 0, world_size: int = 1, device: torch.device = CPU
) -> Iterator[Dealt]:
    """One process's share of the batches of `once`; no other is built, and little else is read from disk.

    Whole windows go round the processes as far as they go evenly; the batches of the last ones go round one by one,
    and of these each process reads its own jets. Every process is given equally many.

    Args:
        table: the jets.
        batch_size: jets in a batch.
        rank: whose share.
        world_size: processes that share the batches.
        device: where batches will go, which decides their form (`JetTable.batch_for`).
    """
    starts = np.concatenate([[0], np.cumsum(table.block_sizes)])
    # A table in memory is one window: sorting all of it saves the most padding.
    width = max(len(table), 1) if isinstance(table, JetTable) else WINDOW * batch_size
    edges = [0]
    while edges[-1] < len(starts) - 1:
        low = edges[-1]
        edges.append(max(int(np.searchsorted(starts, starts[low] + width, side="right")) - 1, low + 1))
    batches = -(-np.diff(starts[edges]) // batch_size)
    first = np.concatenate([[0], np.cumsum(batches)])
    window = np.repeat(np.arange(len(batches)), batches)
    if not len(window):
        return
    whole = (len(batches) - 1) // world_size * world_size  # the last one may be short
    owner = np.where(window < whole, window, np.arange(len(window))) % world_size
    own = np.flatnonzero(owner == rank)
    counts = len(own) > 0
    own = own if counts else np.zeros(1, dtype=np.int64)
    given = 0
    for place in np.unique(window[own]):
        numbers = own[window[own] == place]
        blocks = np.arange(edges[place], edges[place + 1])
        entire = len(numbers) == batches[place]
        built = _build(table, blocks, batch_size, numbers - first[place], all_of_them=entire, device=device)
        for number, (rows, jets) in zip(numbers.tolist(), built, strict=True):
            yield Dealt(number, starts[blocks[0]] + rows, jets, counts)
            given += 1
    for _ in range(given, int(np.bincount(owner, minlength=world_size).max())):
        yield Dealt(number, starts[blocks[0]] + rows, jets, counts=False)


def _build(
    table: Table, blocks: Index, batch_size: int, places: Index, *, all_of_them: bool, device: torch.device
) -> Iterator[tuple[Index, Batch]]:
    """These batches of a window, longest jets first, with the place of each jet in it."""
    look = table.look(blocks) if isinstance(table, ShardTable) and not all_of_them else None
    loaded, rows = table.load(blocks) if look is None else (look.outline, np.arange(len(look.outline)))
    order = np.argsort(-(loaded.offsets[rows + 1] - loaded.offsets[rows]), kind="stable")
    chosen = [order[place * batch_size : (place + 1) * batch_size] for place in places.tolist()]
    if look is not None:
        mine = np.sort(np.concatenate(chosen))
        loaded = look.take(mine)
        rows = np.full(len(order), -1)
        rows[mine] = np.arange(len(mine))
    for index in chosen:
        yield index, loaded.batch_for(device, rows[index])
