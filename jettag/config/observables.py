"""Numbers of a whole jet: those that stand on data cards, ratios of these, and those computed from constituents."""

from collections.abc import Sequence
from typing import Literal

__all__ = ["COMPUTED", "RATIOS", "Observable", "columns_behind"]

Observable = Literal[
    "mass", "sdmass", "nparticles", "tau1", "tau2", "tau3", "tau4", "tau21", "tau32", "tau43", "c2", "d2", "displaced"
]  # none of them is truth, or tells a class by itself

# Substructure: above, below (Thaler and Van Tilburg, arXiv:1011.2268).
RATIOS = {"tau21": ("tau2", "tau1"), "tau32": ("tau3", "tau2"), "tau43": ("tau4", "tau3")}

# From the constituents of a batch: no file needs to have them. Energy correlations at beta 1 (arXiv:1409.6298), and the
# tracks whose d0 is more than three of its errors.
COMPUTED = ("c2", "d2", "displaced")


def columns_behind(names: Sequence[str]) -> tuple[str, ...]:
    """The jet columns to read for these, each once: those behind ratios in their place, none for what is computed."""
    stored = (name for name in names if name not in COMPUTED)
    return tuple(dict.fromkeys(column for name in stored for column in RATIOS.get(name, (name,))))
