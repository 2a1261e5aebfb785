"""So many labelled jets out of many, drawn at random: the same seed gives nested draws."""

import dataclasses

import numpy as np
import numpy.typing as npt

from jettag.data.jets import JetTable, Table
from jettag.data.quotas import share
from jettag.errors import DataError

__all__ = ["draw", "draw_rows"]


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
    label = np.zeros(len(table), dtype=np.int64) if table.label is None else table.label
    rows = draw_rows(label, total, seed)
    if isinstance(table, JetTable):
        return table.select(rows)
    whole, order = table.load(np.arange(len(table.block_sizes)))
    chosen = whole.select(order[rows])
    return dataclasses.replace(chosen, features=chosen.features.astype(np.float32), notes=table.notes)
