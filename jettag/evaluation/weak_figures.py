"""Figures of weak studies: gains of a signal put in, SIC curves, p-values of hunts, the price of forgetting a mass."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import norm

from jettag.evaluation.plots import COLOURS, house_style

__all__ = ["draw_decorrelation", "draw_hunt", "draw_max_sic", "draw_sic"]

MARKERS = "osDv^<>pP*"
PANELS = 6  # signal fractions whose curves are drawn, the largest ones


def draw_max_sic(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Median of the maximum SIC against the signal fraction with its 16-84 % band; a ceiling is a dashed line.

    A run without signal stands at the left edge, on an axis that is linear up to the smallest fraction.
    """
    with house_style():
        figure = Figure(figsize=(8.6, 5.4), layout="constrained")
        place = figure.subplots()
        fractions = sorted({row["fraction"] for row in rows if row["fraction"]})
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for row in rows:
            groups.setdefault((row["method"], row["row"]), []).append(row)
        colours = _colours(groups)
        for i, ((method, name), points) in enumerate(groups.items()):
            colour = colours[method, name]
            median, low, high = (
                np.array([row[f"max_sic_{edge}"] for row in points]) for edge in ("median", "low", "high")
            )
            if points[0]["fraction"] is None:
                place.axhline(median[0], color=colour, ls="--", label=f"{method} {name}")
                place.axhspan(low[0], high[0], color=colour, alpha=0.15, lw=0)
                continue
            x = [100 * row["fraction"] for row in points]
            place.plot(x, median, color=colour, marker=MARKERS[i % len(MARKERS)], label=f"{method} {name}")
            place.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
        if fractions:
            place.set_xscale("symlog", linthresh=100 * fractions[0])
            place.set_xlim(-20 * fractions[0], 125 * fractions[-1])  # a little room beyond 0 and the last
            place.set_xticks([0, *(100 * f for f in fractions)], ["0", *(f"{100 * f:.3g}" for f in fractions)])
        place.minorticks_off()
        place.axhline(1.0, color="0.4", lw=1, ls=":")
        place.set_yscale("log")
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        place.yaxis.set_minor_formatter(NullFormatter())
        place.set_xlabel(f"Signal fraction in {'the data' if 's_over_b_median' in rows[0] else 'M1'} [%]")
        place.set_ylabel("Maximum significance improvement")
        place.text(0, 1.015, "Simulation", transform=place.transAxes, style="italic", fontsize=12)
        figure.legend(loc="outside right upper", frameon=False)
        return figure


