"""CWoLa hunting (arXiv:1902.02634): signal region against side-bands, nested folds, cuts that no scored event decided.

For each test fold k and each other fold l, classifiers are trained on the remaining folds; the best of several restarts
on fold l, by ARGOS, scores fold k. Each member's scores become quantiles of its own side-band events in fold l, the
members' mean is the score of an event of fold k, and the threshold for fold k is a quantile over the other folds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError, UsageError
from jettag.weak.checks import FloatArray, check_features
from jettag.weak.folds import Classifier
from jettag.weak.measures import argos
from jettag.weak.spectrum import BumpHunt, Excess, bump_hunt, excess, fit_spectrum
from jettag.weak.windows import Window, check_regions, sliding_windows

__all__ = ["HuntPlan", "NestedScores", "WindowResult", "hunt", "mass_edges", "nested_scores", "passing"]


@dataclass(frozen=True)
class HuntPlan:
    """How to hunt.

    Attributes:
        edges: of the mass bins that windows slide over [GeV].
        efficiencies: shares of the side-band events that pass.
        folds: outer folds.
        restarts: trainings for each pair of folds, of which the best by ARGOS is kept.
        fit_bins: of the spectrum that the dijet function is fitted to.
        windows: signal regions; None slides.
        seed: of folds and classifiers.
    """

    edges: tuple[float, ...]
    efficiencies: tuple[float, ...] = (0.1, 0.01)
    folds: int = 5
    restarts: int = 1
    fit_bins: int = 60
    windows: tuple[Window, ...] | None = None
    seed: int = 0


@dataclass(frozen=True)
class WindowResult:
    """One window after one cut.

    Attributes:
        window: signal region and side-bands.
        efficiency: share of side-band events asked for.
        achieved: share of them that passes.
        excess: in the signal region.
        center: number of the middle bin where windows slide, else None.
        in_center: events that pass in the middle bin, and expected ones.
        judged: (t,) scores of other events, by all classifiers of the window.
    """

    window: Window
    efficiency: float
    achieved: float
    excess: Excess
    center: int | None
    in_center: tuple[int, float]
    judged: FloatArray


class NestedScores(NamedTuple):
    """What `nested_scores` gives.

    Attributes:
        score: (n,) from 0 to 1, of each event by classifiers that never saw it.
        fold: (n,) of each event.
        judged: (t,) of other events, by all classifiers.
    """

    score: FloatArray
    fold: npt.NDArray[np.int64]
    judged: FloatArray


def mass_edges(low: float, high: float, bins: int) -> tuple[float, ...]:
    """Edges of equal ratio."""
    return tuple(np.geomspace(low, high, bins + 1).tolist())


def nested_scores(
    make: Callable[[int], Classifier],
    features: npt.NDArray,
    mass: npt.NDArray,
    window: Window,
    *,
    folds: int,
    restarts: int = 1,
    seed: int = 0,
    judges: npt.NDArray | None = None,
) -> NestedScores:
    """Scores of all events by classifiers that never saw them.

    Args:
        make: a fresh classifier of a seed.
        features: (n, F) of all events, within the window or not.
        mass: (n,).
        window: what to tell apart.
        folds: at least 3.
        restarts: of each training.
        seed: of folds and classifiers.
        judges: (t, F) of other events, which train nothing.

    Raises:
        DataError: too few events in a region for the folds.
    """
    _check_window(window, mass, folds)
    inside, beside = window.inside(mass), window.beside(mass)
    fold = np.random.default_rng([seed, 4]).permutation(len(mass)) % folds
    used = inside | beside
    weight = window.weights(mass)
    score = np.zeros(len(mass))
    judged = np.zeros(0 if judges is None else len(judges))
    for k in range(folds):
        test = fold == k
        for inner in (other for other in range(folds) if other != k):
            train, held = used & (fold != k) & (fold != inner), fold == inner
            best, chosen = -np.inf, None
            for r in range(restarts):
                member = make(((seed * folds + k) * folds + inner) * restarts + r)
                member.fit(features[train], inside[train].astype(np.int64), sample_weight=weight[train])
                if restarts > 1:
                    data, template = (member.predict_proba(features[held & part])[:, 1] for part in (inside, beside))
                    found = argos(data, template, template_weight=weight[held & beside])
                else:
                    found = 0.0
                if found > best:
                    best, chosen = found, member
            assert chosen is not None  # there is at least one restart
            reference = np.sort(chosen.predict_proba(features[held & beside])[:, 1])
            score[test] += _quantiles(chosen.predict_proba(features[test])[:, 1], reference) / (folds - 1)
            if judges is not None:
                found_there = _quantiles(chosen.predict_proba(judges)[:, 1], reference)
                judged += found_there / (folds * (folds - 1))
    return NestedScores(score, fold, judged)


def _quantiles(score: npt.NDArray, reference: npt.NDArray) -> FloatArray:
    """(n,) share of sorted reference scores below each, ties counted one half."""
    below, upto = (np.searchsorted(reference, score, side=side) for side in ("left", "right"))
    share: FloatArray = (below + upto) / (2 * len(reference))
    return share


def _check_window(window: Window, mass: npt.NDArray, folds: int) -> None:
    """Refuse folds and regions that nothing can be trained in.

    Raises:
        DataError: too few folds to nest, or too few events in a region.
    """
    if folds < 3:
        raise DataError(f"{folds} folds cannot be nested", do="give --folds 3 or more")
    check_regions(window, mass)
    smallest = min(np.count_nonzero(window.inside(mass)), np.count_nonzero(window.beside(mass)))
    if smallest < 10 * folds:
        what = f"{smallest} events in a region are too few for {folds} folds"
        raise DataError(what, do="give more events or fewer --folds")


def passing(
    score: npt.NDArray, fold: npt.NDArray, reference: npt.NDArray[np.bool_], efficiency: float
) -> npt.NDArray[np.bool_]:
    """(n,) events above the threshold of their fold: a quantile over reference events of the other folds."""
    result = np.zeros(len(score), dtype=bool)
    for k in np.unique(fold):
        threshold = np.quantile(score[reference & (fold != k)], 1 - efficiency)
        result[fold == k] = score[fold == k] > threshold
    return result


def hunt(
    make: Callable[[int], Classifier],
    features: npt.NDArray,
    names: Sequence[str],
    mass: npt.NDArray,
    plan: HuntPlan,
    *,
    judges: npt.NDArray | None = None,
) -> tuple[list[WindowResult], dict[float, BumpHunt]]:
    """Slide over the mass, or look at the windows given, at every efficiency.

    Args:
        make: a fresh classifier of a seed.
        features: (n, F) that must not tell the mass.
        names: F names.
        mass: (n,) [GeV].
        plan: how.
        judges: (t, F) of other events to be scored.

    Returns:
        A result for each window and efficiency, and the bump of all windows together at each efficiency: the middle
        bins of the sliding windows, or where there is one window the whole spectrum after its cut.

    Raises:
        UsageError: an efficiency that is not between 0 and 1.
        DataError: empty regions, features that leak the mass, or a spectrum that cannot be fitted.
    """
    for efficiency in plan.efficiencies:
        if not 0 < efficiency < 1:
            what = f"expected a share of background between 0 and 1, found {efficiency:g}"
            raise UsageError(what, where="--efficiency")
    check_features(features, tuple(names), mass)
    placed: list[tuple[Window, int | None]] = [(window, None) for window in plan.windows or ()]
    placed = placed or list(sliding_windows(plan.edges))
    for window, _ in placed:
        _check_window(window, mass, plan.folds)  # refused before the first is trained
    fine = np.geomspace(plan.edges[0], plan.edges[-1], plan.fit_bins + 1)
    results: list[WindowResult] = []
    whole: dict[float, tuple[npt.NDArray, FloatArray]] = {}
    for window, center in placed:
        score, fold, judged = nested_scores(
            make, features, mass, window, folds=plan.folds, restarts=plan.restarts, seed=plan.seed, judges=judges
        )
        beside = window.beside(mass)
        # Bins that end where the region does: none is half in it.
        edges = np.unique(
            np.concatenate([fine[(fine <= window.low) | (fine >= window.high)], [window.low, window.high]])
        )
        middle = (edges[:-1] >= window.low) & (edges[:-1] < window.high)
        for efficiency in plan.efficiencies:
            kept = passing(score, fold, beside, efficiency)
            counts = np.histogram(mass[kept], edges)[0]
            found = excess(counts, edges, middle)
            in_center = (0, 0.0)
            if center is not None:
                low, high = plan.edges[center], plan.edges[center + 1]
                ends = np.unique(np.concatenate([edges, [low, high]]))
                inner = (ends[:-1] >= low) & (ends[:-1] < high)
                hidden = (ends[:-1] >= window.low) & (ends[:-1] < window.high)
                fit = fit_spectrum(np.histogram(mass[kept], ends)[0], ends, ~hidden)
                observed = np.count_nonzero(kept & (mass >= low) & (mass < high))
                in_center = (int(observed), fit.in_bins(inner)[0])
            else:
                whole[efficiency] = (np.histogram(mass[kept], fine)[0], _whole(mass[kept], fine, window))
            achieved = float(kept[beside].mean())
            results.append(WindowResult(window, efficiency, achieved, found, center, in_center, judged))
    return results, _bumps(results, plan, whole, fine)


def _whole(mass: npt.NDArray, edges: npt.NDArray, window: Window) -> FloatArray:
    hidden = (edges[1:] > window.low) & (edges[:-1] < window.high)
    return fit_spectrum(np.histogram(mass, edges)[0], edges, ~hidden).expected


def _bumps(
    results: Sequence[WindowResult],
    plan: HuntPlan,
    whole: dict[float, tuple[npt.NDArray, FloatArray]],
    fine: npt.NDArray,
) -> dict[float, BumpHunt]:
    bumps = {}
    for efficiency in plan.efficiencies:
        own = [result for result in results if result.efficiency == efficiency]
        if own[0].center is not None:
            centers = [result.center for result in own if result.center is not None]
            edges = np.array(plan.edges[centers[0] : centers[-1] + 2])
            counts = np.array([result.in_center[0] for result in own])
            expected = np.array([result.in_center[1] for result in own])
            bumps[efficiency] = bump_hunt(counts, expected, edges, widest=3, seed=plan.seed)
        elif len(own) == 1:
            counts, expected = whole[efficiency]
            bumps[efficiency] = bump_hunt(counts, expected, fine, widest=plan.fit_bins // 4, seed=plan.seed)
    return bumps
