"""jettag ls, cat, cp: what there is, and how to make it one's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from jettag.config import dump_yaml, list_shipped, read_text, read_yaml
from jettag.config.files import write_atomically
from jettag.errors import JettagError, UsageError

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import Overrides

__all__ = ["cat", "cp", "ls"]

Name = Annotated[str, typer.Argument(help="A recipe or card, by name or path.")]
NUM_FEATURES = 17  # of jetclass_full, for the parameter counts shown


def _recipes() -> list[dict[str, Any]]:
    found = list_shipped("recipes")
    rows = [(name, read_yaml(path)) for name, path in found.items()]
    return [
        {
            "name": name,
            "command": str(content.get("command", "")),
            "description": content.get("description", ""),
            "measured": content.get("measured"),
        }
        for name, content in rows
    ]


def _cards() -> list[dict[str, str]]:
    with loading():
        from jettag.data.card import load_card

    return [{"name": name, "description": load_card(name).description} for name in list_shipped("data_cards")]


def _models() -> list[dict[str, Any]]:
    with loading():
        from jettag.models import BACKBONES, SIZES, build_backbone

    rows = []
    for name in BACKBONES:
        for size in SIZES:
            count = sum(p.numel() for p in build_backbone(name, size, NUM_FEATURES).parameters())
            rows.append({"name": name, "size": size, "parameters": count})
    return rows


def _runs() -> list[dict[str, Any]]:
    with loading():
        from jettag.training.run_directory import read_run

    rows = []
    for path in sorted(Path.cwd().glob("**/run.json")):
        try:
            facts = read_run(path.parent)
        except JettagError:
            facts = {"task": "damaged run.json", "finished": None}
        rows.append(
            {
                "run": str(path.parent.relative_to(Path.cwd())),
                "task": facts.get("mode") or facts.get("task"),
                "jets": facts.get("n_train"),
                "finished": None if facts.get("finished", False) is None else bool(facts.get("finished")),
                "started": facts.get("started"),
            }
        )
    return rows


# What the tables write otherwise than `str`.
CELLS: dict[str, Callable[[Any], str]] = {
    "parameters": "{:,}".format,
    "jets": lambda jets: str(jets or ""),
    "finished": lambda finished: "yes" if finished else "no",
    "started": lambda started: str(started or ""),
}
LISTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "recipes": _recipes,
    "cards": _cards,
    "models": _models,
    "runs": _runs,
}


@boundary
def ls(
    what: Annotated[Literal["recipes", "cards", "models", "runs"] | None, typer.Argument()] = None,
    as_json: JsonOption = False,
) -> None:
    """List recipes, cards, models, and the runs below this folder.

    Example: jettag ls recipes
    """
    lists = {name: LISTS[name]() for name in ([what] if what else list(LISTS))}
    if as_json:
        emit_json({"schema": 1, **lists})
        return
    for name, rows in lists.items():
        if not rows:
            say(f"{name}: none here")
            continue
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        shown = [key for key in rows[0] if key != "measured"]  # `jettag cat` tells it, and --json
        for key in shown:
            table.add_column(key, overflow="fold")
        for row in rows:
            table.add_row(*(CELLS.get(key, str)(row[key]) for key in shown))
        out.print(table)


@boundary
def cat(
    name: Name,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default written out.")] = False,
    overrides: Overrides = None,
    as_json: JsonOption = False,
) -> None:
    """Print a recipe or card.

    Example: jettag cat mpm --resolved
    """
    with loading():
        from jettag.config.recipe import load_any_recipe
        from jettag.data.card import load_card

    path, text = read_text(name)
    is_recipe = "command" in read_yaml(path)
    if resolved or overrides:
        if not is_recipe and overrides:
            raise UsageError("--set changes recipes, and this is a card", where=path)
        text = dump_yaml(load_any_recipe(str(path), overrides or []) if is_recipe else load_card(path))
    if as_json:
        emit_json({"schema": 1, "path": str(path), "text": text})
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True, end="")


@boundary
def cp(
    name: Name,
    target: Annotated[Path | None, typer.Argument(help="File or folder; default is here.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a recipe or card, to edit it.

    Example: jettag cp mpm my_mpm.yaml
    """
    path, text = read_text(name)
    place = target or Path()
    place = place / path.name if place.is_dir() else place
    if place.suffix not in (".yaml", ".yml"):
        place = place.with_name(place.name + ".yaml")
    if place.exists() and not force:
        raise UsageError("the file exists", where=place, do="choose another name, or add --force")
    write_atomically(place, text)
    if as_json:
        emit_json({"schema": 1, "path": str(place)})
    say(f"{place}")
