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
    "SHIFT_HEAD",
    "calibration_lines",
    "calibration_markdown",
    "calibration_statement",
    "draw_reliability",
    "shift_lines",
    "shift_markdown",
    "shift_statement",
]

CALIBRATION_HEAD = ("run", "method", "ECE", "ECE floor", "NLL", "Brier", "accuracy", "T")
SHIFT_HEAD = ("method", "distance", "floor", "events", "eff. B said", "eff. B true", "eff. S said", "eff. S true")
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
    """The cells of `SHIFT_HEAD`, from the object of `weak shift --json`: medians over runs with their bands."""

    def cell(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
        if row[name] is None:
            return "n/a"
        median, low, high = (f"{row[key]:.{digits}g}" for key in (name, f"{name}_low", f"{name}_high"))
        return f"{median} ({low} to {high})" if content["n_runs"] > 1 else median

    kinds = [f"{kind}_efficiency_{which}" for kind in ("background", "signal") for which in ("said", "true")]
    return [
        [
            row["method"],
            cell(row, "distance"),
            cell(row, "distance_floor"),
            cell(row, "effective_sample_size", 4),
            *(cell(row, name) for name in kinds),
        ]
        for row in content["rows"]
    ]


def shift_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of a domain shift are."""
    return (
        f"{_over_runs(content)} Distance: Wasserstein's, in log odds of {content['signal']}, "
        "between the scores of the source after the "
        "method and those of the target; floor: between halves of the target. Events: effective sample size of the "
        f"{content['n_source']} source jets that judge. Efficiencies at the cut that keeps half of the source's "
        f"{content['signal']}: said by the source after the method, and true in the target. Half of each sample fits, "
        f"the other half judges; no label is used in the fit. Between runs varied: {content['varied']}."
    )


def _over_runs(content: Mapping[str, Any]) -> str:
    return f"Medians over {content['n_runs']} runs with 16-84 % bands." if content["n_runs"] > 1 else "One run."


def shift_markdown(content: Mapping[str, Any]) -> str:
    """The table with its statement and notes."""
    cells = [[escape_markdown(cell) for cell in line] for line in shift_lines(content)]
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    parts = [markdown(list(SHIFT_HEAD), cells), escape_markdown(shift_statement(content)), *notes]
    return "\n\n".join(parts) + "\n"
