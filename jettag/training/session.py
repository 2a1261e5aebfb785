"""One training from the jets in memory to the facts in ``run.json``."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from jettag.config.recipe import Recipe
from jettag.data.jets import Table
from jettag.data.loader import Loader, longest_jets
from jettag.data.prefetch import Prefetched
from jettag.data.sampling import sampling_of
from jettag.errors import RecipeError, ResourceError, out_of_memory
from jettag.objectives import Classification, Objective
from jettag.training.checkpoint import load_last_good
from jettag.training.distributed import World
from jettag.training.limits import Limits
from jettag.training.loop import Criterion, Log, train
from jettag.training.memory import estimate
from jettag.training.precompute import EmbeddedTable, embedded
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
    criterion: Criterion | None = None,
) -> None:
    """Build the trainer, restore it where asked, and run the loop.

    Raises:
        RecipeError: the recipe never ends, or its batches are too small to be shared or cut.
        ResourceError: the device's memory is too small.
    """
    if recipe.training.precision == "fp64":
        if device.type == "mps":
            raise RecipeError("mps has no double precision", where="training.precision", do="use --device cpu")
        model.double()  # before its memory is estimated, and a frozen backbone embeds
    if probe is not None and recipe.training.parallel == "fsdp" and world.size > 1:
        raise RecipeError(
            "a probe cannot ask a sharded backbone", where="probe", do="leave it out, or use parallel=ddp"
        )
    batch_size = _batch_size(recipe, len(table), device, note)
    if batch_size < world.size:
        raise RecipeError(f"batches of {batch_size} jets for {world.size} processes", do="raise data.batch_size")
    if (own := batch_size // world.size) < recipe.training.accumulate:
        what = (
            f"training.accumulate={recipe.training.accumulate} pieces of the {own} jets that a process has of a batch"
        )
        raise RecipeError(what, do=f"set it to {own} or less")
    if recipe.training.compile and recipe.training.accumulate > 1 and model.compares and device.type != "cpu":
        # Pieces are embedded twice, and must drop the same; one program with gradients and one without may not there.
        what = "compiled blocks drop other entries when a batch that is compared is cut in pieces"
        if any(value for name, value in model.backbone.settings().items() if "drop" in name):
            raise RecipeError(what, where="training.compile", do="set it to false, or training.accumulate to 1")
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
    tokens = _max_tokens(recipe, batch_size, world)
    order: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": recipe.seed,
        "max_tokens": tokens,
        "sampling": sampling,
    }
    per_epoch = math.ceil(epoch / batch_size)
    if tokens is not None:
        per_epoch = Loader(table, **order).estimate_batches()
        note(f"data.max_tokens: about {per_epoch} batches an epoch, {epoch / per_epoch:.0f} jets each")
    limits = _limits(recipe, per_epoch, max_seconds, max_steps)
    pieces = world.size * recipe.training.accumulate
    if world.size > 1:
        note(f"{world.size} processes; each takes {batch_size // world.size} jets of a batch of {batch_size}")
    longest = longest_jets(table, MEASURED_JETS)
    # As many of the longest jets as a batch may have: all of it without a budget.
    most = batch_size if tokens is None else min(batch_size, max(tokens // longest.mask.shape[1], 1))
    note(estimate(model, recipe.training, longest).words(math.ceil(most / pieces)))
    begin = time.monotonic()
    if precompute and isinstance(model, Classification) and model.phases.frozen:
        table, val_table = (embedded(part, model, device, note, world) for part in (table, val_table))
        if isinstance(table, EmbeddedTable) and model.starts_fitted:
            model.phases = replace(model.phases, first_rate=1.0)  # for the steps that follow
            if not resume:
                from jettag.training.fitted import fit_head  # sklearn: seconds to import

                fit_head(model.to(device), table.embeddings, table.label, note)
    with contextlib.ExitStack() as stack:
        plain = Loader(
            table,
            **order,
            rank=world.rank,
            world_size=world.size,
            pieces=recipe.training.accumulate,
            device=device,
        )
        loader: Loader | Prefetched = plain
        # What a frozen backbone has seen already is in memory, and whether it is frozen is decided at each step.
        if recipe.data.prefetch and not isinstance(table, EmbeddedTable):
            loader = stack.enter_context(Prefetched(plain, recipe.data.prefetch, recipe.data.workers))
        trainer = Trainer(
            model, loader, recipe.training, device=device, seed=recipe.seed, settings=settings, files=files, world=world
        )
        (trainer.seconds,) = world.most(time.monotonic() - begin)  # --max-time counts what was embedded and fitted
        if resume:
            checkpoint = load_last_good(out, note)
            trainer.restore(checkpoint)
            before = checkpoint.state.get("processes", 1)
            if before != world.size:
                note(f"saved by {before} processes, resumed by {world.size}: the same batches, other dropout")
            note(f"resumed at step {trainer.step} of {limits.max_steps}")
        try:
            ended = train(
                trainer,
                val_table,
                limits,
                out,
                seed=recipe.seed,
                log=log,
                note=note,
                probe=probe,
                criterion=criterion,
                val_batch_size=most,
            )
        except (MemoryError, RuntimeError) as problem:
            if not out_of_memory(problem):
                raise
            do = "set training.accumulate=2 or backbone.settings.checkpointing=true, or halve data.batch_size"
            raise ResourceError("out of memory in training", do=do) from None
    if ended in ("patience", "STOP"):
        note(f"ended by {ended} at step {trainer.step}")
    reached = trainer.best_loss if math.isfinite(trainer.best_loss) else None  # a run that ends before a validation
    best: dict[str, Any] = {"best_val_loss": reached}
    if criterion:
        best = {f"best_val_{criterion.name}": reached and -reached}
    if world.is_first:
        update_run(
            out,
            steps=trainer.step,
            seconds=round(trainer.seconds, 1),
            **best,
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


def _max_tokens(recipe: Recipe, batch_size: int, world: World) -> int | None:
    """The token budget, where it leaves every process jets in every batch."""
    tokens = recipe.data.max_tokens
    if tokens is None or world.size == 1:
        return tokens
    # `cut_by_tokens` halves two batches at worst.
    needed = 2 * world.size * recipe.data.max_constituents
    if tokens < needed:
        what = f"data.max_tokens={tokens} for {world.size} processes and jets of {recipe.data.max_constituents}"
        raise RecipeError(what, do=f"set it to {needed} or more: two of the longest jets for each process")
    if batch_size < 2 * world.size:
        what = f"batches of {batch_size} jets and data.max_tokens for {world.size} processes"
        raise RecipeError(what, do=f"set data.batch_size to {2 * world.size} or more")
    return tokens


def _limits(recipe: Recipe, per_epoch: int, max_seconds: float, max_steps: int | None) -> Limits:
    """The nearest of the recipe's epochs, its max_steps and the command's."""
    candidates = [recipe.training.max_steps, max_steps]
    if recipe.training.epochs is not None:
        candidates.append(math.ceil(recipe.training.epochs * per_epoch))
    given = [steps for steps in candidates if steps is not None]
    if not given and math.isinf(max_seconds):
        raise RecipeError("the recipe never ends", do="set training.epochs or training.max_steps")
    return Limits(min(given) if given else 2**62, max_seconds)
