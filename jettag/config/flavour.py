"""What `jettag finetune --task flavour` can be told of its heads."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from jettag.config.loading import Section
from jettag.config.origins import ORIGINS
from jettag.config.schemes import scheme_names
from jettag.errors import nearest

__all__ = ["ORIGINS", "FlavourRecipe", "OriginRecipe", "RegressionTask", "VertexRecipe"]

Widths = tuple[Annotated[int, Field(ge=1)], ...]
Weight = Annotated[float, Field(gt=0)]


class OriginRecipe(Section):
    """The origin of each track: cross entropy over `ORIGINS`."""

    weight: Weight = 0.5
    hidden: Widths = Field((128, 64, 32), min_length=1)
    balance_classes: bool = True  # the most common origin has weight 1, the others by how much rarer they are


class VertexRecipe(Section):
    """Whether two tracks of a jet are from one vertex: binary cross entropy over pairs."""

    weight: Weight = 1.5
    hidden: Widths = Field((128, 64, 32), min_length=1)
    # What the sum over pairs is divided by: pairs of one vertex, as salt does, or all pairs; at least 1.
    normalise: Literal["positives", "pairs"] = "positives"
    # heavy_flavour: 2 where both tracks are of b or c hadrons, 0 where both are fake, else 1. salt: also 2 for one of a
    # hadron and one fake, which its bitwise `and` of -1 and 1 gives. none: 1.
    pair_weights: Literal["heavy_flavour", "salt", "none"] = "heavy_flavour"


class RegressionTask(Section):
    """A number of the jet; jets where it is not finite, or not positive in a ratio or a logarithm, do not count."""

    weight: Weight = 1.0
    relative_to: str | None = None  # jet column that it is divided by
    logarithm: bool = False
    loss: Literal["l1", "smooth_l1"] = "smooth_l1"


class FlavourRecipe(Section):
    """Jet flavour with the origins of tracks and their vertices, after ATLAS's GN2 (arXiv:2505.19689)."""

    name: Literal["flavour"] = "flavour"
    scheme: str = "b_c_light"  # label scheme that gives the classes
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    balance_classes: bool = True  # weigh jet classes so that each counts the same
    origin: OriginRecipe | None = OriginRecipe()  # null turns it off
    vertex: VertexRecipe | None = VertexRecipe()  # null turns it off
    regression: dict[str, RegressionTask] = Field(default_factory=dict)  # jet column: how
    # fixed: the sum with the weights; geometric: the geometric mean, weights not read (arXiv:1904.08492); uncertainty:
    # the sum of exp(-s) loss + s with a trained s for each task, beginning at the weights (arXiv:1705.07115).
    combine: Literal["fixed", "geometric", "uncertainty"] = "fixed"

    @field_validator("scheme")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in scheme_names():
            msg = f"no label scheme; {nearest(name, scheme_names())}"
            raise ValueError(msg)
        return name

    @property
    def constituent_columns(self) -> tuple[str, ...]:
        """Truth of the constituents that the tasks need."""
        weighs = self.vertex is not None and self.vertex.pair_weights != "none"
        needed = (("origin", self.origin is not None or weighs), ("vertex", self.vertex is not None))
        return tuple(name for name, is_needed in needed if is_needed)

    @property
    def jet_columns(self) -> tuple[str, ...]:
        """Jet columns that the tasks need, the order in which batches carry them."""
        names = [name for target, task in self.regression.items() for name in (target, task.relative_to) if name]
        return tuple(dict.fromkeys(names))

    def off(self, column: str) -> str:
        """How to do without a column."""
        if column == "vertex":
            return "--set objective.vertex=null"
        if column == "origin" and self.origin is not None:
            vertex = self.vertex is not None and self.vertex.pair_weights != "none"
            return "--set objective.origin=null" + (" --set objective.vertex.pair_weights=none" if vertex else "")
        return "--set objective.vertex.pair_weights=none" if column == "origin" else "--set objective.regression={}"
