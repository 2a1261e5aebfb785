"""Label schemes by name, and how the probabilities of a fine scheme add up to those of a coarse one.

Nothing is matched by position: an array of probabilities always comes with the names of its columns.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from jettag.config.loading import Section, read_yaml, validate
from jettag.errors import UsageError, nearest

__all__ = ["EXTENDED_CODES", "Scheme", "add_up", "find_sums", "scheme", "scheme_names"]

# Every flavour that generated files and the ATLAS and CMS labels use; a jet of another code is a mistake.
EXTENDED_CODES = (0, 4, 44, 5, 54, 55, 15)


class Scheme(Section):
    """One entry of ``schemes.yaml``, which says what the keys mean."""

    source: str
    classes: tuple[str, ...] = Field(min_length=2)
    codes: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    letters: dict[str, str] = Field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    sums: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _every_class_once(self) -> "Scheme":
        for coarse, groups in self.sums.items():
            members = [name for group in groups.values() for name in group]
            if sorted(members) != sorted(self.classes):
                msg = f"the sums to {coarse} must take every class once"
                raise ValueError(msg)
        return self

    def letter(self, name: str) -> str:
        """Suffix of the class's probability in files of the ATLAS tools."""
        return self.letters.get(name, name)

    def own_name(self, foreign: str) -> str | None:
        """The class that a card or file calls ``foreign``; None where there is none."""
        if foreign in self.classes:
            return foreign
        return next((name for name, others in self.aliases.items() if foreign in others), None)


@cache
def _schemes() -> dict[str, Scheme]:
    path = Path(str(files("jettag.config") / "schemes.yaml"))
    return {name: validate(Scheme, content, where=f"{path}, {name}") for name, content in read_yaml(path).items()}


def scheme_names() -> tuple[str, ...]:
    """Names of all schemes."""
    return tuple(_schemes())


def scheme(name: str) -> Scheme:
    """The scheme of a name.

    Raises:
        UsageError: there is none.
    """
    known = _schemes()
    if name not in known:
        raise UsageError(f"no label scheme named {name!r}", do=nearest(name, known))
    return known[name]


def find_sums(class_names: Sequence[str], coarse: str) -> dict[str, tuple[str, ...]]:
    """Coarse class to the classes that add up to it, for classes in any order.

    Raises:
        UsageError: no scheme has these classes and sums to ``coarse``.
    """
    scheme(coarse)
    for candidate in _schemes().values():
        if coarse in candidate.sums and set(candidate.classes) == set(class_names):
            return candidate.sums[coarse]
    possible = [name for name, one in _schemes().items() if coarse in one.sums]
    shown = ", ".join(class_names[:6]) + (", ..." if len(class_names) > 6 else "")
    do = f"classes that do are those of {', '.join(possible)}" if possible else "no scheme does"
    raise UsageError(f"the classes {shown} do not add up to {coarse}", do=do)


def add_up(
    probabilities: npt.NDArray[np.float64], class_names: Sequence[str], sums: Mapping[str, Sequence[str]]
) -> npt.NDArray[np.float64]:
    """Probabilities of groups of classes, columns found by name.

    Args:
        probabilities: (J, C).
        class_names: C names.
        sums: group to its classes; a class that is in no group is left out.

    Returns:
        (J, G), in the order of ``sums``.

    Raises:
        UsageError: a class is not among the names, or is in two groups.
    """
    members = [name for group in sums.values() for name in group]
    for name in members:
        if name not in class_names:
            raise UsageError(f"no class {name!r} to add up", do=nearest(name, class_names))
        if members.count(name) > 1:
            raise UsageError(f"class {name!r} stands in two groups", do="give each class to one group")
    place = {name: column for column, name in enumerate(class_names)}
    columns = [probabilities[:, [place[name] for name in group]].sum(axis=1) for group in sums.values()]
    return np.stack(columns, axis=1) if columns else np.empty((len(probabilities), 0))
