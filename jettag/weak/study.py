"""Points of a study and its rows: what one training gained, and medians over runs with their bands."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.weak.folds import FoldScores, fold_quantiles
from jettag.weak.measures import (
    BACKGROUND_EFFICIENCIES,
    MIN_BACKGROUND,
    SicCurve,
    argos,
    band,
    best_improvement,
    max_sic,
    sic_at,
    sic_curve,
    total_improvement,
)

__all__ = [
    "MEASURES",
    "STATEMENT",
    "VARIED",
    "aggregate",
    "improvement_over",
    "judge",
    "label_free",
    "medians",
    "study_json",
]

SIC_KEYS = {efficiency: f"sic_{efficiency:.0e}".replace("e-0", "e-") for efficiency in BACKGROUND_EFFICIENCIES}
MEASURES = ("max_sic", *SIC_KEYS.values(), "auc", "background_rejection", "mixture_auc", "argos")
# Background efficiencies, descending, of the curves that are drawn.
CURVE = tuple(round(float(value), 6) for value in np.geomspace(1, 1e-4, 33))
# Of resonances.
SCULPTING = (
    *("chi2_per_ndof", "jsd_nats", "jsd_floor_nats", "s_over_b", "template_auc", "template_fpd", "template_kpd"),
    "effective_share",  # of reweighted events
)
VARIED = {
    "cwola": "signal draw, background split, initialisation",
    "iad": "signal draw, background split, initialisation",
    "supervised": "folds, initialisation",
}
STATEMENT = (
    f"Median over runs with its 16-84 % band. Maximum SIC with at least {MIN_BACKGROUND} background jets kept; "
    "of a random score it is a little above 1, SIC at background efficiency 1e-2 is 0.1 and at 1e-3 0.032. Trained "
    "without signal a classifier is a random function of the features, and single runs may be signal-like by chance. "
    "The jets that judge train nothing; the maximum is taken over thresholds on them, the two other SIC are not."
)


def judge(signal_scores: npt.NDArray, background_scores: npt.NDArray) -> dict[str, Any]:
    """Numbers of one training on jets whose true class is known.

    Raises:
        DataError: a class is empty, a score is not finite, or fewer than 25 background jets judge.
    """
    curve = sic_curve(signal_scores, background_scores)
    best = max_sic(curve)
    # The Mann-Whitney statistic: the area under the straight pieces of the ROC curve, ties counted one half.
    auc = np.trapezoid(
        np.concatenate([[0.0], curve.signal_efficiency]), np.concatenate([[0.0], curve.background_efficiency])
    )
    half = int(np.searchsorted(curve.signal_efficiency, 0.5))
    passed = int(curve.n_background_pass[half])
    return {
        "max_sic": best.value,
        "max_sic_signal_efficiency": best.signal_efficiency,
        "max_sic_background_efficiency": best.background_efficiency,
        "max_sic_n_background": best.n_background_pass,
        "max_sic_threshold": best.threshold,
        **{key: sic_at(curve, efficiency) for efficiency, key in SIC_KEYS.items()},
        "auc": float(auc),
        "background_rejection": curve.n_background / passed if passed else None,
        "sic_curve": [_supported(curve, efficiency) for efficiency in CURVE],
        "n_signal_test": curve.n_signal,
        "n_background_test": curve.n_background,
    }


def improvement_over(
    signal_scores: npt.NDArray, background_scores: npt.NDArray, names: npt.NDArray
) -> dict[str, dict[str, float]]:
    """Total improvement of one training over several signals, and that of each; empty where there is one signal.

    Args:
        signal_scores: (s,).
        background_scores: (b,); empty as well where fewer than one in a hundred could be counted.
        names: (s,) which signal each jet is.
    """
    kinds = np.unique(names)
    if len(kinds) < 2 or len(background_scores) < 1 / max(BACKGROUND_EFFICIENCIES):
        return {}
    curves = {str(kind): sic_curve(signal_scores[names == kind], background_scores) for kind in kinds}
    each = {kind: best_improvement(curve) for kind, curve in curves.items()}
    return {"improvement": total_improvement(curves), "improvement_by_signal": each}


def _supported(curve: SicCurve, efficiency: float) -> float | None:
    """SIC at a background efficiency that keeps enough events for the curve to mean something."""
    return sic_at(curve, efficiency) if efficiency * curve.n_background >= MIN_BACKGROUND else None


def label_free(scores: FoldScores, label: npt.NDArray, weight: npt.NDArray | None = None) -> dict[str, float]:
    """What is known without a true label: AUC of the mixtures, mean over folds, and ARGOS of out-of-fold quantiles.

    Args:
        scores: of the training jets.
        label: (n,) 1 for the sample with more signal.
        weight: (n,) in training; ARGOS takes that of the other sample.
    """
    aucs = []
    for k in np.unique(scores.fold):
        inside = scores.fold == k
        rank = fold_quantiles(scores.out_of_fold[inside], np.zeros(inside.sum()), label[inside] == 0)
        aucs.append(rank[label[inside] == 1].mean())
    quantile = fold_quantiles(scores.out_of_fold, scores.fold, label == 0)
    of_template = None if weight is None else weight[label == 0]
    found = argos(quantile[label == 1], quantile[label == 0], template_weight=of_template)
    return {"mixture_auc": float(np.mean(aucs)), "argos": found}


def aggregate(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each method, representation and signal fraction, in the order of the points.

    Each of `MEASURES`, and of a resonance study what a cut does to the mass spectrum and how near a template is to the
    background, has ``_median``, ``_low`` (16 %) and ``_high`` (84 %), None where a run has none. ``sic_curve`` has the
    three for each of `CURVE`.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["method"], point["row"], point["fraction"]), []).append(point)
    rows = []
    for (method, name, fraction), runs in groups.items():
        first = runs[0]
        row: dict[str, Any] = {
            "method": method,
            "row": name,
            "fraction": fraction,
            "n_runs": len(runs),
            "varied": first.get("varied") or VARIED[method],
            **{key: first[key] for key in ("n_signal", "n_background", "n_signal_test", "n_background_test")},
        }
        for measure in (*MEASURES, *(name for name in SCULPTING if name in first)):
            values = [run.get(measure) for run in runs]
            known = [value for value in values if value is not None]
            found = band(known) if known and len(known) == len(values) else None
            row[f"{measure}_median"] = found.median if found else None
            row[f"{measure}_low"] = found.low if found else None
            row[f"{measure}_high"] = found.high if found else None
        row["sic_curve"] = _curve_bands([run["sic_curve"] for run in runs if "sic_curve" in run])
        rows.append(row)
    return rows


def _curve_bands(curves: Sequence[Sequence[float | None]]) -> dict[str, list[float | None]]:
    """Median and band of curves at each of `CURVE`; None where a run's background is too small."""
    found: dict[str, list[float | None]] = {"median": [], "low": [], "high": []}
    for values in zip(*curves, strict=True):
        known = [value for value in values if value is not None]
        at = band(known) if len(known) == len(values) else None
        for edge, numbers in found.items():
            numbers.append(getattr(at, edge) if at else None)
    return found


def medians(records: Sequence[Mapping[str, Any]], keys: Sequence[str], measures: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each combination of ``keys``: median and band over runs of each measure, None where a run has none."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    rows = []
    for group, runs in groups.items():
        row: dict[str, Any] = dict(zip(keys, group, strict=True)) | {"n_runs": len(runs)}
        for name in measures:
            values = [run[name] for run in runs]
            found = None if any(value is None for value in values) else band(values)
            for edge in ("median", "low", "high"):
                row[f"{name}_{edge}"] = getattr(found, edge) if found else None
        rows.append(row)
    return rows


def _improvement(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the total improvement; none where there is one signal."""
    found = [{**point, **point["improvement"]} for point in points if point.get("improvement")]
    return medians(found, ("method", "row", "fraction"), ("min", "median", "max"))


def study_json(points: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> dict[str, Any]:
    """The object of `weak --json`."""
    return {
        "schema": 1,
        "rows": aggregate(points),
        "improvement": _improvement(points),
        "runs": [dict(point) for point in points],
        "curve_efficiencies": list(CURVE),
        "statement": STATEMENT,
        "notes": list(notes),
    }
