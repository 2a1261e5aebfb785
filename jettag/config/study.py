"""Recipes of studies: a command of `jettag weak` with its options, so that many trainings are one word."""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from jettag.config.loading import Section, as_typed, read_yaml, validate
from jettag.config.shipped import find
from jettag.errors import RecipeError

__all__ = ["STUDIES", "StudyRecipe", "load_study"]

StudyCommand = Literal["weak scan", "weak compare", "weak hunt", "weak decorrelate", "weak outliers", "weak simulators"]
STUDIES: tuple[str, ...] = get_args(StudyCommand)
IN_PARTS = ("weak scan", "weak compare")  # whose tables stand side by side
Value = bool | int | float | str
Options = dict[str, Value | list[Value]]  # a list is written with commas, `set` repeats
Folder = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class StudyRecipe(Section):
    """`jettag weak study`: the options of another command, by their names there without dashes in front.

    A study in parts runs the command once for each, in a folder of that name, with the part's options in place of the
    study's.
    """

    command: StudyCommand
    description: str = ""
    options: Options = Field(default_factory=dict)
    parts: dict[Folder, Options] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_in_parts(self) -> "StudyRecipe":
        if self.parts and self.command not in IN_PARTS:
            msg = f"parts: only of {' and '.join(IN_PARTS)}, whose tables stand side by side, not of {self.command}"
            raise ValueError(msg)
        return self

    def words(self, part: str | None = None) -> list[str]:
        """The options, of a part if one is named, as the command line has them."""
        found: list[str] = []
        for name, value in {**self.options, **(self.parts[part] if part else {})}.items():
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
