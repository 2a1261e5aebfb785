"""jettag validate: are recipes right, and which models do they make?"""

import shlex
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jettag.config import find
from jettag.errors import JettagError, RecipeError, Stopped, nearest

from .console import JsonOption, boundary, emit_json, say
from .entry import loading
from .options import Overrides

if TYPE_CHECKING:
    from torch.nn import Module

    from jettag.config.recipe import Recipe

__all__ = ["validate"]


@boundary
def validate(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="Names, paths or globs.")],
    overrides: Overrides = None,
    as_json: JsonOption = False,
) -> None:
    """Check recipes: every mistake at once, and their models.

    Example: jettag validate mpm 'mine/*.yaml' --set training.learning_rate=3e-4
    """
    names = _each(recipes)
    rows: list[dict[str, Any]] = []
    errors: list[JettagError] = []
    for name in names:
        try:
            row, said = _check(name, overrides or [])
            say(f"{name} is valid: {said}")
        except JettagError as error:
            if len(names) == 1 or isinstance(error, Stopped):
                raise
            errors.append(error)
            row = {"recipe": name, "valid": False, "parameters": {}, "problem": str(error)}
            say(f"{name} is not valid: {error}")
        rows.append(row)
    if as_json:
        emit_json({"schema": 1, **rows[0]} if len(rows) == 1 else {"schema": 1, "recipes": rows})
    if errors:
        raise type(errors[0])(f"{len(errors)} of {len(names)} recipes are not valid", do="see the lines above")


def _each(patterns: Sequence[str]) -> list[str]:
    """The names, with the files of globs in the place of these, each once.

    Raises:
        RecipeError: a glob that no file fits.
    """
    found: list[str] = []
    for pattern in patterns:
        if not has_magic(pattern) or Path(pattern).exists():
            found.append(pattern)
            continue
        files = sorted(glob(pattern, recursive=True))  # noqa: PTH207 - Path.glob has no absolute patterns
        if not files:
            raise RecipeError("no recipe found", where=pattern, do="check the folder and the pattern")
        found += files
    return list(dict.fromkeys(found))


def _check(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """What --json and the line for the person say of a recipe that is right.

    Raises:
        JettagError: it is wrong, or its card.
    """
    with loading():
        from jettag.config.recipe import load_any_recipe
        from jettag.config.study import StudyRecipe

    from .weak_study import check_options

    resolved = load_any_recipe(name, overrides)
    row = {"recipe": str(find("recipes", name)), "valid": True, "parameters": {}}
    if isinstance(resolved, StudyRecipe):
        check_options(resolved, name)
        calls = [f"jettag {resolved.command} {shlex.join(resolved.words(part))}" for part in resolved.parts or (None,)]
        return row, "\n".join(calls)
    counts = _parameters(resolved)
    called = {name: name if name == "tokenizer" else f"{name} backbone" for name in counts}
    said = ", ".join(f"{called[name]} of {count:,} parameters" for name, count in counts.items())
    return row | {"parameters": counts}, said


def _parameters(resolved: "Recipe") -> dict[str, int]:
    """Parameters of the tokenizer, or of the backbone in each size that it may have."""
    with loading():
        from jettag.config.objectives import TokenizerRecipe
        from jettag.config.recipe import FinetuneRecipe, PretrainRecipe
        from jettag.data.card import load_card
        from jettag.data.features import feature_set
        from jettag.data.richest import AUTO, richest_of_card
        from jettag.models import build_backbone
        from jettag.objectives.build import JetsAre, build_tokenizer

    card = load_card(resolved.data.card)
    features = resolved.data.features
    names = feature_set(richest_of_card(card) if features == AUTO else features).names
    # Classes that argos ranks are samples, which the command line names, and not the card.
    on_card = isinstance(resolved, FinetuneRecipe) and resolved.selection != "argos"
    for name in resolved.classes if isinstance(resolved, FinetuneRecipe) and on_card else ():
        if card.classes and name not in card.classes:
            raise RecipeError(f"classes: no class {name!r} on card {card.name}", do=nearest(name, card.classes))
    backbone = resolved.backbone
    objective = resolved.objective if isinstance(resolved, PretrainRecipe) else None
    built: dict[str, Module] = {}
    if isinstance(objective, TokenizerRecipe):
        built["tokenizer"] = build_tokenizer(objective, JetsAre(names, resolved.data.max_constituents))
    else:
        for size in ["tiny", "base"] if backbone.size == "auto" else [backbone.size]:
            built[size] = build_backbone(backbone.name, size, len(names), **backbone.settings)
    return {name: sum(p.numel() for p in model.parameters()) for name, model in built.items()}
