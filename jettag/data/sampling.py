"""How often each jet is drawn: classes in chosen proportions, and flat in bins of pT, mass or what else a jet has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from jettag.data.jets import Table
from jettag.errors import DataError, RecipeError, nearest

__all__ = ["Sampling", "fit_sampling"]

# Bins with fewer jets than this percentile of the occupied ones are drawn whole and not held up: without it one empty
# corner would empty all others. The value is weaver-core's default, `reweight_threshold`.
REFERENCE = 10.0


@dataclass(frozen=True)
class Sampling:
    """The probability with which an epoch takes a jet, by its class and bin.

    Attributes:
        edges: jet column to its bin edges.
        accept: (C, bins of the first column, of the second, ...) in [0, 1]; one class where there are no labels.
        expected: jets of an epoch, on average.
    """

    edges: Mapping[str, tuple[float, ...]]
    accept: npt.NDArray[np.float64]
    expected: float

    @property
    def digest(self) -> str:
        """XXH3 of edges and probabilities."""
        return xxhash.xxh3_64_hexdigest(f"{sorted(self.edges.items())} {self.accept.tolist()}".encode())

    def __call__(
        self, label: npt.NDArray[np.int64] | None, jet: Mapping[str, npt.NDArray], jets: int
    ) -> npt.NDArray[np.float64]:
        """(jets,) probability of each; zero outside the bins, as published configurations discard these jets."""
        place, inside = _place(self.edges, label, jet, jets)
        probability: npt.NDArray[np.float64] = np.where(inside, self.accept[place], 0.0)
        return probability


def _place(
    edges: Mapping[str, Sequence[float]], label: npt.NDArray[np.int64] | None, jet: Mapping[str, npt.NDArray], jets: int
) -> tuple[tuple[npt.NDArray[np.int64], ...], npt.NDArray[np.bool_]]:
    """Class and bin of each jet, and whether it lies in a bin at all."""
    place = [np.zeros(jets, dtype=np.int64) if label is None else label]
    inside = np.ones(jets, dtype=bool)
    for name, ends in edges.items():
        found = np.searchsorted(ends, jet[name], side="right") - 1
        inside &= (found >= 0) & (found < len(ends) - 1)
        place.append(np.clip(found, 0, len(ends) - 2))
    return tuple(place), inside


def fit_sampling(table: Table, classes: Mapping[str, float], flat_in: Mapping[str, Sequence[float]]) -> Sampling:
    """Count the jets in each bin, and choose probabilities that make the bins flat and the classes proportional.

    Within a class a bin of h jets is taken with min(1, r / h), where r is the 10th percentile of the occupied bins;
    then each class is scaled so that the classes' expected numbers of jets are as ``classes`` says, and the largest
    factor is one, so that no jet comes twice in an epoch.

    Args:
        table: the jets to be drawn from.
        classes: relative number of jets of each class in an epoch; a class that is not named has weight 1, and without
            any name the classes keep the proportions they have.
        flat_in: jet column to bin edges.

    Raises:
        RecipeError: a class or jet column that the table has not, or edges that do not rise.
        DataError: a class has no jet in any bin.
    """
    for name in classes:
        if name not in table.class_names:
            raise RecipeError(f"data.sampling.classes: no class {name!r}", do=nearest(name, table.class_names))
    for name, ends in flat_in.items():
        if len(ends) < 2 or not (np.diff(ends) > 0).all():
            raise RecipeError(f"data.sampling.flat_in.{name}: expected two or more rising edges, found {list(ends)}")
    edges = {name: tuple(ends) for name, ends in flat_in.items()}
    shape = (max(len(table.class_names), 1), *(len(ends) - 1 for ends in edges.values()))
    counts = np.zeros(shape)
    for label, jet in table.scan(tuple(edges)):
        missing = [name for name in edges if name not in jet]
        if missing:
            raise RecipeError(f"data.sampling.flat_in: no jet column {missing[0]!r}", do=nearest(missing[0], jet))
        place, inside = _place(edges, label, jet, len(next(iter(jet.values()))) if label is None else len(label))
        np.add.at(counts, tuple(axis[inside] for axis in place), 1.0)
    accept = np.zeros(shape)
    for number, found in enumerate(counts):
        if not found.any():
            which = f" of class {table.class_names[number]}" if table.class_names else ""
            raise DataError(f"no jet{which} in any bin of data.sampling.flat_in", do="widen its edges")
        reference = np.percentile(found[found > 0], REFERENCE) if edges else 1.0
        accept[number] = np.minimum(1.0, reference / np.maximum(found, 1.0)) * (found > 0) if edges else 1.0
    if classes:
        expected = (accept * counts).reshape(len(counts), -1).sum(1)
        factor = np.array([classes.get(name, 1.0) for name in table.class_names]) / expected
        accept *= (factor / factor.max()).reshape(-1, *[1] * len(edges))
    return Sampling(edges, accept, float((accept * counts).sum()))
