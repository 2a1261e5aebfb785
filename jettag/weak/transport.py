"""Optimal transport of scores and of embeddings from one sample to another (arXiv:2107.08648, 2507.08867).

In one dimension the map is the rise of one cumulative to the quantile of the other. In more it is the barycentre of the
discrete plan between two draws, which POT finds; other events move like the nearest of the draw.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from jettag.errors import DataError, ResourceError
from jettag.weak.checks import FloatArray, check_features, finite

__all__ = ["Transport", "transport_embeddings", "transport_scores", "transported_cumulative"]

MOST_POINTS = 1500  # of each side of a discrete plan
FEWEST = 50
NEIGHBOURS = 10  # of the draw, whose mean displacement an event takes
KNOTS = 1001
STIFFNESS = 30.0  # price of moving in the mass against moving in the score, both as ranks
ROUNDS = 4  # draws whose displacements are averaged

# (n,) scores or (n, D) embeddings -> where they are moved
Transport = Callable[[npt.NDArray], FloatArray]


def transport_scores(source: npt.ArrayLike, target: npt.ArrayLike) -> Transport:
    """The monotone map that takes one distribution of scores to another; the order of events stays.

    Args:
        source: (n,).
        target: (m,).

    Raises:
        DataError: too few events, or a score is not finite.
    """
    first, second = finite(source, "scores of the source"), finite(target, "scores of the target")
    _enough(len(first), len(second))
    share = np.linspace(0, 1, KNOTS)
    before, after = np.quantile(first, share), np.quantile(second, share)
    # A quantile that several shares have moves to the middle of theirs.
    places, start = np.unique(before, return_inverse=True)
    moved = np.bincount(start, after) / np.bincount(start)

    def apply(values: npt.NDArray) -> FloatArray:
        shifted: FloatArray = np.interp(values, places, moved)
        # Beyond the outermost events the map goes on in parallel.
        shifted += np.minimum(values - places[0], 0) + np.maximum(values - places[-1], 0)
        return shifted

    return apply


def transport_embeddings(source: npt.NDArray, target: npt.NDArray, *, seed: int = 0) -> Transport:
    """The map of least total squared displacement between two samples of embeddings.

    Args:
        source: (n, D).
        target: (m, D).
        seed: of the draws.

    Raises:
        DataError: too few events, or a value is not finite.
        ResourceError: POT is not installed.
    """
    _enough(len(source), len(target))
    for values in (source, target):
        check_features(values, tuple(f"{place}" for place in range(values.shape[1])))
    random = np.random.default_rng([seed, 14])
    first, second = (values[random.permutation(len(values))[:MOST_POINTS]].astype(float) for values in (source, target))
    plan = _plan(((first[:, None] - second[None]) ** 2).sum(-1))
    displacement = plan @ second / plan.sum(1, keepdims=True) - first
    return _Displaced([(cKDTree(first), displacement)])


def transported_cumulative(
    score: npt.ArrayLike, mass: npt.ArrayLike, *, seed: int = 0
) -> Callable[[npt.NDArray, npt.NDArray], FloatArray]:
    """Move background scores so that they are the same at every mass: from (s, m) to (s of any mass, m).

    Score and mass are taken as ranks, and moving in the mass is dear, so that the plan moves scores at almost fixed
    mass: a discrete form of arXiv:2307.05187.

    Args:
        score: (n,) of background that trained no classifier.
        mass: (n,).
        seed: of the draws.

    Returns:
        (scores (n,), masses (n,)) -> (n,) scores, 0 to 1.

    Raises:
        DataError: too few events, or a value is not finite.
        ResourceError: POT is not installed.
    """
    scores, masses = finite(score, "scores"), finite(mass, "masses")
    _enough(len(scores), len(masses))
    ordered_scores, ordered_masses = np.sort(scores), np.sort(masses)

    def ranks(values: npt.NDArray, at: npt.NDArray) -> FloatArray:
        columns = []
        for known, own in ((ordered_scores, values), (ordered_masses, at)):
            below, upto = (np.searchsorted(known, own, side=side) for side in ("left", "right"))
            columns.append((below + upto) / (2 * len(known)))
        return np.stack(columns, axis=1)

    random = np.random.default_rng([seed, 15])
    stretch = np.array([1.0, np.sqrt(STIFFNESS)])
    parts = []
    for _ in range(ROUNDS):
        rows = random.permutation(len(scores))[:MOST_POINTS]
        first = ranks(scores[rows], masses[rows])
        second = np.stack([random.permutation(first[:, 0]), first[:, 1]], axis=1)
        plan = _plan((((first[:, None] - second[None]) * stretch) ** 2).sum(-1))
        displacement = plan @ second[:, :1] / plan.sum(1, keepdims=True) - first[:, :1]
        parts.append((cKDTree(first), displacement))
    displaced = _Displaced(parts)

    def apply(values: npt.NDArray, at: npt.NDArray) -> FloatArray:
        place = ranks(np.asarray(values, dtype=np.float64), np.asarray(at, dtype=np.float64))
        moved: FloatArray = np.clip(place[:, 0] + displaced.by(place)[:, 0], 0, 1)
        return moved

    return apply


class _Displaced:
    """Events move by the mean displacement of their neighbours in each draw."""

    def __init__(self, parts: list[tuple[cKDTree, FloatArray]]) -> None:
        self._parts = parts

    def by(self, values: npt.NDArray) -> FloatArray:
        """(n, K) mean displacements."""
        total: FloatArray = np.zeros((len(values), self._parts[0][1].shape[1]))
        for tree, displacement in self._parts:
            _, nearest = tree.query(values, k=NEIGHBOURS)
            total += displacement[nearest].mean(1)
        return total / len(self._parts)

    def __call__(self, values: npt.NDArray) -> FloatArray:
        """(n, D) moved."""
        return np.asarray(values, dtype=np.float64) + self.by(values)


def _plan(cost: npt.NDArray) -> FloatArray:
    """The exact plan between events of equal weight on each side."""
    try:
        import ot
    except ImportError:
        raise ResourceError("optimal transport needs POT", do='pip install "jettag[weak]"') from None
    weights = [np.full(count, 1 / count) for count in cost.shape]
    plan: FloatArray = ot.emd(*weights, cost, numItermax=1_000_000)
    return plan


def _enough(*counts: int) -> None:
    if min(counts) < FEWEST:
        raise DataError(f"{min(counts)} events are too few for a transport, at least {FEWEST}", do="give more events")
