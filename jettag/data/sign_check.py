"""Whether impact parameters have the sign and the unit that the card says, judged from the tracks themselves."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from jettag.data.columns import Piece

__all__ = ["DISPLACED", "HEAVY", "PT_RANGE", "SignCheck", "median_or_none", "sign_verdict", "unit_verdict"]

# Classes of jets with b and c hadrons, which fly; in others only strange particles do.
HEAVY = ("b", "c", "bb", "cc", "bc", "Hbb", "Hcc", "Tbqq", "Tbl")
DISPLACED = 3.0  # |d0| in units of its error: beyond what resolution makes
SIGNIFICANT = 5.0  # standard deviations of the asymmetry before a sign is called
FEWEST = 30  # displaced tracks; below, five standard deviations mean that nearly all lie on one side
# d0 errors of tracks of 1 to 10 GeV lie between 0.016 and 0.16 mm in the trackers of ATLAS and CMS, 0.03 to 0.1 mm on
# average: a median outside these limits [mm] is another unit.
SMALLEST_ERROR, LARGEST_ERROR = 0.012, 0.4
PT_RANGE = (1.0, 10.0)  # of these tracks [GeV]
SAMPLE = 100_000  # tracks are enough for a median


def sign_verdict(ahead: int, behind: int) -> str:
    """``agrees``, ``opposite``, or ``undecided`` where displaced tracks are too few, or as many on either side."""
    excess, tracks = ahead - behind, ahead + behind
    if tracks < FEWEST or abs(excess) < SIGNIFICANT * np.sqrt(tracks):
        return "undecided"
    return "agrees" if excess > 0 else "opposite"


def median_or_none(errors: npt.NDArray[np.floating]) -> float | None:
    """Median of the errors of d0 of tracks in `PT_RANGE`; None where they are fewer than `FEWEST`."""
    return float(np.median(errors)) if len(errors) >= FEWEST else None


def unit_verdict(error: float | None) -> str:
    """What a median error of d0 [mm] says against the unit of length on the card; empty where nothing."""
    if error is None or SMALLEST_ERROR <= error <= LARGEST_ERROR:
        return ""
    if error < SMALLEST_ERROR:
        guess = "the file looks like cm where the card says mm: set `units: {length: cm}`"
    else:
        guess = "the file looks like mm where the card says cm, or um where it says mm: correct `units: {length: ...}`"
    return f"the median error of d0 is {error:.3g} mm, and trackers have 0.03 to 0.1 mm; {guess} on the card"


@dataclass
class SignCheck:
    """Do displaced tracks cross the jet axis in front of the collision, as decays in flight make them?

    With the ATLAS and CMS sign the point of closest approach is d0 (-sin phi, cos phi), so its component along the
    jet is d0 sin(jet phi - phi), which is positive more often than negative in any sample with b, c or K0 decays.

    Attributes:
        ahead, behind: displaced tracks on either side, of jets of heavy flavour where labels tell and there are enough
            of them, else of all jets.
    """

    _counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), dtype=np.int64))
    _errors: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def add(self, piece: Piece, heavy: npt.NDArray[np.bool_] | None = None) -> None:
        """Count the displaced tracks of a piece with d0, d0_error and dphi.

        Args:
            piece: of one chunk.
            heavy: (J,) which jets are of heavy flavour; None where there are no labels.
        """
        columns = piece.columns
        if not {"d0", "d0_error", "dphi"} <= columns.keys():
            return
        known = columns["d0_error"] > 0
        displaced = known & (np.abs(columns["d0"]) > DISPLACED * columns["d0_error"])
        along = -columns["d0"] * np.sin(columns["dphi"])
        sides = np.stack([displaced & (along > 0), displaced & (along < 0)])
        self._counts[0] += sides.sum(axis=1)
        if heavy is not None:
            self._counts[1] += (sides & np.repeat(heavy, piece.counts)).sum(axis=1)
        measured = known & (columns["pt"] > PT_RANGE[0]) & (columns["pt"] < PT_RANGE[1])
        if sum(len(part) for part in self._errors) < SAMPLE:
            self._errors.append(columns["d0_error"][measured].astype(np.float64))

    @property
    def _chosen(self) -> npt.NDArray[np.int64]:
        chosen: npt.NDArray[np.int64] = self._counts[int(self._counts[1].sum() >= FEWEST)]
        return chosen

    @property
    def ahead(self) -> int:
        """Displaced tracks ahead of the jet."""
        return int(self._chosen[0])

    @property
    def behind(self) -> int:
        """Displaced tracks behind it."""
        return int(self._chosen[1])

    @property
    def verdict(self) -> str:
        """That of `sign_verdict`."""
        return sign_verdict(self.ahead, self.behind)

    @property
    def median_error(self) -> float | None:
        """Median error of d0 of tracks of 1 to 10 GeV [mm]; None where they are fewer than `FEWEST`."""
        return median_or_none(np.concatenate(self._errors) if self._errors else np.zeros(0))

    @property
    def unit_problem(self) -> str:
        """That of `unit_verdict`."""
        return unit_verdict(self.median_error)
