"""Intervals from resampled events: jets of one event are not independent."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from jettag.evaluation.metrics import CONFIDENCE

__all__ = ["bootstrap_numbers", "bootstrap_rejection"]

REPLICAS = 200

FloatArray = npt.NDArray[np.float64]


def bootstrap_rejection(
    signal_scores: FloatArray,
    background_scores: FloatArray,
    signal_events: npt.NDArray[np.int64],
    background_events: npt.NDArray[np.int64],
    signal_efficiency: float,
    *,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> tuple[float, float | None]:
    """The central 68 % interval of the rejection over samples of as many events, drawn with replacement.

    The threshold is found anew in each sample, so the interval has the signal's statistics too.

    Args:
        signal_scores: (S,).
        background_scores: (B,).
        signal_events: (S,) number of each jet's event.
        background_events: (B,).
        signal_efficiency: in (0, 1].
        replicas: samples.
        seed: of the draws.

    Returns:
        Lower and upper edge; the upper is None where too many samples let no background pass.
    """
    events, place = np.unique(np.concatenate([signal_events, background_events]), return_inverse=True)
    order = np.argsort(signal_scores, kind="stable")
    scores, owner = signal_scores[order], place[: len(signal_scores)][order]
    background_order = np.argsort(background_scores, kind="stable")
    background, background_owner = background_scores[background_order], place[len(signal_scores) :][background_order]
    random = np.random.default_rng(seed)
    found = []
    for _ in range(replicas):
        counts = np.bincount(random.integers(len(events), size=len(events)), minlength=len(events))
        below = np.cumsum(counts[owner])
        total = np.concatenate([[0], np.cumsum(counts[background_owner])])
        if not below[-1] or not total[-1]:
            continue
        # The lowest score at or above which the share asked for lies, as the quantile without weights has it.
        rank = int(np.floor((1 - signal_efficiency) * (below[-1] - 1)))
        threshold = scores[np.searchsorted(below, rank, side="right")]
        passed = total[-1] - total[np.searchsorted(background, threshold, side="left")]
        found.append(total[-1] / passed if passed else np.inf)
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="inverted_cdf")
    return float(low if np.isfinite(low) else len(background_scores)), float(high) if np.isfinite(high) else None


def bootstrap_numbers(
    measures: Mapping[str, Callable[[npt.NDArray[np.int64]], float]],
    events: npt.NDArray[np.int64],
    *,
    replicas: int = REPLICAS,
    seed: int = 0,
) -> Iterator[tuple[str, float | None, float | None, float | None]]:
    """Measures of jets with the central 68 % intervals over samples of as many events, drawn with replacement.

    Args:
        measures: name to the number of the jets in these rows, NaN where there is none.
        events: (J,) number of each jet's event.
        replicas: samples; all measures are of the same ones.
        seed: of the draws.

    Yields:
        Name, value, lower and upper edge. The value is None where there is none or no jet; the edges are None where so
        many samples have none that an edge could lie among them.
    """
    jets = len(events)
    values = {name: measure(np.arange(jets)) if jets else np.nan for name, measure in measures.items()}
    found: dict[str, list[float]] = {name: [] for name in measures}
    numbers, place = np.unique(events, return_inverse=True)
    random = np.random.default_rng(seed)
    for _ in range(replicas if jets else 0):
        counts = np.bincount(random.integers(len(numbers), size=len(numbers)), minlength=len(numbers))
        rows = np.repeat(np.arange(jets), counts[place])
        for name, measure in measures.items():
            if np.isfinite(values[name]):
                found[name].append(measure(rows))
    for name, value in values.items():
        if not np.isfinite(value):
            yield name, None, None, None
            continue
        known = np.array(found[name])[np.isfinite(found[name])]
        if len(known) < CONFIDENCE * replicas:
            yield name, float(value), None, None
            continue
        low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        yield name, float(value), float(low), float(high)
