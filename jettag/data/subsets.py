"""So many labelled jets out of many, drawn at random: the same seed gives nested draws."""

import dataclasses

import numpy as np
import numpy.typing as npt

from jettag.data.jets import JetTable, Table, concatenate
from jettag.data.quotas import share
from jettag.errors import DataError

__all__ = ["classes_of", "draw", "draw_rows", "take"]

BLOCKS = 64  # read together: some 10 MB


def draw_rows(label: npt.NDArray[np.int64], total: int, seed: int) -> npt.NDArray[np.int64]:
    """(total,) rows in ascending order, the same number of each class as far as the jets suffice.

    Each class is shuffled once with the seed and gives its first ones, so the draw of fewer jets is a part of the draw
    of more.

    Raises:
        DataError: there are not so many jets.
    """
    if total > len(label):
        raise DataError(f"{total} jets asked for, {len(label)} there", do="give more files, or ask for fewer")
    members = {int(group): np.flatnonzero(label == group) for group in np.unique(label)}
    counts = share(total, [{group: len(rows) for group, rows in members.items()}])[0]
    drawn = [np.random.default_rng([seed, group]).permutation(rows)[: counts[group]] for group, rows in members.items()]
    return np.sort(np.concatenate(drawn))


def draw(table: Table, total: int, seed: int) -> JetTable:
    """The jets of `draw_rows`, in memory and in the table's order; without labels all jets are one class.

    Raises:
        DataError: there are not so many jets.
    """
    return take(table, draw_rows(classes_of(table), total, seed))


def classes_of(table: Table) -> npt.NDArray[np.int64]:
    """(J,) the class of each jet, zeros without labels."""
    return np.zeros(len(table), dtype=np.int64) if table.label is None else table.label


def take(table: Table, rows: npt.NDArray[np.int64]) -> JetTable:
    """The jets in these ascending ``rows``, in memory; of a table on disk only some blocks are there at a time."""
    if isinstance(table, JetTable):
        return table.select(rows)
    sizes = table.block_sizes
    starts = np.concatenate([[0], np.cumsum(sizes)])
    owner = np.searchsorted(starts, rows, side="right") - 1
    touched = np.unique(owner)
    pieces = []
    for begin in range(0, len(touched), BLOCKS):
        blocks = touched[begin : begin + BLOCKS]
        loaded, order = table.load(blocks)
        here = rows[np.searchsorted(rows, starts[blocks[0]]) : np.searchsorted(rows, starts[blocks[-1] + 1])]
        place = np.searchsorted(blocks, np.searchsorted(starts, here, side="right") - 1)
        first = np.concatenate([[0], np.cumsum(sizes[blocks])])[place]
        pieces.append(loaded.select(order[first + here - starts[blocks[place]]]))
    found = concatenate(pieces)
    return dataclasses.replace(found, features=found.features.astype(np.float32), notes=table.notes)
