"""jettag weak study: a whole study by the name of its recipe."""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jettag.errors import RecipeError, UsageError, nearest

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import refuse_file
from .weak_options import Folder

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
    target: Folder = None,
    parts: Annotated[
        list[str] | None, typer.Option("--part", help="Only this one of a study in parts.", metavar="NAME")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="Change an option: options.runs=3.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """A whole study in one word: the command and options of a recipe, of one in parts once for each of them.

    Example: jettag weak study weak-top --background QCD.root --signal Tbqq.root --test 'test/*.root' --out study
    """
    with loading():
        from jettag.config.study import load_study

    chosen = load_study(recipe, overrides or [])
    check_options(chosen, recipe)
    asked = _asked(chosen, parts or (), recipe)
    refuse_file(target)
    given = []
    for option, files in (("background", background), ("signal", signal), ("test", test), ("simulation", simulation)):
        given += [f"--{option}", *files] if files else []
    for option, value in (("from", pretrained), ("card", card)):
        given += [f"--{option}", str(value)] if value is not None else []
    if not asked:
        more = [*(["--out", str(target)] if target else ()), *(["--json"] if as_json else ())]
        _run(chosen, [*chosen.words(), *given, *more], "study")
        return
    if target:
        from jettag.runs.weak_plan import settle_parts

        settle_parts(target, list(chosen.parts))
    contents: dict[str, Any] = {}
    for part in asked:
        more = ["--out", str(target / part)] if target else []
        with redirect_stdout(StringIO()) as printed:
            _run(chosen, [*chosen.words(part), *given, *more, "--json"], f"part {part}")
        contents[part] = json.loads(printed.getvalue())
        if not as_json:
            _show(part, contents[part])
    if target:
        contents = {part: contents.get(part) or _found(target / part) for part in chosen.parts}
        _write(target, {part: content for part, content in contents.items() if content})
    if as_json:
        emit_json({"schema": 1, "parts": {part: contents[part] for part in asked}})


def _asked(recipe: "StudyRecipe", parts: Sequence[str], name: str) -> list[str]:
    """The parts to run, in the recipe's order.

    Raises:
        UsageError: there is no such part.
    """
    for part in parts:
        if part not in recipe.parts:
            do = nearest(part, recipe.parts) if recipe.parts else "leave out --part"
            raise UsageError(f"no part {part!r} in {name}", where="--part", do=do)
    return [part for part in recipe.parts if part in parts or not parts]


def _run(recipe: "StudyRecipe", words: list[str], what: str) -> None:
    """Run the recipe's command.

    Raises:
        UsageError: something that the recipe does not give is missing.
    """
    say(f"{what}: jettag {recipe.command} {shlex.join(words)}")
    command = _command(recipe)
    try:
        context = command.make_context(f"jettag {recipe.command}", words)
    except Exception as error:
        # Typer keeps its usage errors in a private module; they are known by what they carry.
        if not hasattr(error, "format_message"):
            raise
        where = f"jettag {recipe.command}"
        raise UsageError(error.format_message().rstrip("."), where=where, do="give it beside the recipe") from None
    with context:
        command.invoke(context)


def _show(part: str, content: Mapping[str, Any]) -> None:
    from .weak_table import print_study

    out.rule(part)
    print_study(out, content)


def _found(folder: Path) -> dict[str, Any] | None:
    """What an earlier call left of another part."""
    try:
        content: dict[str, Any] = json.loads((folder / "weak.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content


def _write(target: Path, contents: Mapping[str, Mapping[str, Any]]) -> None:
    from jettag.evaluation.weak_parts import write_parts

    write_parts(target, contents)
    say(f"study: table of {', '.join(contents)} in {target}")


def check_options(recipe: "StudyRecipe", name: str) -> None:
    """Refuse options that the recipe's command does not have.

    Raises:
        RecipeError: naming the nearest ones.
    """
    known = {word.removeprefix("--") for parameter in _command(recipe).params for word in parameter.opts}
    places = {"options": recipe.options, **{f"parts.{part}": options for part, options in recipe.parts.items()}}
    for place, options in places.items():
        for option in options:
            if option not in known:
                where = f"{name}, {place}.{option}"
                raise RecipeError(f"no option of `jettag {recipe.command}`", where=where, do=nearest(option, known))


def _command(recipe: "StudyRecipe") -> Any:
    """The command behind a recipe."""
    from .weak import app

    group: Any = typer.main.get_command(app)
    return group.commands[recipe.command.removeprefix("weak ")]
