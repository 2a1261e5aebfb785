"""Signal regions in the resonance mass and the side-bands around them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError, UsageError

__all__ = ["Window", "check_regions", "sliding_windows"]

REGION_BINS, SIDE_BINS = 3, 2  # bins of the signal region and of each side-band, arXiv:1902.02634
FEWEST = 50  # events in a region


@dataclass(frozen=True)
class Window:
    """A signal region [low, high) with side-bands [side_low, low) and [high, side_high); any unit.

    Raises:
        UsageError: a side-band is empty or overlaps the signal region.
    """

    low: float
    high: float
    side_low: float
    side_high: float

    def __post_init__(self) -> None:
        """Refuse regions out of order."""
        if not self.low < self.high:
            raise UsageError(f"an empty signal region {self.low:g}:{self.high:g}", do="give LOW:HIGH")
        if not self.side_low < self.low or not self.high < self.side_high:
            what = f"side-bands {self.side_low:g}:{self.side_high:g} overlap the signal region or are empty"
            raise UsageError(what, where=f"{self.low:g}:{self.high:g}", do="let them begin below and end above it")

    def inside(self, mass: npt.NDArray) -> npt.NDArray[np.bool_]:
        """(n,) events of the signal region."""
        return np.asarray((mass >= self.low) & (mass < self.high))

    def below(self, mass: npt.NDArray) -> npt.NDArray[np.bool_]:
        """(n,) events of the lower side-band."""
        return np.asarray((mass >= self.side_low) & (mass < self.low))

    def above(self, mass: npt.NDArray) -> npt.NDArray[np.bool_]:
        """(n,) events of the upper side-band."""
        return np.asarray((mass >= self.high) & (mass < self.side_high))

    def beside(self, mass: npt.NDArray) -> npt.NDArray[np.bool_]:
        """(n,) events of both side-bands."""
        return self.below(mass) | self.above(mass)

    def weights(self, mass: npt.NDArray) -> npt.NDArray[np.float64]:
        """(n,) half for the signal region, a quarter for each side-band, zero elsewhere; the mean of used ones is 1."""
        result = np.zeros(len(mass))
        for chosen, share in ((self.inside(mass), 0.5), (self.below(mass), 0.25), (self.above(mass), 0.25)):
            result[chosen] = share / max(int(np.count_nonzero(chosen)), 1)
        used = result > 0
        result[used] /= result[used].mean()
        return result


def check_regions(window: Window, mass: npt.NDArray, *, where: str = "") -> None:
    """Refuse regions with too few events to train on.

    Args:
        window: signal region and side-bands.
        mass: (n,).
        where: option and file, for the message.

    Raises:
        DataError: naming the region.
    """
    for name, chosen in (
        (f"the signal region {window.low:g}:{window.high:g}", window.inside(mass)),
        (f"the side-band {window.side_low:g}:{window.low:g}", window.below(mass)),
        (f"the side-band {window.high:g}:{window.side_high:g}", window.above(mass)),
    ):
        count = int(np.count_nonzero(chosen))
        if count < FEWEST:
            what = f"{count or 'no'} events in {name}, at least {FEWEST} are needed"
            raise DataError(what, where=where, do="give more events or other regions")


def sliding_windows(edges: Sequence[float]) -> list[tuple[Window, int]]:
    """Windows of three bins with two bins beside them on each side, and the number of the bin in their middle.

    Args:
        edges: of the mass bins, ascending; n + 1.

    Raises:
        UsageError: fewer bins than a window has.
    """
    bins = len(edges) - 1
    reach = REGION_BINS // 2 + SIDE_BINS
    if bins < 2 * reach + 1:
        raise UsageError(f"{bins} mass bins, a window has {2 * reach + 1}", do="give more --bins")
    return [
        (Window(edges[b - 1], edges[b + 2], edges[b - reach], edges[b + reach + 1]), b)
        for b in range(reach, bins - reach)
    ]
