"""Pictures of flavour tagging: rejections with ratio panels, against pT, fraction scans."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from jettag.evaluation.flavour import Discriminant, FlavourScores
from jettag.evaluation.metrics import Curve, rejection_curve
from jettag.evaluation.plots import COLOURS, DASHES, house_style

__all__ = ["across_bins", "draw_by_pt", "draw_rejection", "draw_scan", "scale_pt"]

LOWEST, POINTS = 0.4, 200  # signal efficiencies shown
LOG_BEYOND = 1000  # GeV
LOG_TICKS = (20, 50, 100, 200, 500, 1000, 2000, 5000)  # GeV
SCAN_PANELS = 4
ENOUGH = 10  # background jets that pass, for the scale of a ratio

FloatArray = npt.NDArray[np.float64]


def _style(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[(i // len(COLOURS)) % len(DASHES)]}


def draw_rejection(runs: Sequence[tuple[FlavourScores, Discriminant]]) -> Figure:
    """Rejection of each background against signal efficiency, and below its ratio to the first run's.

    Args:
        runs: with a discriminant of one signal and the same backgrounds.
    """
    names = [
        name
        for name in runs[0][1].fractions
        if all(run.of(tuple(chosen.groups[name])).any() for run, chosen in runs if name in chosen.groups)
    ]
    efficiency = np.linspace(LOWEST, 1, POINTS)
    with house_style():
        figure = Figure(figsize=(6.0 * len(names), 7.0), layout="constrained")
        axes = figure.subplots(2, len(names), squeeze=False, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
        for column, name in enumerate(names):
            above, below = axes[:, column]
            reference: Curve | None = None
            for i, (run, chosen) in enumerate(runs):
                if name not in chosen.fractions:
                    continue
                score = run.score(chosen)
                own = score[run.of(tuple(chosen.groups[name]))]
                curve = rejection_curve(score[run.of(chosen.signal)], own, efficiency)
                reference = reference or curve
                above.plot(efficiency, curve.rejection, label=run.scores.run, **_style(i))
                below.plot(efficiency, curve.rejection / reference.rejection, **_style(i))
                for place, scale in ((above, 1.0), (below, reference.rejection)):
                    band = (curve.low / scale, curve.high / scale)
                    place.fill_between(efficiency, *band, color=_style(i)["color"], alpha=0.2, lw=0)
            above.set_yscale("log")
            above.set_ylim(bottom=1)
            above.set_ylabel(f"{name} rejection")
            above.set_title(f"D({runs[0][1].name}), simulation", fontsize=12, loc="left")
            above.legend(frameon=False)
            below.set_ylim(0.5, 2.0)
            below.set_ylabel("Ratio")
            below.set_xlabel(f"{runs[0][1].name} efficiency")
            below.set_xlim(LOWEST, 1)
        return figure


def across_bins(rows: Sequence[Mapping[str, Any]], series: int, of: int) -> tuple[FloatArray, FloatArray]:
    """Where a series' points stand in its bins of pT, beside those of the others, and how far the bins reach.

    Returns:
        (R,) [GeV] and (2, R) [GeV] to the edges below and above.
    """
    edges = np.array([(row["pt_low"], row["pt_high"]) for row in rows], dtype=np.float64).reshape(-1, 2)
    place = edges[:, 0] + (edges[:, 1] - edges[:, 0]) * (series + 1) / (of + 1)
    return place, np.stack([place - edges[:, 0], edges[:, 1] - place])


def scale_pt(place: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """The axis of pT, logarithmic beyond a TeV."""
    if rows and (highest := max(row["pt_high"] for row in rows)) > LOG_BEYOND:
        place.set_xscale("log")
        lowest = min(row["pt_low"] for row in rows)
        shown = [value for value in LOG_TICKS if lowest <= value <= highest]
        place.set_xticks(shown, [str(value) for value in shown])
        place.xaxis.set_minor_formatter(NullFormatter())
    place.set_xlabel("Jet $p_T$ [GeV]")


def draw_by_pt(rows: Sequence[Mapping[str, Any]], signal: str) -> Figure:
    """Rejection against jet pT, left with one cut for all, right with one of equal efficiency in each bin.

    Open triangles are lower limits, where no background jet passes.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["fixed_cut"]["rejections"]))
    kinds = {"fixed_cut": "one cut", "flat_efficiency": "70 % in each bin"}
    with house_style():
        figure = Figure(figsize=(11, 5), layout="constrained")
        for place, (kind, title) in zip(figure.subplots(1, 2), kinds.items(), strict=True):
            for i, name in enumerate(names):
                there = [row for row in rows if name in row[kind]["rejections"]]
                have = [row for row in there if row[kind]["rejections"][name]["background_rejection"] is not None]
                found = [row[kind]["rejections"][name] for row in have]
                value = np.array([entry["background_rejection"] for entry in found])
                low = np.array([entry["background_rejection_low"] for entry in found])
                high = np.array([entry["background_rejection_high"] for entry in found])
                middle, half = across_bins(have, i, len(names))
                error = (value - low, high - value)
                place.errorbar(middle, value, yerr=error, xerr=half, fmt="o", ms=4, label=name, color=COLOURS[i])
                nothing = [row for row in there if row not in have]
                if nothing:  # passes: a lower limit
                    limit = [row[kind]["rejections"][name]["background_rejection_low"] for row in nothing]
                    middle, half = across_bins(nothing, i, len(names))
                    style = {"color": COLOURS[i], "marker": "^", "ms": 6, "mfc": "none", "ls": "none"}
                    place.errorbar(middle, limit, xerr=half, **style)
            scale_pt(place, rows)
            place.set_yscale("log")
            place.set_ylim(top=3 * place.get_ylim()[1])  # room for the legend
            place.set_ylabel("Background rejection")
            place.set_title(f"D({signal}), {title}", fontsize=12, loc="left")
            place.legend(frameon=False, ncols=3)
        return figure


def draw_scan(chosen: Discriminant) -> Figure:
    """Efficiencies over the scanned fractions, of the first background against each other, and the chosen point."""
    efficiencies = np.array(chosen.scan["efficiencies"])
    names = chosen.scan["backgrounds"]
    best = efficiencies[chosen.scan["best"]]
    others = range(1, min(len(names), SCAN_PANELS + 1))
    with house_style():
        figure = Figure(figsize=(5.0 * len(others) + 1, 5), layout="constrained")
        axes = figure.subplots(1, len(others), squeeze=False, sharex=True)[0]
        fraction = np.array(chosen.scan["fractions"])[:, 0]
        shown = ", ".join(f"$f_{{{name}}}$ = {value:.3g}" for name, value in chosen.fractions.items())
        for place, k in zip(axes, others, strict=True):
            dots = place.scatter(
                efficiencies[:, 0], efficiencies[:, k], c=fraction, cmap="viridis", s=12, clip_on=False
            )
            place.plot(best[0], best[k], "*", color=COLOURS[2], ms=14, clip_on=False)
            place.set_xlabel(f"{names[0]} efficiency")
            place.set_ylabel(f"{names[k]} efficiency")
            if efficiencies[:, [0, k]].min() > 0:
                place.set_yscale("log")
            else:
                place.set_ylim(bottom=0)
            place.set_title(f"D({chosen.name}), validation jets\n{shown}", fontsize=12, loc="left")
        figure.colorbar(dots, ax=axes, label=f"$f_{{{names[0]}}}$")
        return figure
