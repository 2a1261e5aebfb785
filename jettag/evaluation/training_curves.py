"""How a training went, from its ``metrics.jsonl``: loss, what else was told, learning rate; all against the step.

Thin lines are single training batches as logged, points the whole validation set. Nothing is smoothed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from jettag.evaluation.plots import COLOURS, house_style, shorten

__all__ = ["Curve", "draw_training", "training_curves"]

PARTS, EMBEDDINGS = "Parts of the loss", "Embeddings"
SHARES = "Accuracy, AUC"
# What a panel shows: quantities that end like this. Left out are gradient norms, and errors of unlike units.
PANELS = {
    PARTS: ("_loss", "reconstruction", "commitment", "absolute_error"),
    SHARES: ("accuracy", "auc", "codes_used"),
    EMBEDDINGS: ("alignment", "uniformity", "spread"),
    "Code perplexity": ("code_perplexity",),
    "ARGOS": ("argos",),
}
MOST_PANELS = 4
MARKERS = "osD^vPX<>h"
RANK = 4  # its colour: one that an axis can be labelled in
BATCH: dict[str, Any] = {"linewidth": 1.0, "alpha": 0.65}
WHOLE: dict[str, Any] = {"linewidth": 1.6, "markersize": 4.5}
CROWDED = 40  # more validations than this have a line without points


class Curve(NamedTuple):
    """Values of a quantity and the steps they are of, both (K,)."""

    step: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


def training_curves(records: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """What was told of training batches, and what of validation (without ``val_``) and the probe, by quantity."""
    found: tuple[dict[str, list[tuple[int, float]]], ...] = ({}, {})
    for record in records:
        for key, value in record.items():
            if key in ("step", "seconds", "jets") or isinstance(value, str):
                continue
            judged = key.startswith(("val_", "probe_"))
            found[judged].setdefault(key.removeprefix("val_"), []).append((record["step"], value))
    trained, held_out = (
        {
            name: Curve(np.array([step for step, _ in pairs]), np.array([value for _, value in pairs], dtype=float))
            for name, pairs in part.items()
        }
        for part in found
    )
    return trained, held_out


def draw_training(records: Sequence[Mapping[str, Any]], *, name: str, best: int | None = None) -> Figure:
    """Up to four panels over the step: the loss with the best checkpoint, whatever else there is, the learning rate.

    Parts of the loss join its panel where they would be in a fifth. The rank of embeddings has an axis of its own.

    Args:
        records: lines of ``metrics.jsonl``.
        name: of the run.
        best: step of the best checkpoint.
    """
    both = training_curves(records)
    told = list(dict.fromkeys([*both[0], *both[1]]))
    panels = {"Loss": [quantity for quantity in told if quantity == "loss"]}
    for title, ends in PANELS.items():
        panels[title] = [quantity for quantity in told if quantity.endswith(ends)]
    panels = {title: names for title, names in panels.items() if names or title == "Loss"}
    if len(panels) + ("learning_rate" in told) > MOST_PANELS:
        panels["Loss"] += panels.pop(PARTS, [])
    heights = [2.0] + [1.5] * (len(panels) - 1) + [1.0] * ("learning_rate" in told)
    with house_style():
        figure = Figure(figsize=(9.0, 1.35 * sum(heights) + 0.9), layout="constrained")
        axes = figure.subplots(len(heights), sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for place, (title, names) in zip(axes, panels.items(), strict=False):
            handles = [_draw(place, both, quantity, i) for i, quantity in enumerate(names)]
            no_auc = title == SHARES and not any(quantity.endswith("auc") for quantity in names)
            place.set_ylabel("Accuracy" if no_auc else title)
            if title != SHARES:
                _scale(place, [part[quantity].value for part in both for quantity in names if quantity in part])
            if title == "Loss":
                handles = [*(handles if len(names) > 1 else []), *_explain(place, both, best)]
            ranked = title == EMBEDDINGS and "rank" in told
            if ranked:
                handles.append(_draw_rank(place, both))
            beside = (1.1 if ranked else 1.02, 0.5)
            place.legend(handles=handles, loc="center left", bbox_to_anchor=beside, frameon=False)
        if "learning_rate" in told:
            axes[-1].plot(*both[0]["learning_rate"], color="0.25", linewidth=1.3)
            axes[-1].set_ylabel("Learning rate")
            axes[-1].set_ylim(bottom=0)
            axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        for place in axes if best is not None else ():
            place.axvline(best, color="0.6", linestyle=(0, (2, 2)), linewidth=1.0, zorder=0)
        axes[-1].set_xlabel("Step")
        last = max([1, *(record["step"] for record in records)])
        axes[-1].set_xlim(-0.015 * last, 1.015 * last)  # the first and the last point stand clear of the frame
        axes[-1].xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
        axes[0].set_title(shorten(name, 60), loc="left", fontsize=12)
        figure.align_ylabels(axes)
        return figure


def _draw(place: Axes, both: tuple[dict[str, Curve], dict[str, Curve]], quantity: str, i: int) -> Line2D:
    """Both curves of a quantity in its colour; what stands for it in the legend."""
    colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
    trained, held_out = (part.get(quantity) for part in both)
    if trained is not None:
        place.plot(*trained, color=colour, label=quantity, **BATCH)
    if held_out is not None:
        shape = marker if len(held_out.step) <= CROWDED else ""
        place.plot(*held_out, color=colour, marker=shape, label=f"validation {quantity}", **WHOLE)
    label = quantity.replace("_", " ").replace("auc", "AUC")
    return Line2D([], [], color=colour, marker=marker if held_out is not None else "", label=label, **WHOLE)


def _draw_rank(place: Axes, both: tuple[dict[str, Curve], dict[str, Curve]]) -> Line2D:
    """The effective number of dimensions, which may be one or a hundred, on an axis at the right."""
    right = place.twinx()
    handle = _draw(right, both, "rank", RANK)
    right.set_ylabel("Rank", color=handle.get_color())
    right.tick_params(axis="y", colors=handle.get_color(), which="both")
    right.set_ylim(bottom=0)
    handle.set_label("rank (right)")
    return handle


def _explain(place: Axes, both: tuple[dict[str, Curve], dict[str, Curve]], best: int | None) -> list[Line2D]:
    """What the kinds of lines are, and the star on the best checkpoint."""
    colour = COLOURS[0] if len(place.lines) <= 2 else "0.25"
    found = [Line2D([], [], color=colour, label="training batches", **BATCH)]
    validated = both[1].get("loss")
    if validated is not None:
        found.append(Line2D([], [], color=colour, marker="o", label="validation", **WHOLE))
        if best is not None and best in validated.step:
            value = validated.value[validated.step == best][-1]
            style: dict[str, Any] = {
                "color": "0.1",
                "marker": "*",
                "markersize": 13,
                "mec": "white",
                "linestyle": "",
                "zorder": 5,
            }
            found += place.plot([best], [value], label=f"best checkpoint:\n{value:.4g} at step {best}", **style)
    return found


def _scale(place: Axes, values: Sequence[npt.NDArray[np.float64]]) -> None:
    """A logarithmic axis where all is positive and spans a decade or more."""
    every = np.concatenate(values) if values else np.empty(0)
    every = every[np.isfinite(every)]
    if len(every) == 0 or every.min() <= 0 or every.max() < 10 * every.min():
        return
    place.set_yscale("log")
    if every.max() < 1000 * every.min():
        place.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        place.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    place.yaxis.set_minor_formatter(NullFormatter())
