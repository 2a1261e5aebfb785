"""Vertex efficiency, purity and fake rate against jet pT as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jettag.evaluation.flavour_plots import across_bins, scale_pt
from jettag.evaluation.plots import COLOURS, house_style

__all__ = ["draw_vertices"]

PANELS = {"efficiency": "Vertex efficiency", "purity": "Vertex purity", "found_rate": "Share of jets with a vertex"}
OFTEN = 0.1  # true vertices a jet in classes whose efficiency and purity are shown

Rows = Sequence[Mapping[str, Any]]


def draw_vertices(by_kind: Mapping[str, Mapping[str, Rows]]) -> Figure:
    """Efficiency, purity and the share of jets with a vertex against pT; open points are of all vertices of a jet.

    Efficiency and purity are shown of classes that have true vertices; of light jets the share with a vertex is the
    fake rate.

    Args:
        by_kind: ``vertices_by_pt`` of `jettag.evaluation.flavour.judge`: kind, class, bins.
    """
    classes = by_kind["exclusive"]
    heavy = [
        name for name, rows in classes.items() if sum(r["true"] for r in rows) > OFTEN * sum(r["jets"] for r in rows)
    ]
    with house_style():
        figure = Figure(figsize=(16, 5), layout="constrained")
        for place, (share, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            alike = share == "found_rate"  # whether anything is found does not depend on what is put together
            kinds = ["exclusive"] if alike else list(by_kind)
            series = [(name, kind) for name in (classes if alike else heavy) for kind in kinds]
            for i, (name, kind) in enumerate(series):
                colour = COLOURS[list(classes).index(name) % len(COLOURS)]
                style = {"color": colour, "mfc": colour if kind == "exclusive" else "white"}
                style |= {"label": name if kind == "exclusive" else f"{name}, together"}
                _points(place, by_kind[kind][name], share, (i, len(series)), style)
            place.set_ylim(0, 1.3)  # room for the legend
            place.set_yticks(np.linspace(0, 1, 6))
            place.set_ylabel(label)
            place.set_title("Simulation", fontsize=12, loc="left")
            scale_pt(place, [row for rows in classes.values() for row in rows])
            if place.get_legend_handles_labels()[0]:
                place.legend(frameon=False, ncols=2)
        return figure


def _points(place: Axes, rows: Rows, share: str, number: tuple[int, int], style: Mapping[str, Any]) -> None:
    rows = [row for row in rows if row[share] is not None]
    if not rows:
        return
    value, low, high = (np.array([row[f"{share}{edge}"] for row in rows]) for edge in ("", "_low", "_high"))
    middle, half = across_bins(rows, *number)
    place.errorbar(middle, value, yerr=(value - low, high - value), xerr=half, fmt="o", ms=5, **style)
