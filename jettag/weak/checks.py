"""What every weakly supervised training refuses before it starts: one line each."""

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError

__all__ = ["FloatArray", "check_features", "check_weights", "finite"]

FloatArray = npt.NDArray[np.float64]
LEAK = 0.98  # |rank correlation| or correlation ratio with the mass from which a feature is it, in all but name
LEAK_BINS, LEAK_EVENTS = 100, 20  # mass bins of the correlation ratio at most, and events in each at least


def finite(values: npt.ArrayLike, what: str) -> FloatArray:
    """(n,) float64, at least one and all of them finite.

    Raises:
        DataError: there is none, or one is NaN or infinite.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == 0:
        raise DataError(f"expected {what}, found none", do="give more jets or events")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        text = f"expected finite {what}, found {len(bad)} of {numbers.size} NaN or infinite"
        raise DataError(text, where=f"entry {bad[0]} (the first)", do="check the inputs")
    return numbers


def check_features(
    features: npt.NDArray, names: tuple[str, ...], mass: npt.NDArray | None = None, *, where: str = ""
) -> None:
    """Refuse features that are not finite, and features that tell the mass.

    Args:
        features: (n, F).
        names: F names.
        mass: (n,) of the resonance, where the classifier must not know it.
        where: option and file, for the message.

    Raises:
        DataError: naming the first such column.
    """
    for place, name in enumerate(names):
        column = features[:, place]
        bad = int(np.count_nonzero(~np.isfinite(column)))
        if bad:
            what = f"{bad} of {len(column)} values of feature {name} are NaN or infinite"
            raise DataError(what, where=where, do="repair the file, or leave the feature out of --features")
        if mass is not None and _tie_to_mass(column, mass) > LEAK:
            what = f"feature {name} tells the mass (rank correlation or correlation ratio above {LEAK:g})"
            do = "leave it out of --features: side-bands and signal region differ in mass by choice"
            raise DataError(what, where=where, do=do)


def _tie_to_mass(column: npt.NDArray, mass: npt.NDArray) -> float:
    """From 0 to 1, over at most 20,000 events: how nearly a feature is a function of the mass; 0 where one is constant.

    The larger of |Spearman's correlation| and the correlation ratio of the feature's ranks in mass bins of equal
    population, which finds functions that fall and rise again, as the distance from the region's centre.
    """
    from scipy.stats import rankdata, spearmanr

    step = max(len(column) // 20_000, 1)
    column, mass = column[::step], mass[::step]
    if np.ptp(column) == 0 or np.ptp(mass) == 0:
        return 0.0
    monotone = abs(float(spearmanr(column, mass).statistic))
    bins = min(LEAK_BINS, len(mass) // LEAK_EVENTS)
    if bins < 2:
        return monotone
    ranks = rankdata(column)
    place = (rankdata(mass, method="ordinal") - 1).astype(np.int64) * bins // len(mass)
    count = np.bincount(place)
    means = np.bincount(place, ranks) / count
    between = float(np.sum(count * (means - ranks.mean()) ** 2) / np.sum((ranks - ranks.mean()) ** 2))
    return max(monotone, float(np.sqrt(between)))


def check_weights(weights: npt.ArrayLike) -> FloatArray:
    """(n,) float64 weights: finite, not negative, not all zero.

    Raises:
        DataError: they are not.
    """
    numbers = finite(weights, "weights")
    negative = int(np.count_nonzero(numbers < 0))
    if negative:
        raise DataError(
            f"{negative} of {len(numbers)} weights are negative", do="a classifier needs weights of at least zero"
        )
    if not numbers.sum() > 0:
        raise DataError("all weights are zero", do="give events with weight")
    return numbers
