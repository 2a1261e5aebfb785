"""How often each jet is drawn: classes in chosen proportions, and shapes in bins of pT, mass or what else a jet has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xxhash

from jettag.config.sampling import ABSOLUTE, SamplingMethod, SamplingRecipe
from jettag.data.jets import Table
from jettag.errors import DataError, RecipeError, nearest

__all__ = ["Sampling", "fit_sampling", "fit_shape", "sampling_of"]

# Bins with fewer jets than this percentile of the occupied ones are drawn whole and not held up: without it one empty
# corner would empty all others. The value is weaver-core's default, `reweight_threshold`.
REFERENCE = 10.0


@dataclass(frozen=True)
class Sampling:
    """How often an epoch takes a jet, by its class and bin.

    Attributes:
        edges: jet column to its bin edges; ``abs_`` before its name takes its size.
        rate: (C, bins of the first column, of the second, ...) times on average; one class where there are no labels.
        expected: jets of an epoch, on average.
        method: ``accept`` at most once, ``countup`` as evenly as whole numbers allow, ``importance`` independently,
            ``weights`` once, with the rate as weight of its loss.
        unfilled: class to the share of the target's jets in bins where the class has none.
    """

    edges: Mapping[str, tuple[float, ...]]
    rate: npt.NDArray[np.float64]
    expected: float
    method: SamplingMethod = "accept"
    unfilled: Mapping[str, float] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """XXH3 of method, edges and rates."""
        text = f"{sorted(self.edges.items())} {self.rate.tolist()}"
        return xxhash.xxh3_64_hexdigest((text if self.method == "accept" else f"{self.method} {text}").encode())

    @property
    def columns(self) -> tuple[str, ...]:
        """Jet columns that are needed."""
        return tuple(dict.fromkeys(name.removeprefix(ABSOLUTE) for name in self.edges))

    def __call__(
        self, label: npt.NDArray[np.int64] | None, jet: Mapping[str, npt.NDArray], jets: int
    ) -> npt.NDArray[np.float64]:
        """(jets,) rate of each; zero outside the bins, as published configurations discard these jets."""
        place, inside = _place(self.edges, label, jet, jets)
        rate: npt.NDArray[np.float64] = np.where(inside, self.rate[place], 0.0)
        return rate

    def copies(
        self,
        random: np.random.Generator,
        label: npt.NDArray[np.int64] | None,
        jet: Mapping[str, npt.NDArray],
        jets: int,
    ) -> npt.NDArray[np.int64]:
        """(jets,) how often an epoch takes each jet; its mean is the rate but for weights."""
        rate = self(label, jet, jets)
        if self.method == "importance":
            return random.poisson(rate)
        if self.method == "weights":
            return (rate > 0).astype(np.int64)
        whole = np.floor(rate) if self.method == "countup" else np.zeros_like(rate)
        return (whole + (random.random(jets) < rate - whole)).astype(np.int64)


def _place(
    edges: Mapping[str, Sequence[float]], label: npt.NDArray[np.int64] | None, jet: Mapping[str, npt.NDArray], jets: int
) -> tuple[tuple[npt.NDArray[np.int64], ...], npt.NDArray[np.bool_]]:
    """Class and bin of each jet, and whether it lies in a bin at all."""
    place = [np.zeros(jets, dtype=np.int64) if label is None else label]
    inside = np.ones(jets, dtype=bool)
    for name, ends in edges.items():
        values = jet[name.removeprefix(ABSOLUTE)]
        found = np.searchsorted(ends, np.abs(values) if name.startswith(ABSOLUTE) else values, side="right") - 1
        inside &= (found >= 0) & (found < len(ends) - 1)
        place.append(np.clip(found, 0, len(ends) - 2))
    return tuple(place), inside


def sampling_of(table: Table, wanted: SamplingRecipe) -> Sampling:
    """What a recipe asks for; see `fit_sampling` and `fit_shape` for the errors."""
    if wanted.method == "accept" or wanted.target is None:
        return fit_sampling(table, wanted.classes, wanted.flat_in)
    return fit_shape(table, wanted.classes, wanted.bins, wanted.target, wanted.method)


def fit_shape(
    table: Table,
    classes: Mapping[str, float],
    bins: Mapping[str, Sequence[float]],
    target: str,
    method: SamplingMethod,
) -> Sampling:
    """Give every class the shape of the target class: h jets of a bin with n wanted are taken n / h times each.

    As many jets are wanted as the target has in the bins, times ``classes[name] / classes[target]``. After the
    preprocessing of ATLAS's flavour tagging (umami, UPP), whose target is the rarest class. Weights have mean one.

    Args:
        table: the jets to be drawn from.
        classes: relative number of jets; a class that is not named has 1.
        bins: jet column to bin edges.
        target: class whose shape is taken.
        method: of drawing.

    Raises:
        RecipeError: a class or jet column that the table has not, or edges that do not rise.
        DataError: a class has no jet in any bin that the target has jets in.
    """
    _check(table, [*classes, target], bins, "bins")
    edges, counts = _count(table, bins, "bins")
    model = counts[table.class_names.index(target)]
    rate = np.zeros_like(counts)
    unfilled = {}
    for number, name in enumerate(table.class_names):
        both = (counts[number] > 0) & (model > 0)
        if not both.any():
            what = f"no jet of class {name} in any of data.sampling.bins that hold {target}"
            raise DataError(what, do="widen the edges, or leave the class out")
        amount = classes.get(name, 1.0) / classes.get(target, 1.0)
        rate[number][both] = amount * model[both] / counts[number][both]
        if (share := 1.0 - model[both].sum() / model.sum()) > 0:
            unfilled[name] = float(share)
    if method == "weights":
        drawn = counts[rate > 0].sum()
        return Sampling(edges, rate * drawn / (rate * counts).sum(), float(drawn), method, unfilled)
    return Sampling(edges, rate, float((rate * counts).sum()), method, unfilled)


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
    _check(table, classes, flat_in, "flat_in")
    edges, counts = _count(table, flat_in, "flat_in")
    accept = np.zeros_like(counts)
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


def _check(table: Table, classes: Iterable[str], bins: Mapping[str, Sequence[float]], key: str) -> None:
    """Every class is the table's, and edges rise."""
    for name in classes:
        if not table.class_names:
            raise RecipeError("data.sampling names classes, and these jets have no labels", do="leave them out")
        if name not in table.class_names:
            raise RecipeError(f"data.sampling.classes: no class {name!r}", do=nearest(name, table.class_names))
    for name, ends in bins.items():
        if len(ends) < 2 or not (np.diff(ends) > 0).all():
            raise RecipeError(f"data.sampling.{key}.{name}: expected two or more rising edges, found {list(ends)}")


def _count(
    table: Table, bins: Mapping[str, Sequence[float]], key: str
) -> tuple[dict[str, tuple[float, ...]], npt.NDArray[np.float64]]:
    """Edges, and jets in each class and bin."""
    edges = {name: tuple(ends) for name, ends in bins.items()}
    columns = tuple(dict.fromkeys(name.removeprefix(ABSOLUTE) for name in edges))
    counts = np.zeros((max(len(table.class_names), 1), *(len(ends) - 1 for ends in edges.values())))
    for label, jet in table.scan(columns):
        missing = [name for name in columns if name not in jet]
        if missing:
            raise RecipeError(f"data.sampling.{key}: no jet column {missing[0]!r}", do=nearest(missing[0], jet))
        place, inside = _place(edges, label, jet, len(next(iter(jet.values()))) if label is None else len(label))
        np.add.at(counts, tuple(axis[inside] for axis in place), 1.0)
    return edges, counts
