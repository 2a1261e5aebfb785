"""Outliers of a background without a signal in mind: isolation forest, distance, autoencoders. One scorer for each."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

from jettag.weak.autoencoders import AutoencoderSettings, fit_autoencoder
from jettag.weak.checks import FloatArray

__all__ = ["OUTLIERS", "Scorer", "fit_outliers", "isolation_forest", "mahalanobis"]

TREES = 200

# (n, F) -> (n,), higher is less like the background
Scorer = Callable[[npt.NDArray], FloatArray]
OUTLIERS: dict[str, str] = {
    "isolation": "isolation forest",
    "distance": "Mahalanobis distance from the mean",
    "autoencoder": "error of an autoencoder (arXiv:1808.08979, 1808.08992)",
    "vae": "error of a variational autoencoder (arXiv:2007.01850)",
    "nae": "energy of a normalised autoencoder (arXiv:2206.14225)",
}


def fit_outliers(
    method: str, background: npt.NDArray, *, settings: AutoencoderSettings | None = None, seed: int = 0
) -> Scorer:
    """Fit one of `OUTLIERS` on background.

    Args:
        method: its name.
        background: (n, F), or data that is nearly all background.
        settings: of autoencoders.
        seed: of everything drawn.

    Raises:
        UsageError: no such method.
        DataError: too few events, or a value is not finite.
    """
    if method == "isolation":
        return isolation_forest(background, seed)
    if method == "distance":
        return mahalanobis(background)
    return fit_autoencoder(method, background, settings=settings, seed=seed).score


def isolation_forest(background: npt.NDArray, seed: int) -> Scorer:
    """Events that few random cuts set apart."""
    forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(background)

    def score(values: npt.NDArray) -> FloatArray:
        found: FloatArray = -forest.score_samples(values)
        return found

    return score


def mahalanobis(background: npt.NDArray) -> Scorer:
    """Squared distance from the mean in units of the covariance."""
    known = background.astype(np.float64)
    mean, inverse = known.mean(0), np.linalg.pinv(np.atleast_2d(np.cov(known.T)))

    def score(values: npt.NDArray) -> FloatArray:
        away = values - mean
        squared: FloatArray = np.einsum("ij,jk,ik->i", away, inverse, away)
        return squared

    return score