def _colours(groups: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """One colour for each method and row; ceilings, which are dashed, have that of the one method of the same row.

    Where there is no such one they have a colour of their own, or are grey where they would repeat one.
    """
    known = list(groups)
    mixed = [group for group in known if group[0] != "supervised"]
    colours = {group: COLOURS[i % len(COLOURS)] for i, group in enumerate(mixed)}
    alone: list[tuple[str, str]] = []
    for group in known:
        beside = [other for other in mixed if other[1] == group[1]]
        if group not in colours and len(beside) == 1:
            colours[group] = colours[beside[0]]
        elif group not in colours:
            alone.append(group)
    few = len(mixed) + len(alone) <= len(COLOURS)
    own = COLOURS[len(mixed) :] if few else [str(0.6 * i / len(alone)) for i in range(len(alone))]
    return {**colours, **dict(zip(alone, own, strict=False))}


def draw_sic(content: Mapping[str, Any]) -> Figure:
    """SIC against background rejection, one panel for each signal fraction: medians and 16-84 % bands.

    A curve ends where fewer than 25 background events pass; a ceiling is dashed, and a random score dotted.
    """
    with house_style():
        # Points of an earlier version have no curve.
        rows = [row for row in content["rows"] if row["sic_curve"]["median"]]
        efficiency = np.array(content["curve_efficiencies"])
        known = [np.array(row["sic_curve"]["median"], float) for row in rows]
        supported = np.any(np.isfinite(known), axis=0) if known else np.zeros(len(efficiency), dtype=bool)
        fractions = sorted({row["fraction"] for row in rows if row["fraction"]})[-PANELS:] or [0.0]
        columns = min(len(fractions), 3)
        lines = -(-len(fractions) // columns)
        figure = Figure(figsize=(3.6 * columns + 2.6, 3.4 * lines + 0.6), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
        colours = _colours(dict.fromkeys((row["method"], row["row"]) for row in rows))
        for place, fraction in zip(axes.flat, fractions, strict=False):
            for row in rows:
                if row["fraction"] not in (None, fraction):
                    continue
                colour = colours[row["method"], row["row"]]
                median, low, high = (np.array(row["sic_curve"][edge], float) for edge in ("median", "low", "high"))
                ceiling = row["fraction"] is None
                label = f"{row['method']} {row['row']}"
                place.plot(1 / efficiency, median, color=colour, ls="--" if ceiling else "-", label=label)
                place.fill_between(1 / efficiency, low, high, color=colour, alpha=0.15, lw=0)
            place.plot(1 / efficiency[supported], np.sqrt(efficiency[supported]), color="0.4", lw=1, ls=":")
            place.set_xscale("log")
            place.set_ylim(bottom=0)
            place.set_title(f"{100 * fraction:.3g} % signal", fontsize=12, loc="right")
        for place in axes.flat[len(fractions) :]:
            place.set_visible(False)
        figure.supxlabel("Background rejection", fontsize=13)
        figure.supylabel("Significance improvement", fontsize=13)
        axes.flat[0].set_title("Simulation", style="italic", fontsize=12, loc="left")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
        return figure


def draw_hunt(content: Mapping[str, Any]) -> Figure:
    """Local p-value of every region against its mass, for each signal fraction and cut: medians and 16-84 % bands."""
    with house_style():
        figure = Figure(figsize=(8.6, 5.0), layout="constrained")
        place = figure.subplots()
        groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
        for row in content["rows"]:
            groups.setdefault((row["fraction"], row["efficiency"]), []).append(row)
        fractions = list(dict.fromkeys(fraction for fraction, _ in groups))
        cuts = list(dict.fromkeys(cut for _, cut in groups))
        smallest = 1e-3
        for number, ((fraction, cut), rows) in enumerate(groups.items()):
            what = "data" if fraction is None else f"{100 * fraction:.3g} % signal"
            apart = fractions.index(fraction) if len(fractions) > 1 else cuts.index(cut)
            style: dict[str, Any] = {"color": COLOURS[apart % len(COLOURS)]}
            style["marker"] = MARKERS[cuts.index(cut) % len(MARKERS)]
            x = [(row["window"][0] + row["window"][1]) / 2 for row in rows]
            if len(x) == 1:  # side by side within the region
                low_mass, high_mass = rows[0]["window"]
                x = [low_mass + (high_mass - low_mass) * (number + 1) / (len(groups) + 1)]
            median, low, high = (
                np.maximum([row[f"p_value_{edge}"] for row in rows], 1e-300) for edge in ("median", "low", "high")
            )
            smallest = min(smallest, float(low.min()))
            ends = [median - low, high - median]
            place.errorbar(
                x, median, yerr=ends, ls="-" if len(x) > 1 else "none", label=f"{what}, {100 * cut:.3g} % kept", **style
            )
        for sigma in range(1, int(norm.isf(smallest)) + 2):
            place.axhline(norm.sf(sigma), color="0.6", lw=0.8, ls=":")
            place.annotate(f"{sigma}σ", (1.005, norm.sf(sigma)), xycoords=("axes fraction", "data"), fontsize=10)
        place.set_yscale("log")
        if all(len(rows) == 1 for rows in groups.values()):
            low_mass, high_mass = content["rows"][0]["window"]
            place.set_xlim(low_mass, high_mass)
            place.set_xlabel(f"Signal region in {content['mass']} [GeV]; points are side by side")
        else:
            place.set_xlabel(f"Middle of the signal region in {content['mass']} [GeV]")
        place.set_ylabel("Local p-value")
        if None not in fractions:  # what --data holds is not known
            place.text(0, 1.015, "Simulation", transform=place.transAxes, style="italic", fontsize=12)
        figure.legend(loc="outside right upper", frameon=False)
        return figure


def draw_decorrelation(content: Mapping[str, Any]) -> Figure:
    """Background rejection against 1 / divergence of each method, with 16-84 % bands; random cuts are dotted."""
    with house_style():
        figure = Figure(figsize=(6.6, 5.4), layout="constrained")
        place = figure.subplots()
        for i, row in enumerate(content["rows"]):
            if row["background_rejection_median"] is None or row["inverse_jsd_median"] is None:
                continue
            x, y = (
                [row[f"{name}_{edge}"] for edge in ("median", "low", "high")]
                for name in ("inverse_jsd", "background_rejection")
            )
            place.errorbar(
                x[0],
                y[0],
                xerr=[[x[0] - x[1]], [x[2] - x[0]]],
                yerr=[[y[0] - y[1]], [y[2] - y[0]]],
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                ls="none",
                label=row["method"],
            )
        floors = [row["jsd_floor_nats_median"] for row in content["rows"] if row["jsd_floor_nats_median"] is not None]
        if floors:
            place.axvline(1 / float(np.median(floors)), color="0.4", lw=1, ls=":", label="random cuts")
        place.set_xscale("log")
        place.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        place.xaxis.set_minor_formatter(NullFormatter())
        place.set_ylim(bottom=0)
        place.set_xlabel(f"1 / Jensen-Shannon divergence in {content['column']} [1/nats]")
        place.set_ylabel(f"Background rejection at {content['signal_efficiency']:.0%} signal efficiency")
        place.text(0, 1.015, "Simulation", transform=place.transAxes, style="italic", fontsize=12)
        if place.get_legend_handles_labels()[1]:
            place.legend(frameon=False)
        return figure
