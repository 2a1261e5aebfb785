"""What every weakly supervised training refuses before it starts: one line each."""

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError

__all__ = ["FloatArray", "check_features", "check_weights", "finite"]

FloatArray = npt.NDArray[np.float64]
LEAK = 0.98  # |Spearman correlation| with the mass from which a feature is the mass, in all but name


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


def check_features(features: npt.NDArray, names: tuple[str, ...], mass: npt.NDArray | None = None) -> None:
    """Refuse features that are not finite, and features that tell the mass.

    Args:
        features: (n, F).
        names: F names.
        mass: (n,) of the resonance, where the classifier must not know it.

    Raises:
        DataError: naming the first such column.
    """
    for place, name in enumerate(names):
        column = features[:, place]
        bad = int(np.count_nonzero(~np.isfinite(column)))
        if bad:
            what = f"{bad} of {len(column)} values of feature {name} are NaN or infinite"
            raise DataError(what, do="repair the file, or leave the feature out of --features")
        if mass is not None and abs(_rank_correlation(column, mass)) > LEAK:
            what = f"feature {name} tells the mass (rank correlation above {LEAK:g})"
            raise DataError(
                what, do="leave it out of --features: side-bands and signal region differ in mass by choice"
            )


def _rank_correlation(first: npt.NDArray, second: npt.NDArray) -> float:
    """Spearman's correlation of at most 20,000 pairs; 0 where one is constant."""
    from scipy.stats import spearmanr

    step = max(len(first) // 20_000, 1)
    first, second = first[::step], second[::step]
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


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
