"""What `jettag weak calibrate` and `weak shift` leave: tables, and the reliability diagram."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from jettag.evaluation.plots import COLOURS, house_style
from jettag.evaluation.tables import escape_markdown, markdown

__all__ = [
    "CALIBRATION_HEAD",
    "EFFICIENCIES",
    "SHIFT_HEAD",
    "TAGGER_HEAD",
    "calibration_lines",
    "calibration_markdown",
    "calibration_statement",
    "correction_lines",
    "draw_reliability",
    "shift_lines",
    "shift_markdown",
    "shift_statement",
    "simulators_markdown",
    "simulators_statement",
    "tagger_lines",
]

CALIBRATION_HEAD = ("run", "method", "ECE", "ECE floor", "NLL", "Brier", "accuracy", "T")
SHIFT_HEAD = ("method", "distance", "floor", "events", "eff. B said", "eff. B true", "eff. S said", "eff. S true")
EFFICIENCIES = tuple(f"{kind}_efficiency_{which}" for kind in ("background", "signal") for which in ("said", "true"))
TAGGER_HEAD = ("what", "median", "16 %", "84 %")
CLOSEST = 1 - 1e-6  # to 1 that a probability is drawn
MARKERS = "osDv^<>pP*"


def calibration_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `CALIBRATION_HEAD`, from the object of `weak calibrate --json`."""
    return [
        [
            row["run"],
            row["method"],
            f"{row['ece']:.4f}",
            f"{row['ece_floor']:.4f}",
            f"{row['nll']:.4f}",
            f"{row['brier']:.4f}",
            f"{row['accuracy']:.4f}",
            "" if row["temperature"] is None else f"{row['temperature']:.3f}",
        ]
        for row in content["rows"]
    ]


def calibration_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of a calibration are."""
    return (
        f"Expected calibration error of the highest probability in 15 bins of equal population, over "
        f"{content['n_test']} test jets of {', '.join(content['class_names'])}; floor: that of a tagger which is right "
        "about itself. NLL in nats. Temperatures and Laplace approximations are fitted on "
        f"{content['n_calibration']} other jets."
    )


def calibration_markdown(content: Mapping[str, Any]) -> str:
    """The table with its statement and notes."""
    cells = [[escape_markdown(cell) for cell in line] for line in calibration_lines(content)]
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    parts = [markdown(list(CALIBRATION_HEAD), cells), escape_markdown(calibration_statement(content)), *notes]
    return "\n\n".join(parts) + "\n"


def draw_reliability(content: Mapping[str, Any]) -> Figure:
    """Accuracy less confidence against confidence for every row, with binomial errors; zero is right.

    The axis is that of log odds: most jets of a good tagger lie close to 1.
    """
    with house_style():
        figure = Figure(figsize=(8.6, 5.0), layout="constrained")
        place = figure.subplots()
        for i, (name, curve) in enumerate(content["reliability"].items()):
            said, came, count = (np.array(curve[key], float) for key in ("confidence", "accuracy", "count"))
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "ms": 4}
            # Expected where the tagger is right about itself; that of the accuracy is zero where no jet is wrong.
            error = np.sqrt(said * (1 - said) / count)
            place.errorbar(np.minimum(said, CLOSEST), came - said, yerr=error, lw=1, label=name, **style)
        place.axhline(0, color="0.4", lw=1, ls=":")
        place.set_xscale("logit")
        place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        place.xaxis.set_minor_formatter(NullFormatter())
        place.set_xlabel("Highest class probability")
        place.set_ylabel("Accuracy - probability")
        place.text(0, 1.015, "Simulation", transform=place.transAxes, style="italic", fontsize=12)
        figure.legend(loc="outside right upper", frameon=False)
        return figure


def shift_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `SHIFT_HEAD`, from the object of `weak shift --json`."""

    def number(value: float | None, digits: int = 3) -> str:
        return "n/a" if value is None else f"{value:.{digits}g}"

    return [
        [
            row["method"],
            number(row["distance"]),
            number(row["distance_floor"]),
            number(row["effective_sample_size"], 4),
            *(
                number(row[f"{kind}_efficiency_{which}"])
                for kind in ("background", "signal")
                for which in ("said", "true")
            ),
        ]
        for row in content["rows"]
    ]


