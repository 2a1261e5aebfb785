"""Recipes and cards by name: shipped with the wheel, or a path of the user's."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

from jettag.errors import CardError, RecipeError, nearest

__all__ = ["Kind", "find", "list_shipped", "read_text"]

Kind = Literal["recipes", "data_cards"]
ERRORS: dict[Kind, type[RecipeError]] = {"recipes": RecipeError, "data_cards": CardError}


def list_shipped(kind: Kind) -> dict[str, Path]:
    """Name to path of everything shipped of a kind, by name."""
    folder = Path(str(files(f"jettag_{kind}")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(kind: Kind, name: str | Path) -> Path:
    """The file behind a shipped name or a path; a path wins where it exists.

    Raises:
        RecipeError: neither (CardError for a card).
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = list_shipped(kind)
    if str(name) in shipped:
        return shipped[str(name)]
    noun = "recipe" if kind == "recipes" else "card"
    if path.suffix or len(path.parts) > 1:
        raise ERRORS[kind](f"no such {noun} file", where=path, do="give a path or a name from `jettag ls`")
    raise ERRORS[kind](f"no {noun} named {str(name)!r}", do=nearest(str(name), shipped))


def read_text(name: str) -> tuple[Path, str]:
    """Path and text of a shipped recipe or card, recipes first."""
    names = list_shipped("recipes") | list_shipped("data_cards")
    path = Path(name).expanduser()
    if not path.is_file():
        if name not in names:
            raise RecipeError(f"no recipe or card named {name!r}", do=nearest(name, names))
        path = list_shipped("recipes").get(name) or names[name]
    return path, path.read_text(encoding="utf-8")
