"""Recipes of studies: a command of `jettag weak` with its options, so that many trainings are one word."""

from collections.abc import Sequence
from typing import Literal, get_args

from pydantic import Field

from jettag.config.loading import Section, as_typed, read_yaml, validate
from jettag.config.shipped import find
from jettag.errors import RecipeError

__all__ = ["STUDIES", "StudyRecipe", "load_study"]

StudyCommand = Literal["weak scan", "weak compare", "weak hunt", "weak decorrelate", "weak outliers", "weak simulators"]
STUDIES: tuple[str, ...] = get_args(StudyCommand)
Value = bool | int | float | str


class StudyRecipe(Section):
    """`jettag weak study`: the options of another command, by their names there without dashes in front."""

    command: StudyCommand
    description: str = ""
    options: dict[str, Value | list[Value]] = Field(
        default_factory=dict
    )  # a list is written with commas, `set` repeats

    def words(self) -> list[str]:
        """The options as the command line has them."""
        found: list[str] = []
        for name, value in self.options.items():
            if isinstance(value, bool):
                found += [f"--{name}"] if value else []
            elif name == "set" and isinstance(value, list):
                found += [word for one in value for word in ("--set", str(one))]
            else:
                found += [f"--{name}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
        return found


def load_study(name: str, overrides: Sequence[str] = ()) -> StudyRecipe:
    """A study by name or path, with ``options.key=value`` overrides.

    Raises:
        RecipeError: no such recipe, one of another command, or mistakes in it (all at once).
    """
    path = find("recipes", name)
    values = read_yaml(path)
    if values.get("command") not in STUDIES:
        what = f"a recipe of `jettag {values.get('command')}`"
        raise RecipeError(what, where=path, do="`jettag ls recipes` shows those of `jettag weak ...`")
    return validate(StudyRecipe, values, where=path, changes=as_typed(overrides))
