"""Flavour tagging judged: discriminants, working points, origins, vertices, regressions, and a simple baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.errors import UsageError
from jettag.evaluation.bootstrap import bootstrap_rejection
from jettag.evaluation.discriminants import WORKING_POINTS, discriminant, equal_fractions
from jettag.evaluation.metrics import auc, background_rejection, clopper_pearson, working_point
from jettag.evaluation.origins import origin_report
from jettag.evaluation.regression import RegressionScores, judge_regression
from jettag.evaluation.scores import Scores
from jettag.evaluation.vertexing import VertexCounts, against_number, against_pt, count_vertices, summary

__all__ = ["Discriminant", "FlavourScores", "TrackScores", "judge", "mean_signed_significance", "parse_discriminant"]

PT_EDGES = (20, 30, 40, 60, 85, 110, 140, 175, 250, 400, 600, 800, 1000, 1500, 2000, 3000, 4500, 6000)  # GeV
FLAT_EFFICIENCY = 0.7  # at which rejection is shown against pT, and that of the baseline
LARGEST_SIGNIFICANCE = 10.0  # one track of a long-lived strange hadron must not decide a mean
TYPICAL = ("b", "c")

FloatArray = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Discriminant:
    """A signal, which may be several classes, against groups of classes with fractions.

    Attributes:
        signal: classes.
        fractions: of each group, with the sum 1.
        groups: classes of each group.
        cuts: signal efficiency to the cut that was stored with the run.
        chosen: where the fractions come from.
        scan: fractions and background efficiencies of the scan behind the choice.
    """

    signal: tuple[str, ...]
    fractions: Mapping[str, float]
    groups: Mapping[str, tuple[str, ...]]
    cuts: Mapping[str, float] = field(default_factory=dict)
    chosen: str = "equal"
    scan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Classes of the signal joined by ``+``."""
        return "+".join(self.signal)


@dataclass(frozen=True, eq=False)
class TrackScores:
    """What is true and what was said of the constituents of J jets.

    Attributes:
        offsets: (J + 1,) where each jet's constituents begin.
        true_origin: (M,), negative where there is no track.
        origin: (M,) most probable origin, -1 without a track; None where it is not predicted.
        true_vertex: (M,) or None.
        vertex: (M,) or None where it is not predicted.
    """

    offsets: Ints
    true_origin: Ints
    origin: Ints | None
    true_vertex: Ints | None
    vertex: Ints | None


