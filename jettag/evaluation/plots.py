"""ROC curves, score distributions and confusion matrices; pyplot's state and the user's settings stay as they are.

One panel per signal-background pair (ROC) or per run and pair (scores). The style is mplhep's ROOT style and the label
"Simulation": no experiment stands behind these pictures.
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import mplhep
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from jettag.config.files import write_atomically
from jettag.evaluation.metrics import LIMIT_CONFIDENCE, Curve, rejection_curve
from jettag.evaluation.scores import Pair, Scores

__all__ = ["draw_confusion", "draw_roc", "draw_scores", "house_style", "render", "save", "shorten"]

POINTS = 300
BINS = 50
MOST_PANELS = 36
MOST_BANDS = 6  # more bands than this hide each other
BESIDE = 4  # from more runs than this on the legend stands beside the panels
# Ten colours that colour-blind readers can tell apart: M. Petroff, arXiv:2107.02270.
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
LIMIT: dict[str, Any] = {"linestyle": ":", "marker": "^", "markersize": 5}
SIZES = {
    "font.size": 12,
    "axes.labelsize": 13,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "axes.linewidth": 1.0,
    "lines.linewidth": 1.6,
    "xtick.major.size": 7,
    "xtick.minor.size": 4,
    "ytick.major.size": 7,
    "ytick.minor.size": 4,
    "savefig.bbox": None,
    "pdf.fonttype": 42,
    "text.usetex": False,
}


def draw_roc(runs: Sequence[Scores], pairs: Sequence[Pair]) -> Figure:
    """Background rejection against signal efficiency, with the 68 % Clopper-Pearson band of each run.

    With one pair and several runs a lower panel shows the ratio to the first run. A curve ends to the left where no
    background jet passes any more; a dotted line with arrow heads goes on as the lower limit. Runs without one of a
    pair's classes are left out of its panel.

    Raises:
        DataError: a class has no jets.
    """
    with house_style():
        ratio = len(pairs) == 1 and len(runs) > 1
        shown, columns, lines = _grid(len(pairs))
        beside = len(runs) > BESIDE or len(pairs) > 1
        width = (6.6 if shown == 1 else 4.4) * columns + (2.6 if beside and len(runs) > 1 else 0)
        height = (5.6 if shown == 1 else 4.0) * lines + (1.6 if ratio else 0)
        figure = Figure(figsize=(width, height), layout="constrained")
        heights = [3, 1] if ratio else [1] * lines
        axes = figure.subplots(
            len(heights),
            columns,
            squeeze=False,
            sharex=ratio,
            sharey="none" if ratio else "all",
            gridspec_kw={"height_ratios": heights},
        )
        highest = 10.0
        for place, pair in zip(axes.flat, pairs[:shown], strict=False):
            curves = [(i, _curve(scores, pair)) for i, scores in enumerate(runs) if _knows(scores, pair)]
            for i, curve in curves:
                _draw_curve(place, curve, runs[i].run, i, band=len(curves) <= MOST_BANDS)
            highest = max([highest, *(float(np.nanmax(curve.high, initial=curve.low.max())) for _, curve in curves)])
            place.set_yscale("log")
            place.set_xlim(0, 1)
            place.set_ylim(1, 1.5 * highest)
            _explain_limits(place, [curve for _, curve in curves])
            _label(place, str(pair), small=shown > 1)
            if ratio:
                _draw_ratio(axes[1, 0], curves, runs[0].run)
        for place in list(axes.flat)[shown if not ratio else 2 :]:
            place.set_axis_off()
        for place in axes[-1] if ratio else list(axes.flat)[:shown]:
            place.set_xlabel("Signal efficiency")
        for place in axes[:1, 0] if ratio else axes[:, 0]:
            place.set_ylabel("Background rejection")
        if len(runs) > 1 or len(pairs) == 1:
            _legend(figure, axes[0, 0], beside=beside)
        _tell_left_out(figure, len(pairs) - shown)
        return figure


def draw_scores(runs: Sequence[Scores], pairs: Sequence[Pair]) -> Figure:
    """Normalised distribution of p_S / (p_S + sum_B p_B) for each class of the pair, one panel per run and pair.

    Raises:
        DataError: a class has no jets.
    """
    wanted = [(scores, pair) for pair in pairs for scores in runs if _knows(scores, pair)]
    with house_style():
        # With several pairs a line of panels is one pair, where the page is wide enough.
        shown, columns, lines = _grid(len(wanted), len(runs) if len(pairs) > 1 and 1 < len(runs) <= 4 else None)
        size = (6.6, 5.0) if shown == 1 else (4.4, 3.8)
        figure = Figure(figsize=(size[0] * columns, size[1] * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False, sharey="all")
        edges = np.linspace(0, 1, BINS + 1)
        for place, (scores, pair) in zip(axes.flat, wanted[:shown], strict=False):
            score = scores.discriminant(pair)
            for i, name in enumerate((pair.signal, *pair.background)):
                mine = score[scores.label == scores.class_names.index(name)]
                if len(mine) == 0:
                    continue
                density = np.histogram(np.clip(mine, 0, 1), edges)[0] / (len(mine) * np.diff(edges))
                # An empty bin has no place on a logarithmic axis: the outline ends there instead of falling to it.
                heights = np.where(density > 0, density, np.nan)
                style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[min(i, 1)]}
                place.stairs(heights, edges, label=f"{name} ({len(mine)})", linewidth=1.6, **style)
            place.set_yscale("log")
            place.set_xlim(0, 1)
            place.set_xlabel(f"Score {pair}")
            place.legend(loc="upper right", frameon=False)
            _label(place, shorten(scores.run, 30), small=shown > 1)
        low, high = axes[0, 0].get_ylim()
        low /= 2  # a bin with one jet stands clear of the axis
        axes[0, 0].set_ylim(low, high * (high / low) ** 0.35)  # room for the legend
        for place in axes[:, 0]:
            place.set_ylabel("Normalised density")
        for place in list(axes.flat)[shown:]:
            place.set_axis_off()
        _tell_left_out(figure, len(wanted) - shown)
        return figure


def draw_confusion(counts: npt.ArrayLike, names: Sequence[str], what: str) -> Figure:
    """Predicted against true class, each row in shares of its true members.

    Args:
        counts: (C, C), rows are true.
        names: C.
        what: is told apart, for the axes: ``class``, ``origin``.
    """
    matrix = np.asarray(counts, dtype=float)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with house_style():
        side = max(5.0, 0.7 * len(names) + 2)
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        place = figure.subplots()
        place.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(shares):
            colour = "white" if value > 0.6 else "black"
            place.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour)
        ticks = range(len(names))
        place.set_xticks(ticks, names, rotation=45, ha="right")
        place.set_yticks(ticks, names)
        place.minorticks_off()
        place.tick_params(length=0)
        place.set_xlabel(f"Predicted {what}")
        place.set_ylabel(f"True {what}")
        return figure


def render(figure: Figure, kind: str) -> bytes:
    """The figure as ``png`` or ``pdf``; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with house_style():
        metadata = {"CreationDate": None} if kind == "pdf" else {}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    figure.set_layout_engine("none")  # it has its layout, which takes as long as the drawing
    return buffer.getvalue()


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.png`` and ``stem.pdf``, each atomically."""
    return [write_atomically(stem.with_name(f"{stem.name}.{kind}"), render(figure, kind)) for kind in ("png", "pdf")]


@contextmanager
def house_style() -> Iterator[None]:
    """Mplhep's ROOT style at the sizes used here; the user's settings come back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcParams.update(mplhep.style.ROOT)
        matplotlib.rcParams.update(SIZES)
        yield


