"""What a folder of a weak study holds: everything that decides a point, so that a study goes on and never mixes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jettag.config.files import write_atomically
from jettag.data.identity import file_sha256, identify
from jettag.data.inputs import expand_inputs
from jettag.errors import UsageError
from jettag.training.checkpoint import resolve_checkpoint
from jettag.training.run_directory import BESIDE

if TYPE_CHECKING:
    from jettag.runs.weak_study import WeakStudy

__all__ = ["contents", "settle_parts", "settle_plan", "settle_study"]

PLAN = "plan.json"
TABLES = ("weak.json", "table.md")  # of all parts of a study


def settle_study(out: Path, study: "WeakStudy", *, write: bool = True) -> None:
    """As `settle_plan`; methods, rows, fractions and runs may change.

    Raises:
        UsageError: as `settle_plan`.
    """
    settle_plan(out, _plan(study), write=write)


def settle_plan(out: Path, plan: Mapping[str, Any], *, write: bool = True) -> None:
    """Write ``plan.json`` unless told not to, and see that the folder's plan, where it has one, is this one.

    Raises:
        UsageError: the folder holds another study, or something else.
    """
    path = out / PLAN
    wanted = json.loads(json.dumps(plan))
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if "selection" in wanted:  # before there was a choice the loss ended all trees
                before.setdefault("selection", "loss")
            differ = sorted(key for key in {**before, **wanted} if before.get(key) != wanted.get(key))
        except (OSError, ValueError, AttributeError):
            raise UsageError("not the plan of a study", where=path, do="choose another --out") from None
        if differ:
            what = f"the folder holds a study with another setting of {', '.join(differ)}"
            raise UsageError(what, where=out, do="choose another --out, or run the command as it was")
    elif any(item.name not in BESIDE for item in out.iterdir()):
        raise UsageError("the folder holds something else", where=out, do="choose another --out")
    if write:
        write_atomically(path, json.dumps(wanted, indent=1) + "\n")


def settle_parts(out: Path, parts: Sequence[str]) -> None:
    """See that the folder of a study in parts, where it is there, holds nothing else.

    Raises:
        UsageError: it does, such as a study without parts.
    """
    known = {*parts, *TABLES, *BESIDE}
    other = sorted(item.name for item in out.iterdir() if item.name not in known) if out.is_dir() else []
    if other:
        what = f"the folder holds something else than the parts {', '.join(parts)}: {other[0]}"
        raise UsageError(what, where=out, do="choose another --out")


def _plan(study: "WeakStudy") -> dict[str, Any]:
    sources = study.sources
    source = resolve_checkpoint(study.pretrained) if study.pretrained else None
    return {
        "schema": 1,
        "background": contents(sources.background),
        "signal": contents(sources.signal),
        "test": contents(sources.test),
        "card": sources.card,
        "classes": [list(sources.background_class), list(sources.signal_class)],
        "features": list(study.features),
        "other_fraction": study.other_fraction,
        "folds": study.folds,
        "max_jets": study.max_jets,
        **({"test_jets": study.test_jets} if study.test_jets else {}),
        "noise_features": study.noise_features,
        "components": study.components,
        "selection": study.selection,
        "from": file_sha256(source / "state.json") if source else None,
        "recipe": study.recipe.model_dump(mode="json") if study.recipe else None,
    }


def contents(patterns: Sequence[str]) -> list[list[str | None]]:
    """Checksum, class and name of each file."""
    files = expand_inputs(patterns)
    return [[identify(file).sha256, file.class_name, Path(file.address).name] for file in files]