@dataclass(frozen=True, eq=False)
class FlavourScores:
    """A run's scores with what flavour tagging is judged by.

    Attributes:
        scores: class probabilities and labels.
        discriminants: to judge.
        pt: (J,) GeV, or None.
        event: (J,) number of each jet's event; None counts every jet as an event.
        tracks: None for a run without track tasks, or jets without their truth.
        baseline: (J,) mean signed d0 significance, or None.
        regressions: of the heads whose truth the jets have.
    """

    scores: Scores
    discriminants: tuple[Discriminant, ...]
    pt: FloatArray | None = None
    event: Ints | None = None
    tracks: TrackScores | None = None
    baseline: FloatArray | None = None
    regressions: tuple[RegressionScores, ...] = ()

    @property
    def events(self) -> Ints:
        """(J,) which jets are of one event; each of its own where none is known."""
        return np.arange(len(self.scores.label)) if self.event is None else self.event

    def score(self, chosen: Discriminant) -> FloatArray:
        """(J,) the discriminant of every jet."""
        names = self.scores.class_names
        return discriminant(self.scores.probabilities, names, chosen.signal, chosen.fractions, chosen.groups)

    def of(self, classes: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """(J,) which jets are of these classes."""
        names = self.scores.class_names
        mask: npt.NDArray[np.bool_] = np.isin(self.scores.label, [names.index(name) for name in classes])
        return mask


def parse_discriminant(text: str) -> Discriminant:
    """``b:c=0.2,light=0.8``, or with groups ``b+bb+lepb:c=0.1,uds+g=0.9``.

    Raises:
        UsageError: it cannot be read.
    """
    signal, colon, rest = text.partition(":")
    fractions: dict[str, float] = {}
    try:
        for part in rest.split(","):
            name, _, number = part.partition("=")
            fractions[name.strip()] = float(number)
    except ValueError:
        colon = ""
    if not colon or not signal.strip() or "" in fractions:
        raise UsageError(f"--discriminant {text!r} cannot be read", do="write it as b:c=0.2,light=0.8")
    classes = tuple(name.strip() for name in signal.split("+"))
    return Discriminant(classes, fractions, {name: tuple(name.split("+")) for name in fractions}, chosen="given")


def stored_discriminants(class_names: tuple[str, ...], choices: Mapping[str, Any]) -> tuple[Discriminant, ...]:
    """Those chosen after training; for b and c of other classes, all backgrounds with equal fractions."""
    stored = choices.get("discriminants", {})
    if stored:
        return tuple(
            Discriminant(
                (name,),
                found["fractions"],
                {key: (key,) for key in found["fractions"]},
                found["cuts"],
                "on validation jets",
                found.get("scan", {}),
            )
            for name, found in stored.items()
        )
    found = [(name,) for name in TYPICAL if name in class_names and len(class_names) > 1]
    return tuple(
        Discriminant(s, equal_fractions(class_names, s), {n: (n,) for n in class_names if n not in s}) for s in found
    )


def mean_signed_significance(
    offsets: Ints, d0: FloatArray, error: FloatArray, dphi: FloatArray, track: npt.NDArray[np.bool_]
) -> FloatArray:
    """The mean lifetime-signed d0 significance of each jet's tracks, each within +-10; 0 without tracks.

    A track's sign is that of sin(phi_jet - phi_track) d0: positive where it comes from a decay in flight along the jet.

    Args:
        offsets: (J + 1,).
        d0: (M,) mm, of the ATLAS and CMS sign.
        error: (M,) mm.
        dphi: (M,) phi of the constituent minus that of the jet.
        track: (M,) which constituents are tracks.
    """
    counts = track & (error > 0)
    size = np.divide(np.abs(d0), error, out=np.zeros(len(d0)), where=counts)
    signed = np.minimum(size, LARGEST_SIGNIFICANCE) * np.sign(-np.sin(dphi) * d0) * counts
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    total = np.bincount(owner, weights=signed, minlength=len(offsets) - 1)
    number = np.bincount(owner, weights=counts, minlength=len(offsets) - 1)
    return total / np.maximum(number, 1)


def judge(run: FlavourScores) -> dict[str, Any]:
    """Everything as plain Python values: the run's entry under ``flavour`` of `eval --json`."""
    report: dict[str, Any] = {
        "run": run.scores.run,
        "classes": list(run.scores.class_names),
        "discriminants": {chosen.name: _judge_discriminant(run, chosen) for chosen in run.discriminants},
    }
    tracks = run.tracks
    if tracks is not None and tracks.origin is not None:
        is_track = tracks.origin >= 0
        report["origins"] = origin_report(tracks.true_origin[is_track], tracks.origin[is_track])
    counts = vertex_counts(run)
    if counts is not None:
        jets = {name: run.of((name,)) for name in run.scores.class_names}
        report["vertices"] = {
            kind: {name: summary(found, own) for name, own in jets.items()} for kind, found in counts.items()
        }
        report["vertices_by_number"] = {name: against_number(counts["exclusive"], own) for name, own in jets.items()}
        if run.pt is not None:
            report["vertices_by_pt"] = {
                kind: {name: against_pt(found, own, run.pt, PT_EDGES) for name, own in jets.items()}
                for kind, found in counts.items()
            }
    if run.regressions:
        report["regression"] = {
            head.name: judge_regression(head, run.events, run.pt, PT_EDGES) for head in run.regressions
        }
    return report


def vertex_counts(run: FlavourScores) -> dict[str, VertexCounts] | None:
    """Counts of vertices one by one, ``exclusive``, and of all in a jet together, ``inclusive``."""
    tracks = run.tracks
    if tracks is None or tracks.vertex is None or tracks.true_vertex is None:
        return None
    columns = (tracks.offsets, tracks.true_vertex, tracks.true_origin, tracks.vertex, tracks.origin)
    return {kind: count_vertices(*columns, inclusive=kind == "inclusive") for kind in ("exclusive", "inclusive")}


def _judge_discriminant(run: FlavourScores, chosen: Discriminant) -> dict[str, Any]:
    score, is_signal = run.score(chosen), run.of(chosen.signal)
    backgrounds = {name: run.of(tuple(chosen.groups[name])) for name in chosen.fractions}
    backgrounds = {name: mask for name, mask in backgrounds.items() if mask.any()}
    report: dict[str, Any] = {
        "fractions": dict(chosen.fractions),
        "chosen": chosen.chosen,
        "n_signal": int(is_signal.sum()),
        "auc": {},
        "working_points": [],
    }
    if not is_signal.any() or not backgrounds:
        return report
    report["auc"] = {name: auc(score[is_signal], score[mask]) for name, mask in backgrounds.items()}
    report["working_points"] = _working_points(score, is_signal, backgrounds, run.events, WORKING_POINTS)
    for entry in report["working_points"]:
        cut = chosen.cuts.get(f"{entry['signal_efficiency']:g}")
        if cut is not None:
            passing = {name: float(np.mean(score[mask] >= cut)) for name, mask in backgrounds.items()}
            entry |= {"stored_cut": cut, "efficiency_at_stored_cut": float(np.mean(score[is_signal] >= cut))}
            entry |= {"background_efficiency_at_stored_cut": passing}
    if run.baseline is not None:
        report["baseline_auc"] = {
            name: auc(run.baseline[is_signal], run.baseline[mask]) for name, mask in backgrounds.items()
        }
        report["baseline_working_points"] = _working_points(
            run.baseline, is_signal, backgrounds, run.events, (FLAT_EFFICIENCY,)
        )
    if run.pt is not None:
        report["by_pt"] = by_pt(score, is_signal, backgrounds, run.pt)
    return report


def _working_points(
    score: FloatArray,
    is_signal: npt.NDArray[np.bool_],
    backgrounds: Mapping[str, npt.NDArray[np.bool_]],
    event: Ints,
    efficiencies: Sequence[float],
) -> list[dict[str, Any]]:
    """Threshold and rejections at signal efficiencies, with intervals by counting and by event."""
    points = []
    for efficiency in efficiencies:
        rejections: dict[str, Any] = {}
        for name, mask in backgrounds.items():
            found = background_rejection(score[is_signal], score[mask], efficiency)
            low, high = bootstrap_rejection(score[is_signal], score[mask], event[is_signal], event[mask], efficiency)
            rejections[name] = {
                **_counted(found.n_pass, found.n_background),
                "bootstrap_low": low,
                "bootstrap_high": high,
                "n_background_pass": found.n_pass,
            }
        threshold = working_point(score[is_signal], efficiency).threshold
        points.append({"signal_efficiency": efficiency, "threshold": threshold, "rejections": rejections})
    return points


def _counted(passed: int, jets: int) -> dict[str, Any]:
    """Rejection of a background and its 68 % interval; a lower limit alone where nothing passes."""
    lowest, highest = clopper_pearson(passed, jets)
    return {
        "background_rejection": jets / passed if passed else None,
        "background_rejection_low": float(1 / highest),
        "background_rejection_high": float(1 / lowest) if passed else None,
        "n_background": jets,
    }


def by_pt(
    score: FloatArray,
    is_signal: npt.NDArray[np.bool_],
    backgrounds: Mapping[str, npt.NDArray[np.bool_]],
    pt: FloatArray,
    efficiency: float = FLAT_EFFICIENCY,
) -> list[dict[str, Any]]:
    """Signal efficiency and rejections in bins of pT, with one cut for all and with a cut in each bin.

    ``fixed_cut`` has the cut that keeps ``efficiency`` of all signal jets, ``flat_efficiency`` one in each bin that
    keeps it there. Bins without signal are left out.
    """
    cut = working_point(score[is_signal], efficiency).threshold
    rows = []
    for low, high in pairwise(PT_EDGES):
        inside = (pt >= low) & (pt < high)
        signal = score[is_signal & inside]
        if not len(signal):
            continue
        row: dict[str, Any] = {"pt_low": low, "pt_high": high, "n_signal": len(signal)}
        flat = working_point(signal, efficiency).threshold
        for kind, threshold in (("fixed_cut", cut), ("flat_efficiency", flat)):
            found: dict[str, Any] = {"signal_efficiency": float(np.mean(signal >= threshold)), "rejections": {}}
            for name, mask in backgrounds.items():
                own = score[mask & inside]
                if len(own):
                    passed = int(np.count_nonzero(own >= threshold))
                    found["rejections"][name] = _counted(passed, len(own))
            row[kind] = found
        rows.append(row)
    return rows
