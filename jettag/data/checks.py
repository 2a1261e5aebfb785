"""Is this physics? Checks on the numbers of one chunk, each ending in one line that says what to change."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError

__all__ = ["check_energy", "check_finite", "check_phi", "check_scale"]

Array = npt.NDArray[Any]

ENERGY_TOLERANCE = 5e-4  # energy may lie below |p| by this fraction: float32 and reduced-precision files round
UNPHYSICAL_FRACTION = 1e-3  # of the constituents; more is an error, fewer are counted
LARGEST_CONSTITUENT_PT = 1e3  # GeV, of the median constituent
LARGEST_JET_PT = 1e4  # GeV, of the median jet
SMALLEST_JET_PT = 0.05  # GeV, of the median jet
SAMPLE = 20_000  # constituents are enough for a median
LARGEST_PHI = 2 * np.pi + 1e-3


def check_finite(
    values: Array, branch: str, where: str, entries: npt.NDArray[np.int64], counts: npt.NDArray[np.int64] | None = None
) -> None:
    """No NaN and no infinity.

    Raises:
        DataError: with the number of them and the first entry that has one.
    """
    if values.dtype.kind != "f":
        return
    # A finite sum proves it in one fast pass; only an infinite one (also by overflow) needs the second.
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):
            return
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    first = int(np.argmax(bad))
    jet = first if counts is None else int(np.searchsorted(np.cumsum(counts), first, side="right"))
    what = f"{np.count_nonzero(bad)} of {len(values)} values of {branch} are NaN or infinite"
    raise DataError(what, where=f"{where}, first in entry {entries[jet]}", do="repair or leave out these jets")


def check_phi(phi: Array, branch: str, where: str) -> None:
    """Angles in rad, in [-pi, pi] or [0, 2 pi].

    Raises:
        DataError: an angle lies outside.
    """
    largest = float(np.abs(phi).max(initial=0.0))
    if largest > LARGEST_PHI:
        unit = "looks like degrees" if largest <= 360 else "is no angle"
        do = "set `unit: deg` for it on the card"
        raise DataError(f"{branch} reaches {largest:.4g} rad and {unit}", where=where, do=do)


def check_energy(momentum: Mapping[str, Array], where: str) -> npt.NDArray[np.bool_] | None:
    """Energy at least |p|, within rounding; the constituents that have a momentum at all.

    Returns:
        (M,) bool where pT and energy are positive, or None where all are.

    Raises:
        DataError: more than 0.1 % of them have less energy than momentum.
    """
    pt, pz, energy = momentum["pt"], momentum["pz"], momentum["energy"]
    size = np.sqrt(pt**2 + pz**2)
    bad = int(np.count_nonzero(energy < size * (1 - ENERGY_TOLERANCE)))
    if bad and bad > UNPHYSICAL_FRACTION * (total := int(np.count_nonzero(size))):
        what = f"{bad} of {total} constituents ({bad / total:.2%}) have less energy than momentum"
        raise DataError(what, where=where, do="check which branches the card names, and their units")
    if len(pt) and pt.min() > 0 and energy.min() > 0:
        return None
    real: npt.NDArray[np.bool_] = (pt > 0) & (energy > 0)
    return None if real.all() else real


def check_scale(pt: Array, jet_pt: Array, jet_energy: Array, where: str) -> None:
    """Momenta of a size that GeV would give; jets with constituents have a momentum themselves.

    Raises:
        DataError: the medians look like MeV (or like TeV), or a jet's pT or energy is not positive.
    """
    if not len(pt) or not len(jet_pt):
        return
    bad = int(np.count_nonzero((jet_pt <= 0) | (jet_energy <= 0)))
    if bad:
        what = f"{bad} of {len(jet_pt)} jets with constituents have no positive pT and energy"
        raise DataError(what, where=where, do="check the jet branches on the card")
    constituent, jet = float(np.median(pt[:: max(1, len(pt) // SAMPLE)])), float(np.median(jet_pt))
    if constituent > LARGEST_CONSTITUENT_PT or jet > LARGEST_JET_PT:
        what = f"looks like MeV where the card says GeV: median pT {constituent:.4g} of constituents, {jet:.4g} of jets"
        raise DataError(what, where=where, do="set `units: {momentum: MeV}` on the card")
    if jet < SMALLEST_JET_PT:
        what = f"looks like GeV or TeV where the card says MeV or GeV: median jet pT {jet:.4g} GeV"
        raise DataError(what, where=where, do="set `units: {momentum: GeV}` on the card")
