"""What a tagger of two mixed samples is asked in `jettag eval`: samples, or true classes by its score of the richer."""

from collections.abc import Sequence
from dataclasses import dataclass

from jettag.config import read_yaml
from jettag.data.card import DataCard
from jettag.data.dataset import read_dataset
from jettag.data.inputs import InputFile
from jettag.data.opening import open_jets, split_of
from jettag.data.read import count_classes
from jettag.errors import DataError, UsageError, nearest
from jettag.evaluation.scores import DEFAULT_BACKGROUND, class_members, refuse_classes
from jettag.objectives import Flavour
from jettag.training import Tagger

__all__ = ["Question", "ask_weak", "is_weak"]

SAMPLES = ("M1", "M2")  # what recipe weak calls them, the one with more signal first
USUAL = (DEFAULT_BACKGROUND, "Tbqq")  # background and signal, as of --task top


@dataclass(frozen=True)
class Question:
    """What one run is asked about.

    Attributes:
        classes: whose jets are read, in the order of the labels.
        signal: as of `jettag.evaluation.scores.choose_pairs`.
        background: likewise.
        by_sample: jets of these classes are judged by the probability of the run's first class.
        note: for the person, or nothing.
    """

    classes: tuple[str, ...]
    signal: Sequence[str] | None
    background: Sequence[str] | None
    by_sample: bool = False
    note: str = ""


def is_weak(tagger: Tagger) -> bool:
    """Whether the run tells two mixed samples apart: by its recipe's selection, or the names of its classes."""
    if isinstance(tagger.model, Flavour) or len(tagger.class_names) != 2:
        return False
    recipe = tagger.run / "recipe.yaml"
    chosen = read_yaml(recipe).get("selection") if recipe.is_file() else None
    return tagger.class_names == SAMPLES or chosen == "argos"


def ask_weak(
    name: str,
    tagger: Tagger,
    inputs: Sequence[InputFile],
    card: DataCard,
    signal: Sequence[str] | None,
    background: Sequence[str] | None,
) -> Question:
    """The question to a weak run: its samples where the files are these, else the true classes.

    Of true classes that nobody names those with jets are counted, which reads label branches only. Tbqq is judged
    against QCD where both are there; of two others the card's first is the background.

    Raises:
        UsageError: a class that is not known, or that must be named.
        DataError: jets of one class only, or the files cannot be read.
    """
    richer, _ = tagger.class_names
    note = f"{name}: the score is the probability of {richer}, the sample with more signal"
    prepared = split_of(inputs[0], "test")
    given = dict.fromkeys(file.class_name for file in inputs if file.class_name)
    known = read_dataset(prepared[0]).class_names if prepared else tuple(dict.fromkeys((*card.classes, *given)))
    of_files = known if prepared else tuple(file.class_name for file in inputs)
    if of_files and set(of_files) <= set(tagger.class_names):
        refuse_classes(name, tagger.class_names, signal or [richer], background)
        return Question(tagger.class_names, signal or (None if background else [richer]), background, note=note)
    for text in (*(signal or ()), *(background or ())):
        for member in class_members(known, text):
            if member not in known:
                what = f"no class {member!r} in card {card.name} or the files, by which run {name} is judged"
                raise UsageError(what, do=nearest(member, known))
    if not (signal and background):
        signal, background = _by_default(name, tagger, _present(inputs, card, known), signal, background)
    refuse_classes(name, known, signal, background)
    named = {member for text in (*signal, *background) for member in class_members(known, text)}
    return Question(tuple(one for one in known if one in named), signal, background, by_sample=True, note=note)


def _present(inputs: Sequence[InputFile], card: DataCard, known: Sequence[str]) -> list[str]:
    """The known classes that have jets."""
    prepared = split_of(inputs[0], "test")
    if prepared is None:
        counts = count_classes(inputs, card, known)
        return [name for name in known if counts[name]]
    features = read_dataset(prepared[0]).features
    table = open_jets(inputs, card, split="test", features=features, labels=True, max_constituents=1)
    assert table.class_counts is not None  # labels=True
    return [name for name, count in zip(known, table.class_counts, strict=True) if count]


def _by_default(
    name: str, tagger: Tagger, present: Sequence[str], signal: Sequence[str] | None, background: Sequence[str] | None
) -> tuple[Sequence[str], Sequence[str]]:
    """Signal and background where not both were named."""
    found = ", ".join(present) or "no class"
    if len(present) < 2:
        raise DataError(f"all jets are of {found}", where=f"the data for run {name}", do="give files with two classes")
    if background:
        taken = {member for text in background for member in class_members(present, text)}
        return [one for one in present if one not in taken], background
    if signal is None and set(USUAL) <= set(present):
        return [USUAL[1]], [USUAL[0]]
    left = [one for one in present if one not in (signal or ())]
    if DEFAULT_BACKGROUND in left and (signal or len(left) == 2):
        left = [DEFAULT_BACKGROUND]
    elif not signal and len(left) == 2:
        left = left[:1]
    if len(left) != 1:
        samples = " and ".join(tagger.class_names)
        what = f"run {name} tells samples {samples} apart, the jets are of {found}: which are signal and background?"
        raise UsageError(what, do="name them: --signal CLASS --background CLASS")
    return signal or [one for one in present if one not in left], left
