"""jettag weak study: a whole study by the name of its recipe."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jettag.errors import RecipeError, UsageError, nearest

from .console import JsonOption, boundary, say

if TYPE_CHECKING:
    from jettag.config.study import StudyRecipe

__all__ = ["check_options", "study"]

Files = list[str] | None


@boundary
def study(
    recipe: Annotated[str, typer.Argument(help="A study, by name or path: jettag ls recipes.")],
    background: Annotated[Files, typer.Option("--background", help="Files.")] = None,
    signal: Annotated[Files, typer.Option("--signal", help="Files.")] = None,
    test: Annotated[Files, typer.Option("--test", help="Files that judge.")] = None,
    simulation: Annotated[Files, typer.Option("--simulation", help="Files of another simulation.")] = None,
    pretrained: Annotated[Path | None, typer.Option("--from", help="Backbone.")] = None,
    card: Annotated[str | None, typer.Option("--card", help="Data card; default: the recipe's.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="Folder.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="Change an option: options.runs=3.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """A whole study in one word: the command and options of a recipe.

    Example: jettag weak study weak-top --background QCD.root --signal Tbqq.root --test 'test/*.root' --out study
    """
    from jettag.config.study import load_study

    chosen = load_study(recipe, overrides or [])
    check_options(chosen, recipe)
    words = chosen.words()
    for option, files in (("background", background), ("signal", signal), ("test", test), ("simulation", simulation)):
        words += [f"--{option}", *files] if files else []
    for option, value in (("from", pretrained), ("card", card), ("out", target)):
        words += [f"--{option}", str(value)] if value is not None else []
    words += ["--json"] if as_json else []
    say(f"study: jettag {chosen.command} {shlex.join(words)}")
    command = _command(chosen)
    try:
        context = command.make_context(f"jettag {chosen.command}", words)
    except Exception as error:
        # Typer keeps its usage errors in a private module; they are known by what they carry.
        if not hasattr(error, "format_message"):
            raise
        where = f"jettag {chosen.command}"
        raise UsageError(error.format_message().rstrip("."), where=where, do="give it beside the recipe") from None
    with context:
        command.invoke(context)


def check_options(recipe: "StudyRecipe", name: str) -> None:
    """Refuse options that the recipe's command does not have.

    Raises:
        RecipeError: naming the nearest ones.
    """
    known = {word.removeprefix("--") for parameter in _command(recipe).params for word in parameter.opts}
    for option in recipe.options:
        if option not in known:
            where = f"{name}, options.{option}"
            raise RecipeError(f"no option of `jettag {recipe.command}`", where=where, do=nearest(option, known))


def _command(recipe: "StudyRecipe") -> Any:
    """The command behind a recipe."""
    from .weak import app

    group: Any = typer.main.get_command(app)
    return group.commands[recipe.command.removeprefix("weak ")]
