"""What a run said about every jet, and the signal-background pairs that are asked of it, by class name."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jettag.errors import DataError, UsageError, nearest

__all__ = ["DEFAULT_BACKGROUND", "Pair", "Scores", "choose_pairs", "class_members", "name_runs", "refuse_classes"]

DEFAULT_BACKGROUND = "QCD"
LIGHT, HEAVY = "light", ("b", "c")  # of flavour tagging, where every other class is a background of its own


@dataclass(frozen=True, eq=False)
class Scores:
    """Class probabilities of one run on J jets of C classes.

    Attributes:
        run: the run's name, as the table prints it.
        class_names: C names, in the order of the columns.
        probabilities: (J, C) float64 in [0, 1]. Take the softmax in float64: in float32 good scores saturate at 1.
            Or (J, 1): of a run that was trained on other classes, one score, the higher the more like signal, which
            is the `discriminant` of every pair.
        label: (J,) int64 index of the true class in ``class_names``.
        seed: of the training, or None.
        parameters: number of trained parameters, or None.
        n_train: labelled jets the run was trained on, or None.
        rounded: whether the network ran in bf16 mixed precision.

    Raises:
        DataError: no jet, shapes that disagree, a label without a name, or a probability that is NaN or not in [0, 1].
    """

    run: str
    class_names: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    seed: int | None = None
    parameters: int | None = None
    n_train: int | None = None
    rounded: bool = False

    def __post_init__(self) -> None:
        table = np.asarray(self.probabilities, dtype=np.float64)
        label = np.asarray(self.label)
        names = tuple(self.class_names)
        where = f"scores of run {self.run}"
        if len(set(names)) != len(names):
            raise DataError(f"expected different class names, found {', '.join(names)}", where=where)
        if table.ndim != 2 or table.shape not in ((len(label), len(names)), (len(label), 1)) or label.ndim != 1:
            what = f"expected ({len(label)}, {len(names)}) probabilities for as many labels and classes"
            raise DataError(f"{what}, found {table.shape}", where=where)
        if len(label) == 0:
            raise DataError("no jet to evaluate", where=where, do="check the files and the selection")
        if label.dtype.kind not in "iu" or label.min() < 0 or label.max() >= len(names):
            raise DataError(f"expected labels from 0 to {len(names) - 1}, found {np.unique(label)[:5]}", where=where)
        bad = np.argwhere(~((table >= 0) & (table <= 1 + 1e-6)))  # also true for NaN
        if len(bad):
            jet, column = bad[0]
            what = f"expected probabilities from 0 to 1, found {len(bad)} others, first {table[jet, column]}"
            place = f"{where}, jet {jet}" + (f", class {names[column]}" if table.shape[1] == len(names) else "")
            raise DataError(what, where=place, do="check the inputs and the model")
        object.__setattr__(self, "probabilities", table)
        object.__setattr__(self, "label", label.astype(np.int64))
        object.__setattr__(self, "class_names", names)

    @property
    def counts(self) -> dict[str, int]:
        """Jets of each class, by name."""
        numbers = np.bincount(self.label, minlength=len(self.class_names))
        return {name: int(number) for name, number in zip(self.class_names, numbers, strict=True)}

    def discriminant(self, pair: "Pair") -> npt.NDArray[np.float64]:
        """(J,) p_S / (p_S + sum_B p_B) of every jet; 0.5, no preference, where all of them are zero."""
        if self.probabilities.shape[1] < len(self.class_names):
            return self.probabilities[:, 0]
        signal = self.probabilities[:, self._index(pair.signal)]
        background = np.zeros(len(signal))
        for name in pair.background:
            background = background + self.probabilities[:, self._index(name)]
        total = signal + background
        score = np.full(len(signal), 0.5)
        np.divide(signal, total, out=score, where=total > 0)
        return score

    def split(self, pair: "Pair") -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The `discriminant` of the signal jets (S,) and of the background jets (B,).

        Raises:
            DataError: one of them has no jet.
        """
        score = self.discriminant(pair)
        signal = score[self.label == self._index(pair.signal)]
        background = score[np.isin(self.label, [self._index(name) for name in pair.background])]
        for kind, name, jets in (
            ("signal", pair.signal, signal),
            ("background", pair.background_name, background),
        ):
            if len(jets) == 0:
                present = ", ".join(f"{key} {value}" for key, value in self.counts.items() if value)
                what = f"no jet of the {kind} class {name} among the {len(self.label)} jets ({present})"
                raise DataError(what, where=f"the data for run {self.run}", do="give files with both classes")
        return signal, background

    def _index(self, name: str) -> int:
        if name not in self.class_names:
            raise UsageError(f"run {self.run} has no class {name!r}", do=nearest(name, self.class_names))
        return self.class_names.index(name)


