"""Pictures of flavour tagging: rejections with ratio panels, against pT, fraction scans."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jettag.evaluation.flavour import Discriminant, FlavourScores
from jettag.evaluation.metrics import Curve, rejection_curve
from jettag.evaluation.plots import COLOURS, DASHES, house_style

__all__ = ["draw_by_pt", "draw_rejection", "draw_scan"]

LOWEST, POINTS = 0.4, 200  # signal efficiencies shown
ENOUGH = 10  # background jets that pass, for the scale of a ratio


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
                edges = np.array([(row["pt_low"], row["pt_high"]) for row in have]).reshape(-1, 2)
                middle, half = edges.mean(axis=1), np.diff(edges, axis=1)[:, 0] / 2
                error = (value - low, high - value)
                place.errorbar(middle, value, yerr=error, xerr=half, fmt="o", ms=4, label=name, color=COLOURS[i])
                for row in there:
                    if row not in have:  # nothing passes: a lower limit
                        low_pt, high_pt = row["pt_low"], row["pt_high"]
                        limit = row[kind]["rejections"][name]["background_rejection_low"]
                        style = {"color": COLOURS[i], "marker": "^", "ms": 6, "mfc": "none", "ls": "none"}
                        place.errorbar((low_pt + high_pt) / 2, limit, xerr=(high_pt - low_pt) / 2, **style)
            place.set_yscale("log")
            place.set_xlabel("Jet $p_T$ [GeV]")
            place.set_ylabel("Background rejection")
            place.set_title(f"D({signal}), {title}", fontsize=12, loc="left")
            place.legend(frameon=False)
        return figure


def draw_scan(chosen: Discriminant) -> Figure:
    """Efficiencies of the first two backgrounds over the scanned fractions, and the point that was chosen."""
    efficiencies = np.array(chosen.scan["efficiencies"])
    names = chosen.scan["backgrounds"]
    best = efficiencies[chosen.scan["best"]]
    with house_style():
        figure = Figure(figsize=(6, 5), layout="constrained")
        place = figure.subplots()
        fraction = np.array(chosen.scan["fractions"])[:, 0]
        dots = place.scatter(efficiencies[:, 0], efficiencies[:, 1], c=fraction, cmap="viridis", s=12)
        figure.colorbar(dots, ax=place, label=f"$f_{{{names[0]}}}$")
        shown = ", ".join(f"$f_{{{name}}}$ = {value:.3g}" for name, value in chosen.fractions.items())
        place.plot(best[0], best[1], "*", color=COLOURS[2], ms=14, label=shown)
        place.set_xlabel(f"{names[0]} efficiency")
        place.set_ylabel(f"{names[1]} efficiency")
        if efficiencies.min() > 0:
            place.set_xscale("log")
            place.set_yscale("log")
        place.set_title(f"D({chosen.name}), validation jets", fontsize=12, loc="left")
        place.legend(frameon=False)
        return figure
