"""Vertex efficiency, purity and fake rate against jet pT as a picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jettag.evaluation.plots import COLOURS, house_style

__all__ = ["draw_vertices"]

PANELS = {"efficiency": "Vertex efficiency", "purity": "Vertex purity", "found_rate": "Share of jets with a vertex"}
TITLES = {"exclusive": "vertices one by one", "inclusive": "all of a jet together"}


def draw_vertices(by_kind: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> Figure:
    """Efficiency, purity and the share of jets with a vertex against pT, a row of panels for each kind.

    Efficiency and purity are shown of classes that have true vertices; of light jets the share with a vertex is the
    fake rate.

    Args:
        by_kind: ``vertices_by_pt`` of `jettag.evaluation.flavour.judge`: kind, class, bins.
    """
    with house_style():
        figure = Figure(figsize=(16, 4.5 * len(by_kind)), layout="constrained")
        axes = figure.subplots(len(by_kind), len(PANELS), squeeze=False, sharex=True)
        for line, (kind, by_class) in zip(axes, by_kind.items(), strict=True):
            for place, (share, label) in zip(line, PANELS.items(), strict=True):
                for i, (name, rows) in enumerate(by_class.items()):
                    if share == "found_rate" or any(row["true"] for row in rows):
                        _points(place, [row for row in rows if row[share] is not None], share, name, COLOURS[i])
                place.set_ylim(0, 1.05)
                place.set_ylabel(label)
                place.set_title(f"Simulation, {TITLES[kind]}", fontsize=12, loc="left")
                if place.get_legend_handles_labels()[0]:
                    place.legend(frameon=False)
        for place in axes[-1]:
            place.set_xlabel("Jet $p_T$ [GeV]")
        return figure


def _points(place: Axes, rows: Sequence[Mapping[str, Any]], share: str, name: str, colour: str) -> None:
    if not rows:
        return
    value, low, high = (np.array([row[f"{share}{edge}"] for row in rows]) for edge in ("", "_low", "_high"))
    edges = np.array([(row["pt_low"], row["pt_high"]) for row in rows], dtype=float)
    style: dict[str, Any] = {"fmt": "o", "ms": 4, "label": name, "color": colour}
    place.errorbar(edges.mean(axis=1), value, yerr=(value - low, high - value), xerr=np.diff(edges)[:, 0] / 2, **style)
