"""The richest feature set that card and files can give, where nobody names one."""

from collections.abc import Sequence

from jettag.data.binding import sets_given
from jettag.data.card import DataCard
from jettag.data.inputs import InputFile
from jettag.data.source import open_source
from jettag.errors import DataError

__all__ = ["AUTO", "RICHEST_FIRST", "richest_of_card", "richest_set", "sets_in_all"]

AUTO = "auto"
MOST_OPENED = 32  # files; of more some from first to last, and what another lacks is told when it is read
RICHEST_FIRST = ("jetclass_full", "jetclass_kinpid", "jetclass_kin")  # the others are asked for by name


def sets_in_all(inputs: Sequence[InputFile], card: DataCard, sets: Sequence[str]) -> list[str]:
    """Those of the ``sets`` that every file can give; files are opened until no set is left, no jet is read.

    Of more than `MOST_OPENED` files so many speak for all.

    Raises:
        DataError: a file is missing or damaged.
    """
    found = list(sets)
    count = min(len(inputs), MOST_OPENED)
    for place in range(count):
        file = inputs[round(place * (len(inputs) - 1) / max(count - 1, 1))]
        if not found:
            break
        with open_source(file, card.tree, card.join) as source:
            able = sets_given(card, source.names)
        found = [name for name in found if name in able]
    return found


def richest_set(inputs: Sequence[InputFile], card: DataCard) -> str:
    """The first of `RICHEST_FIRST` that every file can give; the last of them where none can, to say what lacks.

    Raises:
        DataError: there is no file, or one is missing or damaged.
    """
    if not inputs:
        raise DataError("no input files given", do="give paths, globs or CLASS:GLOB")
    return next(iter(sets_in_all(inputs, card, RICHEST_FIRST)), RICHEST_FIRST[-1])


def richest_of_card(card: DataCard) -> str:
    """The first of `RICHEST_FIRST` that a file with every branch of the card gives."""
    able = sets_given(card, card.branches)
    return next((name for name in RICHEST_FIRST if name in able), RICHEST_FIRST[-1])
