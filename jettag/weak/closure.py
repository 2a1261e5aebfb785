"""Are two samples the same? A classifier's answer, and the Fréchet and kernel distances of arXiv:2211.10295."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.model_selection import StratifiedKFold

from jettag.errors import DataError

__all__ = ["TwoSampleTest", "classifier_test", "frechet_distance", "kernel_distance"]

FRECHET_POINTS = 10  # sample sizes between which the distance is extrapolated to infinitely many events
FRECHET_BATCHES = 20  # draws at each
SMALLEST_SHARE = 0.4  # of all events, the smallest of these sizes: 20,000 of 50,000 in the reference
KERNEL_BATCHES = 10
KERNEL_SIZE = 5000  # events of a batch
KERNEL_DEGREE = 4


@dataclass(frozen=True)
class TwoSampleTest:
    """A classifier's out-of-fold separation of two samples.

    Attributes:
        auc: mean over folds; 0.5 where the samples are the same.
        sigma: its standard deviation where they are the same.
        p_value: one-sided.
    """

    auc: float
    sigma: float
    p_value: float


def classifier_test(
    first: npt.NDArray, second: npt.NDArray, *, folds: int = 5, seed: int = 0, iterations: int = 100
) -> TwoSampleTest:
    """Train gradient-boosted trees to tell two samples apart; each event is scored by trees that did not see it.

    Args:
        first: (n, F).
        second: (m, F).
        folds: of the cross validation.
        seed: of folds and trees.
        iterations: trees.

    Raises:
        DataError: fewer events in a sample than folds.
    """
    if min(len(first), len(second)) < 2 * folds:
        what = f"samples of {len(first)} and {len(second)} events are too small for {folds} folds"
        raise DataError(what, do="give more events")
    values = np.concatenate([first, second])
    label = np.repeat([0, 1], [len(first), len(second)])
    aucs, variances = [], []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(values, label):
        trees = HistGradientBoostingClassifier(
            max_iter=iterations, max_leaf_nodes=15, class_weight="balanced", random_state=seed
        ).fit(values[train], label[train])
        aucs.append(roc_auc_score(label[test], trees.predict_proba(values[test])[:, 1]))
        n = np.bincount(label[test])
        variances.append(n.sum() + 1)  # of the Mann-Whitney statistic over pairs, without ties
        variances[-1] /= 12 * n[0] * n[1]
    auc, sigma = float(np.mean(aucs)), float(np.sqrt(np.sum(variances)) / folds)
    return TwoSampleTest(auc=auc, sigma=sigma, p_value=float(norm.sf((auc - 0.5) / sigma)))


def _standardised(reference: npt.NDArray, other: npt.NDArray) -> tuple[npt.NDArray, npt.NDArray]:
    mean, width = reference.mean(0), reference.std(0)
    width = np.where(width > 0, width, 1.0)
    return (reference - mean) / width, (other - mean) / width


def frechet_distance(reference: npt.NDArray, other: npt.NDArray, *, seed: int = 0) -> tuple[float, float]:
    """Fréchet physics distance and its standard error: that of two Gaussians, extrapolated to infinite samples.

    Features are standardised with the reference. The distance at N events is biased by about a constant over N: a line
    in 1/N through the means at ten sizes gives the value at 1/N = 0.

    Args:
        reference: (n, F).
        other: (m, F).
        seed: of the draws.

    Raises:
        DataError: fewer events than five for each feature.
    """
    smaller = min(len(reference), len(other))
    if smaller < 5 * reference.shape[1]:
        raise DataError(f"{smaller} events are too few for {reference.shape[1]} features", do="give more events")
    first, second = _standardised(reference, other)
    random = np.random.default_rng(seed)
    sizes = (1 / np.linspace(1 / (SMALLEST_SHARE * smaller), 1 / smaller, FRECHET_POINTS)).astype(int)
    means = [
        np.mean([_gaussian_distance(_draw(first, n, random), _draw(second, n, random)) for _ in range(FRECHET_BATCHES)])
        for n in sizes
    ]
    coefficients, covariance = np.polyfit(1 / sizes, means, 1, cov=True)
    return float(coefficients[1]), float(np.sqrt(covariance[1, 1]))


def _draw(values: npt.NDArray, n: int, random: np.random.Generator) -> npt.NDArray:
    return values[random.integers(0, len(values), n)]


def _gaussian_distance(first: npt.NDArray, second: npt.NDArray) -> float:
    """|mu1 - mu2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))."""
    c1, c2 = np.atleast_2d(np.cov(first.T)), np.atleast_2d(np.cov(second.T))
    shift = first.mean(0) - second.mean(0)
    # The trace of a matrix root is the sum of the roots of the eigenvalues, which for C1 C2 are real and not negative.
    roots = np.sqrt(np.maximum(np.linalg.eigvals(c1 @ c2).real, 0.0))
    return float(shift @ shift + np.trace(c1 + c2) - 2 * roots.sum())


def kernel_distance(
    reference: npt.NDArray, other: npt.NDArray, *, seed: int = 0, size: int = KERNEL_SIZE
) -> tuple[float, float]:
    """Kernel physics distance: median over batches, and half its 16-84 % width, of the squared mean discrepancy.

    The unbiased estimate with the kernel (x.y / F + 1)^4 on standardised features; it may be below zero.

    Args:
        reference: (n, F).
        other: (m, F).
        seed: of the draws.
        size: events of a batch.
    """
    first, second = _standardised(reference, other)
    random = np.random.default_rng(seed)
    size = min(size, len(first), len(second))
    values = [_mean_discrepancy(_draw(first, size, random), _draw(second, size, random)) for _ in range(KERNEL_BATCHES)]
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    return float(middle), float((high - low) / 2)


def _mean_discrepancy(first: npt.NDArray, second: npt.NDArray) -> float:
    n = len(first)
    within = 0.0
    for values in (first, second):
        kernel = polynomial_kernel(values, degree=KERNEL_DEGREE, coef0=1)
        within += (kernel.sum() - np.trace(kernel)) / (n * (n - 1))
    return float(within - 2 * polynomial_kernel(first, second, degree=KERNEL_DEGREE, coef0=1).mean())