def _grid(panels: int, wanted: int | None = None) -> tuple[int, int, int]:
    """Panels shown, columns (as many as wanted), lines."""
    shown = min(panels, MOST_PANELS)
    columns = wanted or min(shown, 3 if shown <= 9 else 4)
    return shown, columns, math.ceil(shown / columns)


def _knows(scores: Scores, pair: Pair) -> bool:
    return {pair.signal, *pair.background} <= set(scores.class_names)


def _curve(scores: Scores, pair: Pair) -> Curve:
    signal, background = scores.split(pair)
    # Finer than one signal jet there is nothing to see.
    first = max(0.005, 1 / len(signal))
    return rejection_curve(signal, background, np.linspace(first, 1, POINTS))


def _draw_curve(place: Any, curve: Curve, name: str, i: int, *, band: bool) -> None:
    style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[(i // len(COLOURS)) % len(DASHES)]}
    place.plot(curve.signal_efficiency, curve.rejection, label=shorten(name, 28), **style)
    if band:
        limit = np.where(curve.n_pass == 0, curve.low, np.nan)
        place.plot(curve.signal_efficiency, limit, color=style["color"], markevery=25, **LIMIT)
        place.fill_between(curve.signal_efficiency, curve.low, curve.high, color=style["color"], alpha=0.22, lw=0)


def _explain_limits(place: Any, curves: Sequence[Curve]) -> None:
    if len(curves) <= MOST_BANDS and any((curve.n_pass == 0).any() for curve in curves):
        place.plot([], [], color="0.4", label=f"lower limit, {LIMIT_CONFIDENCE:.0%} CL", **LIMIT)


def _draw_ratio(place: Any, curves: Sequence[tuple[int, Curve]], first: str) -> None:
    """Each curve over the first one; bands are each run's own interval over the first curve."""
    reference = curves[0][1].rejection
    for i, curve in curves:
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[(i // len(COLOURS)) % len(DASHES)]}
        place.plot(curve.signal_efficiency, curve.rejection / reference, **style)
        if len(curves) <= MOST_BANDS:
            low, high = curve.low / reference, curve.high / reference
            place.fill_between(curve.signal_efficiency, low, high, color=style["color"], alpha=0.22, lw=0)
    # The scale follows the curves where at least some background passes, not the bands at the left end.
    enough = curves[0][1].n_pass >= 10
    firm = np.concatenate([(curve.rejection / reference)[enough & (curve.n_pass >= 10)] for _, curve in curves])
    if len(firm):
        lowest, highest = min(0.9, float(firm.min())), max(1.1, float(firm.max()))
        margin = 0.15 * (highest - lowest)
        if highest / lowest > 6:
            place.set_yscale("log")
            place.set_ylim(lowest / 1.3, highest * 1.3)
        else:
            place.set_ylim(max(0, lowest - margin), highest + margin)
    place.set_ylabel(f"Ratio to\n{shorten(first, 16)}", fontsize=11)


def _label(place: Any, text: str, *, small: bool) -> None:
    size = 10.5 if small else 13
    place.text(0, 1.015, "Simulation", transform=place.transAxes, ha="left", va="bottom", style="italic", fontsize=size)
    place.text(1, 1.015, text, transform=place.transAxes, ha="right", va="bottom", fontsize=size)


def _legend(figure: Figure, place: Any, *, beside: bool) -> None:
    if beside:
        handles, labels = place.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False)
    else:
        place.legend(loc="upper right", frameon=False)


def _tell_left_out(figure: Figure, count: int) -> None:
    if count > 0:
        figure.suptitle(f"{count} more are not shown", fontsize=12)


def shorten(text: str, length: int) -> str:
    """The text with its middle left out where it is too long: both ends of a run's name tell it apart."""
    if len(text) <= length:
        return text.replace("$", r"\$")
    half = (length - 1) // 2
    return f"{text[:half]}…{text[-half:]}".replace("$", r"\$")