def shift_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of a domain shift are."""
    return (
        f"Distance: Wasserstein's, in log odds of {content['signal']}, between the scores of the source after the "
        "method and those of the target; floor: between halves of the target. Events: effective sample size of the "
        f"{content['n_source']} source jets that judge. Efficiencies at the cut that keeps half of the source's "
        f"{content['signal']}: said by the source after the method, and true in the target. Half of each sample fits, "
        "the other half judges; no label is used in the fit."
    )


def shift_markdown(content: Mapping[str, Any]) -> str:
    """The table with its statement and notes."""
    cells = [[escape_markdown(cell) for cell in line] for line in shift_lines(content)]
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    parts = [markdown(list(SHIFT_HEAD), cells), escape_markdown(shift_statement(content)), *notes]
    return "\n\n".join(parts) + "\n"


def tagger_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `TAGGER_HEAD`, from the object of `weak simulators --json`."""

    def line(what: str, row: Mapping[str, Any], key: str, form: str) -> list[str]:
        numbers = [row[f"{key}_{edge}"] for edge in ("median", "low", "high")]
        return [what, *("n/a" if value is None else format(value, form) for value in numbers)]

    found = []
    for row in content["same"]:
        what = f"two-sample AUC of {row['class']} (the same: 0.5 ± {row['two_sample_sigma_median']:.3f})"
        found.append(line(what, row, "two_sample_auc", ".3f"))
    for row in content["taggers"]:
        where = f"in the data, trained in the {row['trained']}"
        found.append(line(f"AUC {where}", row, "auc", ".4f"))
        found.append(line(f"rejection at 0.5 {where}", row, "background_rejection", ".1f"))
        if row["trained"] == "simulation":
            found.append(line("rejection lost by training in the simulation", row, "lost", ".1%"))
    return found


def correction_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `SHIFT_HEAD`: medians with their bands."""

    def cell(row: Mapping[str, Any], key: str, form: str) -> str:
        numbers = [row[f"{key}_{edge}"] for edge in ("median", "low", "high")]
        if numbers[0] is None:
            return "n/a"
        median, low, high = (format(value, form) for value in numbers)
        return f"{median} ({low} to {high})"

    return [
        [
            row["method"],
            *(cell(row, key, ".3f") for key in ("distance", "distance_floor")),
            cell(row, "effective_share", ".0%"),
            *(cell(row, key, ".4f") for key in EFFICIENCIES),
        ]
        for row in content["rows"]
    ]


def simulators_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of two simulations are."""
    return (
        f"Medians over runs with 16-84 % bands; trees on {', '.join(content['features'])}. Both taggers are trained "
        "on as many jets and judged on the same ones of the data; lost: 1 - their rejections' ratio in each run. "
        "Distance: Wasserstein's, in log odds of the simulation's tagger, between its scores in the simulation after "
        "the method and in the data, as many of each class in both; floor: between halves of the data. "
        "Events: effective sample size over the jets that judge. "
        "Efficiencies at the cut that keeps half of the simulation's signal: said by the simulation after the method, "
        f"and true in the data. No label is used in a correction. Between runs varied: {content['varied']}."
    )


def simulators_markdown(content: Mapping[str, Any]) -> str:
    """Both tables with the statement and notes."""
    tables = [
        markdown(list(head), [[escape_markdown(cell) for cell in line] for line in found])
        for head, found in ((TAGGER_HEAD, tagger_lines(content)), (SHIFT_HEAD, correction_lines(content)))
    ]
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    return "\n\n".join([*tables, escape_markdown(simulators_statement(content)), *notes]) + "\n"
