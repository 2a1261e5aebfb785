"""What a label scan will do: its points, the recipe of each, and the plan that a folder holds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from jettag.config.files import write_atomically
from jettag.config.loading import validate
from jettag.config.recipe import FinetuneRecipe
from jettag.errors import UsageError, nearest
from jettag.evaluation.label_saving import SCRATCH
from jettag.training.run_directory import BESIDE

__all__ = ["Point", "Rules", "known_modes", "point_recipe", "points_of", "settle_plan"]

# A quarter of few labels, a tenth of many, chooses the checkpoint: fewer jets than this judge nothing.
VALIDATION_JETS = (250, 5000)
LOOKS = 20  # validations of a short training, at least
AXES = ("labels", "modes", "seeds")  # what a later call may extend


@dataclass(frozen=True)
class Rules:
    """The same for every mode: optimizer steps from the recipe's epochs, within these."""

    min_steps: int = 500
    max_steps: int = 5000
    max_seconds: float = math.inf
    keep_val_fraction: bool = False  # the recipe's, where the user set it
    keep_val_every: bool = False


@dataclass(frozen=True)
class Point:
    """One training of the scan."""

    mode: str
    labels: int
    seed: int

    @property
    def name(self) -> str:
        """Of its run directory."""
        return f"{self.mode}-{self.labels}-seed{self.seed}"


def known_modes() -> tuple[str, ...]:
    """``scratch`` and the modes of `finetune --mode`."""
    return (SCRATCH, *get_args(FinetuneRecipe.model_fields["mode"].annotation))


def points_of(labels: Sequence[int], seeds: Sequence[int], modes: Sequence[str], *, pretrained: bool) -> list[Point]:
    """Every point: seed by seed, from few labels to many, so that a scan cut short is a scan of fewer seeds.

    Raises:
        UsageError: an unknown mode, one that needs a backbone without one, too few labels, or nothing to do.
    """
    known = known_modes()
    for mode in modes:
        if mode not in known:
            raise UsageError(f"unknown mode {mode!r} in --modes", do=nearest(mode, known))
        if mode != SCRATCH and not pretrained:
            raise UsageError(f"mode {mode} in --modes starts from a backbone", do="give one with --from")
    if not (labels and seeds and modes):
        raise UsageError("nothing to scan", do="give --labels, --seeds and --modes")
    if min(labels) < 1:
        raise UsageError(f"{min(labels)} in --labels", do="give numbers of jets, such as 100,300,1000")
    every_mode = list(dict.fromkeys(modes))
    return [Point(mode, n, seed) for seed in dict.fromkeys(seeds) for n in sorted(set(labels)) for mode in every_mode]


def held_out(labels: int) -> int:
    """How many of the labelled jets choose the checkpoint: a quarter up to 250, a tenth up to 5,000."""
    fewest, most = VALIDATION_JETS
    return min(labels // 4, max(fewest, min(labels // 10, most)))


def point_recipe(
    base: FinetuneRecipe, point: Point, rules: Rules, *, batch_size: int, val_given: bool
) -> FinetuneRecipe:
    """The recipe of a point, with which `jettag finetune` on the same files repeats it.

    Steps are the recipe's epochs of the training jets, within the rules; they depend on the labels alone, so that
    every mode takes as many.
    """
    values = base.model_dump(mode="json")
    data, training = values["data"], values["training"]
    data |= {"max_jets": point.labels, "draw_seed": point.seed}
    if not rules.keep_val_fraction:
        data["val_fraction"] = held_out(point.labels) / point.labels
    held = 0 if val_given else round(data["val_fraction"] * point.labels)
    per_epoch = math.ceil(max(point.labels - held, 1) / min(batch_size, max(point.labels - held, 1)))
    wanted = math.inf if base.training.epochs is None else math.ceil(base.training.epochs * per_epoch)
    most = min(rules.max_steps, base.training.max_steps or rules.max_steps)
    steps = int(min(max(wanted, rules.min_steps), most))
    training |= {"epochs": None, "max_steps": steps}
    if not rules.keep_val_every:
        training["val_every"] = max(min(base.training.val_every, steps // LOOKS), 1)
    values |= {"seed": point.seed}
    values["mode"] = "full" if point.mode == SCRATCH else point.mode
    return validate(FinetuneRecipe, values, where=f"the recipe of {point.name}")


def settle_plan(out: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``plan.json``, or see that the folder's plan is this one, with more labels, modes or seeds perhaps.

    Returns:
        The plan, with the folder's own points before the new ones.

    Raises:
        UsageError: the folder holds another scan.
    """
    path = out / "plan.json"
    wanted = json.loads(json.dumps(plan))
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            differ = [key for key in {**before, **wanted} if key not in AXES and before.get(key) != wanted.get(key)]
            fewer = [key for key in AXES if not set(before[key]) <= set(wanted[key])]
        except (OSError, ValueError, TypeError, KeyError):
            raise UsageError("not the plan of a scan", where=path, do="choose another --out") from None
        if differ:
            what = f"the folder holds a scan with another setting of {', '.join(sorted(differ))}"
            raise UsageError(what, where=out, do="choose another --out, or run the command as it was")
        if fewer:
            what = f"the folder holds a scan of more {', '.join(fewer)}: {before[fewer[0]]}"
            raise UsageError(what, where=out, do="ask for these and more, or choose another --out")
    elif out.is_dir() and any(item.name not in BESIDE for item in out.iterdir()):
        raise UsageError("the folder holds something else", where=out, do="choose another --out")
    write_atomically(path, json.dumps(wanted, indent=1) + "\n")
    return dict(wanted)
