"""A score in one sample brought to that in another, by weights or transport: what each way says, and what is true."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from jettag.errors import DataError, UsageError, nearest
from jettag.weak.calibration import effective_sample_size
from jettag.weak.checks import FloatArray
from jettag.weak.resonance import ResonanceSettings, reweight
from jettag.weak.transport import transport_embeddings, transport_scores

__all__ = ["SHIFTS", "Domain", "check_shifts", "compare_domains", "excess_sigma"]

SHIFTS: dict[str, str] = {
    "none": "the source as it is",
    "reweight": "weights g / (1 - g) of a classifier on the tagger's embeddings (arXiv:1506.02169)",
    "ot-score": "monotone transport of the scores",
    "ot-embedding": "transport of the embeddings, scored by the tagger's last layer (arXiv:2507.08867)",
}
EFFICIENCY = 0.5  # of the source's signal at the cut
FEWEST = 50  # jets in a half of a sample


@dataclass(frozen=True)
class Domain:
    """Jets of one sample.

    Attributes:
        inputs: (n, D) what a score is made from: embeddings, or features on one scale.
        signal: (n,) true classes, which judge; None where they are not known.
    """

    inputs: npt.NDArray
    signal: npt.NDArray[np.bool_] | None


def check_shifts(methods: Sequence[str]) -> None:
    """Refuse a method that is none of `SHIFTS`.

    Raises:
        UsageError: naming the nearest ones.
    """
    for method in methods:
        if method not in SHIFTS:
            raise UsageError(f"no method {method!r}", do=nearest(method, SHIFTS))


def compare_domains(
    score: Callable[[npt.NDArray], FloatArray],
    source: Domain,
    target: Domain,
    methods: Sequence[str],
    *,
    seed: int = 0,
    folds: int = 5,
    cut: float | None = None,
) -> tuple[list[dict[str, Any]], int, int]:
    """Fit each method on half of both samples without labels, and judge on the other halves.

    Args:
        score: (n, D) inputs to (n,) scores; log odds, or any scale without ends.
        source: the simulation.
        target: the data, or another simulation.
        methods: of `SHIFTS`.
        seed: of halves and classifiers.
        folds: of the classifier.
        cut: on the score; None for that which keeps half of the source's signal, or of the source without true classes.

    Returns:
        A row for each method: Wasserstein's distance of its scores to the target's, that between halves of the target
        (``distance_floor``), the effective sample size, and efficiencies of background and signal, said and true, at
        the cut, None without true classes and of a class without jets; and the jets of the source and of the target
        that judge.

    Raises:
        UsageError: no such method.
        DataError: a sample is too small.
    """
    check_shifts(methods)
    domains = source, target
    fits = [np.random.default_rng([seed, 18, i]).random(len(one.inputs)) < 0.5 for i, one in enumerate(domains)]
    for name, fit in zip(("source", "target"), fits, strict=True):
        if min(fit.sum(), (~fit).sum()) < FEWEST:
            raise DataError(f"{len(fit)} jets in the {name} are too few", do="give more files")
    scores = [score(one.inputs) for one in domains]
    simulated, data = (one.inputs[fit] for one, fit in zip(domains, fits, strict=True))
    judged = scores[1][~fits[1]]
    half = np.arange(len(judged)) % 2 == 0
    floor = float(wasserstein_distance(judged[half], judged[~half]))
    if cut is None:
        kept = scores[0][fits[0]] if source.signal is None else scores[0][fits[0] & source.signal]
        cut = float(np.quantile(kept, 1 - EFFICIENCY))
    rows = []
    for method in methods:
        own, weight = scores[0][~fits[0]], np.ones(int((~fits[0]).sum()))
        if method == "reweight":
            weight = reweight(simulated, data, source.inputs[~fits[0]], ResonanceSettings(folds=folds), seed=seed)
        elif method == "ot-score":
            own = transport_scores(scores[0][fits[0]], scores[1][fits[1]])(own)
        elif method == "ot-embedding":
            own = score(transport_embeddings(simulated, data, seed=seed)(source.inputs[~fits[0]]))
        row: dict[str, Any] = {
            "method": method,
            "distance": float(wasserstein_distance(own, judged, u_weights=weight)),
            "distance_floor": floor,
            "effective_sample_size": effective_sample_size(weight),
        }
        for kind, is_signal in (("background", False), ("signal", True)):
            said = true = None
            if source.signal is not None and target.signal is not None:
                of_source = source.signal[~fits[0]] == is_signal
                of_target = target.signal[~fits[1]] == is_signal
                if of_source.any() and of_target.any():
                    said = float(np.average(own[of_source] >= cut, weights=weight[of_source]))
                    true = float(np.mean(judged[of_target] >= cut))
            row |= {f"{kind}_efficiency_said": said, f"{kind}_efficiency_true": true}
        rows.append(row)
    return rows, int((~fits[0]).sum()), int((~fits[1]).sum())


def excess_sigma(said: float, true: float, sizes: Sequence[float]) -> float:
    """True less said efficiency in standard deviations: what would be read as signal where there is none.

    Args:
        said: efficiency that the source says.
        true: that in the target.
        sizes: jets (effective ones where weighted) of each independent sample that the difference comes from: of the
            source and of the target that judge, and of those that a correction was fitted on.

    Returns:
        The difference over its binomial standard deviation at the mean of both; 0 where they are the same.
    """
    mean = (said + true) / 2
    sigma = np.sqrt(mean * (1 - mean) * sum(1 / size for size in sizes))
    return float((true - said) / sigma) if said != true else 0.0
