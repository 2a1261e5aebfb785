"""How a training epoch draws its jets."""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from jettag.config.loading import Section

__all__ = ["ABSOLUTE", "SamplingMethod", "SamplingRecipe"]

SamplingMethod = Literal["accept", "countup", "importance", "weights"]
ABSOLUTE = "abs_"  # abs_eta is |eta|


class _Steps(Section):
    """Equal steps from one number to another."""

    low: float
    high: float
    bins: int = Field(ge=1, le=1000)


def _edges(value: object) -> object:
    """Edges as a list of numbers, or {low, high, bins}, or a list of these one after the other."""
    regions = value if isinstance(value, list | tuple) else [value]
    if not regions or not all(isinstance(region, dict) for region in regions):
        return value
    steps = [_Steps.model_validate(region) for region in regions]
    if any(first.high != second.low for first, second in pairwise(steps)):
        msg = "each region begins where the one before ends"
        raise ValueError(msg)
    edges = [float(edge) for step in steps for edge in np.linspace(step.low, step.high, step.bins + 1)[:-1]]
    return [*edges, steps[-1].high]


Edges = Annotated[tuple[float, ...], BeforeValidator(_edges)]


class SamplingRecipe(Section):
    """How often each jet is drawn: classes in proportions, and shapes in bins of jet columns.

    ``accept`` takes each jet at most once, flat in the bins of ``flat_in``. The others give every class the shape that
    the class ``target`` has in ``bins``: ``countup`` repeats jets as evenly as whole numbers allow, ``importance``
    draws them independently with replacement, ``weights`` draws every jet once and weighs its loss. Validation and
    test jets are never resampled.
    """

    method: SamplingMethod = "accept"
    # Relative numbers of jets. accept: where none is named the classes keep the proportions they have; the others: a
    # class that is not named has as many as the target.
    classes: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    flat_in: dict[str, Edges] = Field(default_factory=dict)  # jet column: edges; jets outside never come
    target: str | None = None
    bins: dict[str, Edges] = Field(default_factory=dict)  # as flat_in, as in {pt: ..., abs_eta: ...}

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> "SamplingRecipe":
        if self.method == "accept" and (self.target or self.bins):
            msg = "target and bins are for the methods countup, importance and weights; accept has flat_in"
            raise ValueError(msg)
        if self.method != "accept" and (self.flat_in or not self.target or not self.bins):
            msg = f"method {self.method} needs target and bins, and takes no flat_in"
            raise ValueError(msg)
        return self

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """Columns that the bins are of."""
        return tuple(dict.fromkeys(name.removeprefix(ABSOLUTE) for name in (*self.flat_in, *self.bins)))
