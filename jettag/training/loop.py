"""The training loop: step, log, validate, save, stop."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from jettag.config.files import write_atomically
from jettag.data.jets import Table
from jettag.errors import Stopped
from jettag.objectives import Objective
from jettag.training.limits import Limits
from jettag.training.probe import Probe
from jettag.training.signals import STOP, stop_requests, take_stop_file
from jettag.training.trainer import Trainer

__all__ = ["Criterion", "train"]

Log = Callable[[dict[str, Any]], None]
Note = Callable[[str], None]


class Criterion(NamedTuple):
    """What chooses the best checkpoint instead of the validation loss: the higher the better.

    Attributes:
        name: in ``metrics.jsonl``, after ``val_``.
        function: of the averaged model and the validation jets, on a device.
    """

    name: str
    function: Callable[[Objective, Table, torch.device], float]


SECONDS_BETWEEN_SAVES = 300.0  # a checkpoint at least this often, and at every validation


def train(
    trainer: Trainer,
    val_table: Table,
    limits: Limits,
    run: Path,
    *,
    seed: int,
    log: Log,
    note: Note,
    probe: Probe | None = None,
    criterion: Criterion | None = None,
    val_batch_size: int | None = None,
) -> str:
    """Train until the run ends; leave ``last`` and ``best`` checkpoints and ``metrics.jsonl`` in ``run``.

    Args:
        trainer: fresh, or restored from a checkpoint.
        val_table: jets for the validation loss that chooses ``best``.
        limits: when to end.
        run: the run directory; a file ``STOP`` in it ends the run after the step as if a limit were reached.
        seed: of what validation hides.
        log: called with every record written to ``metrics.jsonl``.
        note: called with what the objective is alarmed about.
        probe: asked before the first step and at every validation, if given.
        criterion: judges validations instead of the loss, if given.
        val_batch_size: jets of a batch in validation; None takes as many as in training.

    Returns:
        What ended the run: ``max_steps``, ``max_time``, ``patience`` or ``STOP``.

    Raises:
        DivergenceError: a loss, gradient or validation loss is not finite; the last checkpoint is from before.
        Stopped: a signal came; everything is saved.
    """
    recipe, world = trainer.recipe, trainer.world
    metrics = run / "metrics.jsonl"
    if world.is_first:
        trainer.run = run
        _forget_after(metrics, trainer.step)

    def record(entry: dict[str, Any]) -> None:
        entry = {"step": trainer.step, **entry, "seconds": round(trainer.seconds, 3)}
        if world.is_first:
            with metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        log({**entry, "progress": limits.progress(trainer.step, trainer.seconds)})

    trainer.model.train()
    begin = time.monotonic() - trainer.seconds
    last_save, saving = trainer.seconds, 0.0
    whole, limits = limits, limits.sooner(trainer.closing)
    ended = limits.reached(trainer.step, trainer.seconds) or ("patience" if trainer.out_of_patience else None)
    if probe and not trainer.step:  # what an untrained network gives: growth is seen from there
        record(probe(trainer.averaged.backbone, trainer.device))
    with stop_requests() as stop_request:
        while ended is None:
            losses = trainer.update(limits)
            # One exchange a step, between the hosts: the first process's clock is everybody's, anybody's signal too.
            clock, asked, signalled = world.most(
                time.monotonic() - begin if world.is_first else 0.0,
                world.is_first and (run / STOP).exists(),
                stop_request() or 0,
            )
            trainer.seconds = clock
            ended = limits.reached(trainer.step, trainer.seconds) or (STOP if asked else None)
            if trainer.step % recipe.log_every == 0 or ended:
                trainer.refuse_divergence()
                values = {name: value.item() for name, value in losses.items()}
                record({"jets": trainer.jets, "learning_rate": trainer.rate, **values})
            if trainer.step % recipe.val_every == 0 or ended:
                trainer.refuse_divergence()
                losses_val = trainer.validate(val_table, val_batch_size or trainer.loader.batch_size, seed)
                trainer.refuse_bad_validation(losses_val["loss"])
                ranked = {}
                if criterion:
                    with trainer.autocast():
                        ranked = {criterion.name: criterion.function(trainer.averaged, val_table, trainer.device)}
                is_best = trainer.judge(-ranked[criterion.name] if criterion else losses_val["loss"])
                (trainer.seconds,) = world.most(time.monotonic() - begin if world.is_first else 0.0)
                trainer.closing = max(trainer.closing, trainer.seconds - clock + saving)
                limits = whole.sooner(trainer.closing)
                ended = ended or limits.reached(trainer.step, trainer.seconds)
                ended = ended or ("patience" if trainer.out_of_patience else None)
                alarm = trainer.model.alarm(losses_val)
                values = {f"val_{name}": value for name, value in (losses_val | ranked).items()}
                values |= probe(trainer.averaged.backbone, trainer.device) if probe else {}
                record(values | ({"alarm": alarm} if alarm else {}))
                if alarm:
                    note(alarm)
                trainer.save(run, is_best=is_best)
                last_save = trainer.seconds
                (saving,) = world.most(time.monotonic() - begin - last_save if world.is_first else 0.0)
            elif signalled or trainer.seconds - last_save > SECONDS_BETWEEN_SAVES:
                trainer.save(run, is_best=False)
                last_save = trainer.seconds
            if signalled and not ended:
                raise Stopped(
                    f"stopped at step {trainer.step} of {limits.max_steps}, saved",
                    where=run,
                    do="go on with the same command and --resume",
                    exit_code=int(signalled),
                )
    if world.is_first:
        take_stop_file(run)
    return ended


def _forget_after(metrics: Path, step: int) -> None:
    """Drop records beyond ``step``, at the start all, and one cut short by a kill: a resumed run writes them again."""
    if not metrics.is_file():
        return
    kept = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            if step and json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            continue
    write_atomically(metrics, "".join(line + "\n" for line in kept))
