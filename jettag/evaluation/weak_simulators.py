"""What `jettag weak simulators` leaves: tables, and the picture of two simulations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from jettag.evaluation.plots import COLOURS, house_style
from jettag.evaluation.tables import escape_markdown, markdown
from jettag.evaluation.weak_report import NO_SIGNAL

__all__ = [
    "CORRECTION_HEAD",
    "EFFICIENCIES",
    "NOTHING_HEAD",
    "NOTHING_TITLE",
    "TAGGER_HEAD",
    "correction_lines",
    "draw_simulators",
    "nothing_lines",
    "simulators_markdown",
    "simulators_statement",
    "tagger_lines",
]

EFFICIENCIES = tuple(f"{kind}_efficiency_{which}" for kind in ("background", "signal") for which in ("said", "true"))
CORRECTION_HEAD = (
    "method",
    "distance",
    "floor",
    "events [%]",
    *(f"eff. {kind} {which} [%]" for kind in "BS" for which in ("said", "true")),
)
NOTHING_HEAD = (*CORRECTION_HEAD[:6], "excess [σ]")
NOTHING_TITLE = "Without signal"
TAGGER_HEAD = ("what", "median", "16 %", "84 %")
MARKERS = "osDv^<>pP*"
FEW = 1e-3  # background efficiency below which two decimals of a per cent are too few
EDGES = ("median", "low", "high")
OF_METHODS = tuple(COLOURS[i] for i in (0, 1, 2, 4))  # no grey, which is the data's
RUNS: dict[str, Any] = {"ls": "none", "marker": ".", "ms": 6, "alpha": 0.5, "zorder": 2}


def tagger_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `TAGGER_HEAD`, from the object of `weak simulators --json`."""

    def line(what: str, row: Mapping[str, Any], key: str, form: str) -> list[str]:
        numbers = [row[f"{key}_{edge}"] for edge in EDGES]
        return [what, *("n/a" if value is None else format(value, form) for value in numbers)]

    found = []
    for row in content["same"]:
        what = f"two-sample AUC of {row['class']} (the same: 0.5 ± {row['two_sample_sigma_median']:.3f})"
        found.append(line(what, row, "two_sample_auc", ".3f"))
    for row in content["taggers"]:
        where = f"trained in the {row['trained']}"
        found.append(line(f"AUC, {where}", row, "auc", ".4f"))
        found.append(line(f"rejection at 0.5, {where}", row, "background_rejection", ".1f"))
        if row["trained"] == "simulation":
            found.append(line("rejection lost by training in the simulation", row, "lost", ".1%"))
    for row in content["no_signal"]["taggers"]:
        found.append(line(f"{NO_SIGNAL}: AUC (0.5 ± {row['auc_sigma_median']:.3f})", row, "auc", ".3f"))
        found.append(line(f"{NO_SIGNAL}: rejection at 0.5 (2)", row, "background_rejection", ".2f"))
    return found


def correction_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `CORRECTION_HEAD`: medians with their bands; short ones, so that they fit a terminal."""
    return [
        [*_shared_cells(row), *(_cell(row, key, ".1f", 100) for key in EFFICIENCIES[2:])] for row in content["rows"]
    ]


def nothing_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `NOTHING_HEAD`, where there is no signal."""
    return [[*_shared_cells(row), _cell(row, "excess_sigma", ".1f")] for row in content["no_signal"]["rows"]]


def _shared_cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["method"],
        _cell(row, "distance", ".2f"),
        f"{row['distance_floor_median']:.2f}",
        _cell(row, "effective_share", ".0f", 100),
        *(_cell(row, key, ".2f" if row[f"{key}_median"] > FEW else ".2g", 100) for key in EFFICIENCIES[:2]),
    ]


def _cell(row: Mapping[str, Any], key: str, form: str, scale: float = 1) -> str:
    median, low, high = (format(scale * row[f"{key}_{edge}"], form) for edge in EDGES)
    return f"{median} ({low} to {high})"


