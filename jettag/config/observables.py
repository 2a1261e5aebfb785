"""Numbers of a whole jet that stand on data cards, and the ratios of N-subjettiness that are made of them."""

from collections.abc import Sequence
from typing import Literal

__all__ = ["RATIOS", "Observable", "columns_behind"]

Observable = Literal[
    "mass", "sdmass", "nparticles", "tau1", "tau2", "tau3", "tau4", "tau21", "tau32", "tau43"
]  # none of them is truth, or tells a class by itself

# Substructure: above, below (Thaler and Van Tilburg, arXiv:1011.2268).
RATIOS = {"tau21": ("tau2", "tau1"), "tau32": ("tau3", "tau2"), "tau43": ("tau4", "tau3")}


def columns_behind(names: Sequence[str]) -> tuple[str, ...]:
    """The jet columns to read for these, each once: those behind ratios in their place."""
    return tuple(dict.fromkeys(column for name in names for column in RATIOS.get(name, (name,))))
