"""What a backbone is trained for. Every objective maps a batch to ``{"loss": ..., parts}`` and owns its backbone."""

from jettag.objectives.classification import Classification
from jettag.objectives.flavour import Flavour
from jettag.objectives.masked import MaskedModelling
from jettag.objectives.objective import Objective

__all__ = ["Classification", "Flavour", "MaskedModelling", "Objective"]