def simulators_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of two simulations are."""
    return (
        f"Medians over runs with 16-84 % bands; trees on {', '.join(content['features'])}. Both taggers are trained "
        "on as many jets and judged on the same ones of the data; lost: 1 - their rejections' ratio in each run. "
        "Distance: Wasserstein's, in log odds of the simulation's tagger, between its scores in the simulation after "
        "the method and in the data, as many of each class in both; floor: between halves of the data. "
        "Events: effective sample size over the jets that judge. "
        "Efficiencies at the cut that keeps half of the simulation's signal: said by the simulation after the method, "
        "and true in the data. No label is used in a correction. "
        f"Rows {NO_SIGNAL}: a tagger that the simulation trains on two parts of its background, judged on two parts of "
        f"the data's. {NOTHING_TITLE}: the same corrections where both are background alone, at a cut that keeps "
        f"{content['no_signal']['signal_kept']:.0%} of the simulation's signal; excess: true less said, which looks "
        "like signal, in binomial standard deviations: 0 ± 1, but for what the simulation has wrong. "
        f"Between runs varied: {content['varied']}."
    )


def simulators_markdown(content: Mapping[str, Any]) -> str:
    """The three tables with the statement and notes."""
    three = (
        (TAGGER_HEAD, tagger_lines(content)),
        (CORRECTION_HEAD, correction_lines(content)),
        (NOTHING_HEAD, nothing_lines(content)),
    )
    tables = [
        markdown(list(head), [[escape_markdown(cell) for cell in line] for line in found]) for head, found in three
    ]
    tables.insert(2, f"{NOTHING_TITLE}:")
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    return "\n\n".join([*tables, escape_markdown(simulators_statement(content)), *notes]) + "\n"


def draw_simulators(content: Mapping[str, Any]) -> Figure:
    """Six panels with every run, the medians and their 16-84 % bands.

    Above: two-sample AUC of each class against 0.5 ± σ of the same jets, and the rejection of both taggers, whose runs
    are joined. Below: background and signal efficiencies at the cut that the simulation says after each correction,
    against the true ones of the data. To the right, without signal: AUC of the tagger of two parts of the background
    against 0.5 ± σ, and the excess over what the simulation says of background alone against 0 ± 1 standard deviations.

    Args:
        content: the object of `weak simulators --json`.
    """
    several = len(content["runs"]) > 1
    with house_style():
        figure = Figure(figsize=(13.6, 7.6), layout="constrained")
        (same, taggers, nothing), (*efficiencies, excess) = figure.subplots(2, 3)
        _draw_same(same, content)
        _draw_taggers(taggers, content)
        _draw_nothing(nothing, excess, content)
        for place, kind in zip(efficiencies, ("background", "signal"), strict=True):
            _draw_efficiency(place, content, kind)
        same.text(0, 1.02, "Simulation", transform=same.transAxes, style="italic", fontsize=12)
        _tell(efficiencies[0], "cut: keeps half of the simulation's signal")
        _point(taggers, [], [], "0.4", "o", label="median and 16-84 % of runs" if several else "the one run")
        if several:
            taggers.plot([], [], color="0.4", label="runs", **RUNS)
        handles = dict[str, Any]()
        for place in (taggers, same, *efficiencies, excess):
            handles |= {label: handle for handle, label in zip(*place.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False)
        return figure


def _draw_same(place: Any, content: Mapping[str, Any]) -> None:
    """Whether a classifier tells the jets of one class apart."""
    rows = content["same"]
    for i, row in enumerate(rows):
        _expect(place, i, 0.5, row["two_sample_sigma_median"])
        runs = [
            line["two_sample_auc"] for run in content["runs"] for line in run["same"] if line["class"] == row["class"]
        ]
        _draw_point(place, i, row, "two_sample_auc", runs, OF_METHODS[0], MARKERS[0])
    place.axhline(0.5, color="0.4", lw=1, ls=":")
    _name(place, [row["class"] for row in rows], "Class")
    place.set_ylabel("Two-sample AUC")


def _draw_taggers(place: Any, content: Mapping[str, Any]) -> None:
    """Rejection in the data of the taggers trained in either; the runs are joined, for they judge on the same jets."""
    rows = {row["trained"]: row for row in content["taggers"]}
    found = [{line["trained"]: line["background_rejection"] for line in run["taggers"]} for run in content["runs"]]
    runs = [{name: run[name] for name in ("data", "simulation")} for run in found]
    apart = _apart(len(runs))
    for x, run in zip(apart, runs, strict=True):
        if None not in run.values():
            place.plot([x, 1 + x], list(run.values()), color="0.8", lw=0.8, zorder=1)
    for i, (name, colour, marker) in enumerate((("data", "0.2", "X"), ("simulation", OF_METHODS[0], MARKERS[0]))):
        _draw_point(place, i, rows[name], "background_rejection", [run[name] for run in runs], colour, marker)
    for x in [i + x for x, run in zip(apart, runs, strict=True) for i, name in enumerate(run) if run[name] is None]:
        place.plot(x, 0.97, color="0.4", marker="^", ms=5, transform=place.get_xaxis_transform())
    lost = [rows["simulation"][f"lost_{edge}"] for edge in EDGES]
    if None in lost:
        _tell(place, "arrows: no background passes")
    elif len(runs) > 1:
        _tell(place, "rejection lost: {:.0f} % ({:.0f} to {:.0f})".format(*(100 * value for value in lost)))
    else:
        _tell(place, f"rejection lost: {100 * lost[0]:.0f} %")
    _name(place, ["data", "simulation"], "Tagger trained in")
    known = [value for run in runs for value in run.values() if value is not None]
    place.set_ylim(0, 1.15 * max(known, default=1.0))
    place.set_ylabel("Background rejection\nat 50 % signal efficiency")


def _draw_nothing(tagger: Any, excess: Any, content: Mapping[str, Any]) -> None:
    """What a tagger of background alone tells apart, and what the corrections leave over the said background."""
    nothing, each = content["no_signal"], [run["no_signal"] for run in content["runs"]]
    for place, axis, kind, key, name in (
        (tagger, "Tagger trained in the simulation on", "taggers", "auc", "trained"),
        (excess, "Correction of the simulation", "rows", "excess_sigma", "method"),
    ):
        rows = nothing[kind]
        expected = 0.5 if place is tagger else 0.0
        for i, row in enumerate(rows):
            _expect(place, i, expected, row["auc_sigma_median"] if place is tagger else 1.0)
            runs = [run[kind][i][key] for run in each]
            _draw_point(place, i, row, key, runs, OF_METHODS[i % len(OF_METHODS)], MARKERS[i % len(MARKERS)])
        place.axhline(expected, color="0.4", lw=1, ls=":")
        known = [abs(run[kind][i][key] - expected) for run in each for i in range(len(rows))]
        most = 1.15 * max(*known, 3 * (rows[0]["auc_sigma_median"] if place is tagger else 1.0))
        place.set_ylim(expected - most, expected + most)
        _name(place, [row[name] for row in rows], axis)
    _tell(tagger, NO_SIGNAL)
    _tell(excess, f"{NO_SIGNAL}; cut: keeps {nothing['signal_kept']:.0%}".replace("%", " %"))
    tagger.set_ylabel("AUC in the data's background")
    excess.set_ylabel("Excess over the background said [σ]")


def _draw_efficiency(place: Any, content: Mapping[str, Any], kind: str) -> None:
    """What the simulation says of one class after each correction, and what is true in the data."""
    rows = content["rows"]
    said, true = f"{kind}_efficiency_said", f"{kind}_efficiency_true"
    # The cut is the same for all methods, and so is what is true.
    median, low, high = (rows[0][f"{true}_{edge}"] for edge in EDGES)
    place.axhspan(low, high, color="0.88", lw=0)
    place.axhline(median, color="0.2", lw=1.4, ls="--", label="true in the data")
    for i, row in enumerate(rows):
        runs = [line[said] for run in content["runs"] for line in run["rows"] if line["method"] == row["method"]]
        _draw_point(place, i, row, said, runs, OF_METHODS[i % len(OF_METHODS)], MARKERS[i % len(MARKERS)])
    _name(place, [row["method"] for row in rows], "Correction of the simulation")
    if kind == "background":
        place.set_ylim(bottom=0)
    place.set_ylabel(f"{kind.capitalize()} efficiency at the cut")


def _expect(place: Any, x: int, at: float, sigma: float) -> None:
    """Where a point lies by chance, within one standard deviation."""
    edges = [at - sigma] * 2, [at + sigma] * 2
    place.fill_between([x - 0.4, x + 0.4], *edges, color="0.88", lw=0, label="no difference ± σ")


def _draw_point(
    place: Any, x: int, row: Mapping[str, Any], key: str, runs: Sequence[float | None], colour: str, marker: str
) -> None:
    """Runs as pale dots, in their order from left to right, and the median with its band in front of them."""
    if len(runs) > 1:
        numbers = np.array(runs, float)  # a run without a number has no dot
        place.plot(x + _apart(len(runs)), numbers, color=colour, clip_on=False, **RUNS)
    median, low, high = (row[f"{key}_{edge}"] for edge in EDGES)
    if median is not None:
        ends = None if len(runs) == 1 else [[median - low], [high - median]]
        _point(place, x, median, colour, marker, yerr=ends)


def _point(place: Any, x: Any, y: Any, colour: str, marker: str, **options: Any) -> None:
    look = {"ls": "none", "ms": 8, "capsize": 4, "mec": "black", "zorder": 3}
    place.errorbar(x, y, color=colour, marker=marker, **look, **options)


def _apart(count: int) -> npt.NDArray[np.float64]:
    """(n,) places of runs beside the middle."""
    return np.linspace(-0.25, 0.25, count) if count > 1 else np.zeros(1)


def _tell(place: Any, text: str) -> None:
    place.text(1, 1.02, text, transform=place.transAxes, ha="right", fontsize=12)


def _name(place: Any, names: Sequence[str], axis: str) -> None:
    place.set_xticks(range(len(names)), names)
    place.tick_params(axis="x", which="both", length=0)
    place.set_xlim(-0.5, len(names) - 0.5)
    place.set_xlabel(axis)
