"""Fewer jets than there are: the same number from every class, and within a class from every file."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from jettag.data.labels import OTHER

__all__ = ["Quota", "share"]


def _fill(total: int, available: Sequence[int]) -> list[int]:
    """``total`` cut into equal parts, none above what is available; what is left over goes to the first."""
    parts = [0] * len(available)
    left = min(total, sum(available))
    while left:
        open_places = [place for place, size in enumerate(available) if parts[place] < size]
        step = max(left // len(open_places), 1)
        for place in open_places:
            given = min(step, available[place] - parts[place], left)
            parts[place] += given
            left -= given
    return parts


def share(total: int, available: Sequence[Mapping[Hashable, int]]) -> list[dict[Hashable, int]]:
    """How many jets of each group to take from each file.

    Args:
        total: jets wanted.
        available: for each file, group to the number of jets there.

    Returns:
        For each file the same groups, with numbers that are equal between groups and, within a group, between files,
        as far as the jets suffice.
    """
    groups = list(dict.fromkeys(group for file in available for group in file))
    per_group = _fill(total, [sum(file.get(group, 0) for file in available) for group in groups])
    result: list[dict[Hashable, int]] = [{} for _ in available]
    for group, count in zip(groups, per_group, strict=True):
        for place, taken in enumerate(_fill(count, [file.get(group, 0) for file in available])):
            if group in available[place]:
                result[place][group] = taken
    return result


class Quota:
    """The jets still to take from one file, by label."""

    def __init__(self, wanted: Mapping[int, int]) -> None:
        self._left = dict(wanted)

    @property
    def full(self) -> bool:
        """Nothing is left to take."""
        return not any(self._left.values())

    def take(self, label: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """(n,) bool, the first jets of each label that are still wanted."""
        taken = np.zeros(len(label), dtype=bool)
        for value, left in self._left.items():
            if value != OTHER and left:
                chosen = np.flatnonzero(label == value)[:left]
                taken[chosen] = True
                self._left[value] = left - len(chosen)
        return taken