@dataclass(frozen=True)
class Pair:
    """A signal class against one or several background classes."""

    signal: str
    background: tuple[str, ...]

    @property
    def background_name(self) -> str:
        """Names of the background classes, joined by ``+``."""
        return "+".join(self.background)

    def __str__(self) -> str:
        return f"{self.signal} against {self.background_name}"


def choose_pairs(
    scores: Scores, signal: Sequence[str] | None = None, background: Sequence[str] | None = None
) -> list[Pair]:
    """The pairs to evaluate: every signal against every background set.

    Args:
        scores: names the classes and says which of them the data hold.
        signal: class names. Without it every class of the run that has jets and is in no background set.
        background: one set each, a class name or several joined by ``+`` (their probabilities are added). Without
            it QCD; in a run without QCD, the one class that is left; in one with the classes light and b or c, each
            class that has jets, against b and c.

    Raises:
        UsageError: an unknown class, a class on both sides, or nothing said where there is no QCD.
        DataError: no class is left to be the signal (every other one has no jet).
    """
    names = scores.class_names
    if not background and DEFAULT_BACKGROUND not in names and LIGHT in names and len(names) > 2:
        return _flavour_pairs(scores, signal)
    if background:
        sets = [_members(scores, text) for text in background]
    else:
        left = [DEFAULT_BACKGROUND] if DEFAULT_BACKGROUND in names else [n for n in names if n not in (signal or ())]
        if len(left) != 1 or not names:
            known = ", ".join(names)
            raise UsageError(f"run {scores.run} has no class QCD", do=f"name one: --background CLASS, of {known}")
        sets = [tuple(left)]
    distinct: dict[frozenset[str], tuple[str, ...]] = {}
    for members in sets:
        distinct.setdefault(frozenset(members), members)
    sets = list(distinct.values())
    used = {name for members in sets for name in members}
    if signal:
        for name in signal:
            scores._index(name)
            if name in used:
                raise UsageError(f"class {name} is both signal and background", do="choose different ones")
        signals = list(dict.fromkeys(signal))
    else:
        signals = [name for name, jets in scores.counts.items() if jets and name not in used]
        if not signals:
            only = ", ".join(name for name, jets in scores.counts.items() if jets)
            what = f"no jet of a signal class; all {len(scores.label)} jets are {only}"
            raise DataError(what, where=f"the data for run {scores.run}", do="give files with both classes")
    return [Pair(name, members) for name in signals for members in sets]


def refuse_classes(
    run: str, class_names: Sequence[str], signal: Sequence[str] | None, background: Sequence[str] | None
) -> None:
    """See, before a jet is read, that a run of these classes has those that are asked for.

    Raises:
        UsageError: as `choose_pairs`.
    """
    count = len(class_names)
    one_of_each = Scores(run, tuple(class_names), np.eye(count), np.arange(count))
    with suppress(DataError):  # which classes have jets is known when they are read
        choose_pairs(one_of_each, signal, background)


def _flavour_pairs(scores: Scores, signal: Sequence[str] | None) -> list[Pair]:
    """Each heavy flavour, or each ``signal``, against every other class by itself, where both have jets."""
    for name in signal or ():
        scores._index(name)
    present = [name for name, jets in scores.counts.items() if jets]
    signals = list(dict.fromkeys(signal)) if signal else [name for name in HEAVY if name in present]
    pairs = [Pair(name, (other,)) for name in signals for other in present if other != name]
    if not pairs:
        what = f"no signal and background among the {len(scores.label)} jets, which are {', '.join(present)}"
        raise DataError(what, where=f"the data for run {scores.run}", do="give files with both classes")
    return pairs


def name_runs(paths: Sequence[Path]) -> list[str]:
    """A name for each run directory: its last part, with as many parents as it takes to tell them apart.

    Raises:
        UsageError: the same directory stands twice.
    """
    parts = [path.expanduser().resolve().parts for path in paths]
    if len(set(parts)) != len(parts):
        twice = next(path for path, mine in zip(paths, parts, strict=True) if parts.count(mine) > 1)
        raise UsageError("the same run stands twice", where=twice, do="name each run once")
    depth = 1
    while len({mine[-depth:] for mine in parts}) < len(parts):
        depth += 1
    return ["/".join(mine[-depth:]) for mine in parts]


def class_members(names: Sequence[str], text: str) -> tuple[str, ...]:
    """Class names of ``A+B``, each once; a class among ``names`` that has ``+`` in its own name is itself."""
    return (text,) if text in names else tuple(dict.fromkeys(part.strip() for part in text.split("+")))


def _members(scores: Scores, text: str) -> tuple[str, ...]:
    """`class_members`, all of which the scores have."""
    members = class_members(scores.class_names, text)
    for name in members:
        scores._index(name)
    return members
