"""Background rejection against labelled jets, a curve for each mode; below it what the modes gain over scratch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from jettag.evaluation.blocks import short_count
from jettag.evaluation.label_saving import EDGES, SCRATCH
from jettag.evaluation.plots import COLOURS, LIMIT, house_style

__all__ = ["draw_label_curves"]

MOST_PANELS = 4
MARKERS = "osDPXhp*8d"  # no arrow heads: those are limits
BOUNDS = {">": "^", "<": "v"}
FACTORS = {"rejection_ratio": "Ratio to\nscratch", "label_saving": "Label\nsaving"}  # what has a panel of its own


def draw_label_curves(content: Mapping[str, Any]) -> Figure:
    """Medians over seeds with the band from 16 to 84 % of the seeds, both axes logarithmic.

    Args:
        content: the object of `scan --json`. The first pairs and efficiencies have a column each. A seed in which no
            background jet passes counts with its lower limit; a median that rests on one is an arrow head. Ratios to
            scratch and label savings have panels where there are any.
    """
    keys = list(dict.fromkeys(_panel(row) for row in content["rows"]))[:MOST_PANELS]
    modes = list(dict.fromkeys(row["mode"] for row in content["rows"]))
    factors = [name for name in FACTORS if any(item[name] is not None for item in content["label_saving"])]
    with house_style():
        heights = [3.0, *(1.3 for _ in factors)]
        figure = Figure(figsize=(6.0 * len(keys) + 2.2, 4.2 + 2.2 * len(factors)), layout="constrained")
        axes = figure.subplots(
            len(heights), len(keys), squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
        )
        for column, key in enumerate(keys):
            upper, *lower = axes[:, column]
            rows = [row for row in content["rows"] if _panel(row) == key]
            bounds = set()
            for i, mode in enumerate(modes):
                mine = [row for row in rows if row["mode"] == mode]
                if _draw_curve(upper, mine, mode, i):
                    bounds.add(">")
                if mode != SCRATCH:
                    savings = [item for item in content["label_saving"] if _panel(item) == key]
                    savings = [item for item in savings if item["mode"] == mode]
                    for place, name in zip(lower, factors, strict=True):
                        bounds |= _draw_factor(place, savings, name, i)
            for bound, name in ((">", "lower limit"), ("<", "upper limit")):
                if bound in bounds:
                    upper.plot([], [], color="0.4", label=name, marker=BOUNDS[bound], markersize=6, linestyle="none")
            _axes((upper, *lower), sorted({row["n_train"] for row in rows}))
            signal, background, efficiency = key
            text = f"{signal} against {background}, signal efficiency {efficiency:.3g}"
            size = 11 if len(keys) > 1 else 12
            upper.text(0, 1.015, "Simulation", transform=upper.transAxes, style="italic", fontsize=size)
            upper.text(1, 1.015, text.replace("$", r"\$"), transform=upper.transAxes, ha="right", fontsize=size)
        axes[0, 0].set_ylabel("Background rejection")
        for place, name in zip(axes[1:, 0], factors, strict=True):
            place.set_ylabel(FACTORS[name])
        figure.align_ylabels(axes[:, 0])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
        return figure


def _panel(item: Mapping[str, Any]) -> tuple[str, str, float]:
    return item["signal"], item["background"], item["signal_efficiency"]


def _draw_curve(place: Any, rows: Sequence[Mapping[str, Any]], mode: str, i: int) -> bool:
    """Whether one of the medians is a lower limit."""
    labels = sorted({row["n_train"] for row in rows})
    middle, low, high, limit = [], [], [], []
    for n in labels:
        here = [row for row in rows if row["n_train"] == n]
        values = [row["background_rejection"] or row["background_rejection_low"] for row in here]
        middle.append(float(np.median(values)))
        edges = np.exp(np.quantile(np.log(values), EDGES))
        low.append(edges[0])
        high.append(edges[1])
        limit.append(2 * sum(row["background_rejection"] is None for row in here) >= len(here))
    colour = COLOURS[i % len(COLOURS)]
    place.plot(labels, middle, color=colour)
    place.fill_between(labels, low, high, color=colour, alpha=0.2, lw=0)
    known = [(n, value) for n, value, bound in zip(labels, middle, limit, strict=True) if not bound]
    place.plot(*_columns(known), color=colour, linestyle="none", marker=MARKERS[i % len(MARKERS)], markersize=5)
    place.plot([], [], color=colour, marker=MARKERS[i % len(MARKERS)], markersize=5, label=mode)
    bounds = [(n, value) for n, value, bound in zip(labels, middle, limit, strict=True) if bound]
    place.plot(*_columns(bounds), color=colour, **LIMIT | {"linestyle": "none", "markersize": 8})
    return bool(bounds)


def _draw_factor(place: Any, savings: Sequence[Mapping[str, Any]], name: str, i: int) -> set[str]:
    """``rejection_ratio`` or ``label_saving`` with its interval; the bounds among the latter, which are arrow heads."""
    known = [item for item in savings if item[name] is not None]
    colour = COLOURS[i % len(COLOURS)]
    bounds = [item["bound"] if name == "label_saving" else "" for item in known]
    labels = [item["n_train"] for item in known]
    values = [item[name] for item in known]
    low = [item[f"{name}_low"] or item[name] for item in known]
    high = [item[f"{name}_high"] or item[name] for item in known]
    place.plot(labels, values, color=colour)
    place.fill_between(labels, low, high, color=colour, alpha=0.2, lw=0)
    for n, value, bound in zip(labels, values, bounds, strict=True):
        marker = BOUNDS.get(bound, MARKERS[i % len(MARKERS)])
        place.plot(n, value, color=colour, marker=marker, markersize=8 if bound else 5)
    return set(bounds) - {""}


def _axes(panels: Sequence[Any], labels: Sequence[int]) -> None:
    for place in panels:
        place.set_xscale("log")
        place.set_yscale("log")
        for axis in (place.xaxis, place.yaxis):
            axis.set_minor_formatter(NullFormatter())
    for place in panels:
        place.autoscale_view()  # margins of the linear scale may reach below zero
        bottom, top = place.get_ylim()
        place.yaxis.set_major_formatter(FuncFormatter(_plain))
        if 0 < bottom < top < 100 * bottom:  # a decade's labels alone would leave the axis bare
            place.yaxis.set_minor_formatter(FuncFormatter(_one_two_five))
    for place in panels[1:]:
        place.axhline(1.0, color="0.4", lw=1, ls="--")
    panels[-1].set_xlim(labels[0] / 1.3, labels[-1] * 1.3)
    panels[-1].set_xticks(labels, [short_count(n) for n in labels])
    panels[-1].set_xlabel("Labelled jets")


def _plain(value: float, _: object = None) -> str:
    return f"{value:g}"


def _one_two_five(value: float, _: object = None) -> str:
    leading = value / 10 ** math.floor(math.log10(value) + 1e-9)
    return f"{value:g}" if round(leading, 6) in (1, 2, 5) else ""


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
