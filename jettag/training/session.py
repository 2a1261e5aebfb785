"""One training from the jets in memory to the facts in ``run.json``."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from jettag.config.recipe import Recipe
from jettag.data.jets import Table
from jettag.data.loader import Loader, longest_jets
from jettag.data.sampling import sampling_of
from jettag.errors import RecipeError, ResourceError
from jettag.objectives import Classification, Objective
from jettag.training.checkpoint import load_last_good
from jettag.training.distributed import World
from jettag.training.limits import Limits
from jettag.training.loop import Log, train
from jettag.training.memory import estimate
from jettag.training.precompute import embedded
from jettag.training.probe import Probe
from jettag.training.run_directory import update_run
from jettag.training.trainer import Trainer

__all__ = ["BATCH_SIZES", "fit"]

# On a CPU a step costs what its jets cost, and more steps learn more: 64 jets reached a validation loss of 0.18 where
# 128 reached 0.22 with the same jets seen (RESULTS.md). An accelerator is idle with so few.
BATCH_SIZES = {"cpu": 64, "accelerator": 512}
MEASURED_JETS = 8  # of the longest, for the estimate of memory


def fit(
    recipe: Recipe,
    model: Objective,
    table: Table,
    val_table: Table,
    *,
    out: Path,
    device: torch.device,
    world: World,
    settings: dict[str, Any],
    files: Sequence[str],
    resume: bool,
    max_seconds: float,
    max_steps: int | None,
    log: Log,
    note: Callable[[str], None],
    probe: Probe | None = None,
    precompute: bool = True,
) -> None:
    """Build the trainer, restore it where asked, and run the loop.

    Raises:
        RecipeError: the recipe never ends, or its batches are too small to be shared.
        ResourceError: the device's memory is too small.
    """
    if probe is not None and recipe.training.parallel == "fsdp" and world.size > 1:
        raise RecipeError(
            "a probe cannot ask a sharded backbone", where="probe", do="leave it out, or use parallel=ddp"
        )
    batch_size = _batch_size(recipe, len(table), device, note)
    if batch_size < world.size:
        raise RecipeError(f"batches of {batch_size} jets for {world.size} processes", do="raise data.batch_size")
    wanted = recipe.data.sampling
    if wanted and wanted.method == "weights" and not model.weighs_jets:
        do = "use accept"
        raise RecipeError("weights of jets are for supervised losses", where="data.sampling.method", do=do)
    sampling = sampling_of(table, wanted) if wanted else None
    epoch = round(sampling.expected) if sampling else len(table)
    if sampling:
        often = f", one up to {math.ceil(sampling.rate.max())}x" if sampling.method == "countup" else ""
        note(f"data.sampling: about {epoch} of {len(table)} jets an epoch{often}")
        for name, share in sampling.unfilled.items():
            note(f"data.sampling: {name} has no jets in bins with {share:.2%} of those of {wanted and wanted.target}")
    limits = _limits(recipe, epoch, batch_size, max_seconds, max_steps)
    pieces = world.size * recipe.training.accumulate
    if world.size > 1:
        note(f"{world.size} processes; each takes {batch_size // world.size} jets of a batch of {batch_size}")
    longest = longest_jets(table, MEASURED_JETS)
    note(estimate(model, recipe.training, longest).words(math.ceil(batch_size / pieces)))
    if precompute and isinstance(model, Classification) and model.phases.frozen:
        table, val_table = (embedded(part, model, device, note, world) for part in (table, val_table))
    loader = Loader(table, batch_size=batch_size, seed=recipe.seed, sampling=sampling)
    trainer = Trainer(
        model, loader, recipe.training, device=device, seed=recipe.seed, settings=settings, files=files, world=world
    )
    if resume:
        checkpoint = load_last_good(out, note)
        trainer.restore(checkpoint)
        before = checkpoint.state.get("processes", 1)
        if before != world.size:
            note(f"saved by {before} processes, resumed by {world.size}: the same batches, other dropout")
        note(f"resumed at step {trainer.step} of {limits.max_steps}")
    try:
        ended = train(trainer, val_table, limits, out, seed=recipe.seed, log=log, note=note, probe=probe)
    except torch.OutOfMemoryError:
        raise ResourceError("out of device memory", do="set training.accumulate=2, or halve data.batch_size") from None
    if ended in ("patience", "STOP"):
        note(f"ended by {ended} at step {trainer.step}")
    if world.is_first:
        update_run(
            out,
            steps=trainer.step,
            seconds=round(trainer.seconds, 1),
            best_val_loss=trainer.best_loss,
            ended_by=ended,
            stopped=None,
            processes=world.size,
            finished=True,
        )


def _batch_size(recipe: Recipe, num_jets: int, device: torch.device, note: Callable[[str], None]) -> int:
    """Jets in a batch, over all processes and pieces."""
    if recipe.data.batch_size == "auto":
        chosen = BATCH_SIZES["cpu" if device.type == "cpu" else "accelerator"]
        note(f"data.batch_size: auto takes {chosen} on {device.type}")
    else:
        chosen = recipe.data.batch_size
    return min(chosen, num_jets)


def _limits(recipe: Recipe, num_jets: int, batch_size: int, max_seconds: float, max_steps: int | None) -> Limits:
    """The nearest of the recipe's epochs, its max_steps and the command's."""
    per_epoch = math.ceil(num_jets / batch_size)
    candidates = [recipe.training.max_steps, max_steps]
    if recipe.training.epochs is not None:
        candidates.append(math.ceil(recipe.training.epochs * per_epoch))
    given = [steps for steps in candidates if steps is not None]
    if not given and math.isinf(max_seconds):
        raise RecipeError("the recipe never ends", do="set training.epochs or training.max_steps")
    return Limits(min(given) if given else 2**62, max_seconds)
