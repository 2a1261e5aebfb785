"""Cut a table in two, the same way every time."""

import numpy as np
import numpy.typing as npt

from jettag.data.jets import JetTable, Table
from jettag.data.shard_table import ShardTable
from jettag.errors import DataError

__all__ = ["hold_out"]


def hold_out(table: Table, fraction: float, seed: int) -> tuple[Table, Table]:
    """(train, held out), both in the table's order.

    Prepared directories bring their own ``val``, whatever the ``fraction``.

    Each class gives its ``fraction`` (rounded, at least one jet where the class has two). Where the table has the jet
    column ``event_number``, whole events are drawn instead, so that no event stands on both sides.

    Raises:
        DataError: a side would be empty.
    """
    if isinstance(table, ShardTable):
        return table, table.sibling("val")
    assert isinstance(table, JetTable)  # the only other one
    random = np.random.default_rng(seed)
    if "event_number" in table.jet:
        events, event_of_jet = np.unique(table.jet["event_number"], return_inverse=True)
        held = _draw(random, np.zeros(len(events), dtype=np.int64), fraction)[event_of_jet]
    else:
        groups = np.zeros(len(table), dtype=np.int64) if table.label is None else table.label
        held = _draw(random, groups, fraction)
    if held.all() or not held.any():
        what = f"{fraction:g} of {len(table)} jets leaves one side empty"
        raise DataError(what, do="give more jets or another fraction")
    return table.select(~held), table.select(held)


def _draw(random: np.random.Generator, groups: npt.NDArray[np.int64], fraction: float) -> npt.NDArray[np.bool_]:
    """(n,) bool, the ``fraction`` of each group."""
    held = np.zeros(len(groups), dtype=bool)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        count = round(fraction * len(members))
        if len(members) > 1 and fraction > 0:
            count = min(max(count, 1), len(members) - 1)
        held[random.permutation(members)[:count]] = True
    return held
