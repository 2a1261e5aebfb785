"""The training loop: step, log, validate, save, stop."""

import contextlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from jettag.config.recipe import TrainingRecipe
from jettag.data.jets import JetTable
from jettag.data.loader import Loader, once
from jettag.errors import CheckpointError, DivergenceError, Stopped
from jettag.training.checkpoint import Checkpoint, pack_optimizer, save_checkpoint, unpack_optimizer
from jettag.training.optim import build_optimizer, rate_factor, set_learning_rate

__all__ = ["Limits", "train", "validate"]

Log = Callable[[dict[str, Any]], None]
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}
SECONDS_BETWEEN_SAVES = 300.0  # a checkpoint at least this often, and at every validation


@dataclass(frozen=True)
class Limits:
    """When a run ends: after ``max_steps`` updates, or when ``max_seconds`` of training are used up.

    The learning rate falls with whichever limit is nearer, so that a run ended by time is a finished run.
    """

    max_steps: int
    max_seconds: float = math.inf

    def progress(self, step: int, seconds: float) -> float:
        """Fraction of the run that is done."""
        return min(max(step / self.max_steps, seconds / self.max_seconds), 1.0)


class Trainer:
    """Owns all mutable state of a run; `Checkpoint` is its image on disk."""

    def __init__(
        self,
        model: nn.Module,
        loader: Loader,
        recipe: TrainingRecipe,
        *,
        device: torch.device,
        seed: int,
        settings: dict[str, Any],
    ) -> None:
        self.model = model.to(device)
        self.loader = loader
        self.recipe = recipe
        self.device = device
        self.settings = settings
        self.optimizer = build_optimizer(model, recipe)
        self.ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0
        self.jets = 0
        self.seconds = 0.0
        self.best_loss = math.inf
        self.precision = recipe.precision
        if self.precision == "auto":
            self.precision = "fp32" if device.type == "cpu" else "bf16"

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision where the recipe asks for it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def update(self, limits: Limits) -> dict[str, Tensor]:
        """One optimizer step on the next batch. Losses stay on the device: nothing here waits for an accelerator."""
        rate = self.recipe.learning_rate * rate_factor(limits.progress(self.step, self.seconds), self.recipe)
        set_learning_rate(self.optimizer, rate)
        jets = next(self.loader).to(self.device)
        with self.autocast():
            losses = self.model(jets, self.generator)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_gradient_norm)
        if self.device.type == "cpu":
            self.refuse_divergence(losses["loss"], norm)  # costs nothing here; elsewhere it is done when logging
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.jets += len(jets)
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        return {name: value.detach() for name, value in losses.items()} | {"gradient_norm": norm}

    def refuse_divergence(self, loss: Tensor, norm: Tensor) -> None:
        """Stop before a step, or a checkpoint, takes over numbers that are not finite."""
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            raise DivergenceError(
                f"loss {loss.item():g} with gradient norm {norm.item():g} at step {self.step}",
                do="lower training.learning_rate; the last checkpoint is still good",
            )

    @torch.no_grad()
    def validate(self, table: JetTable, batch_size: int, seed: int) -> dict[str, float]:
        """Losses of the averaged model over ``table``."""
        model = self.ema.module if self.ema is not None else self.model
        with self.autocast():
            return validate(model, table, batch_size, self.device, seed)

    def save(self, run: Path, *, is_best: bool) -> Path:
        """Write everything a resumed run needs."""
        tensors, rest = pack_optimizer(self.optimizer)
        tensors["rng.cpu"] = torch.get_rng_state()
        tensors["rng.generator"] = self.generator.get_state()
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        checkpoint = Checkpoint(
            step=self.step,
            model=self.model.state_dict(),
            ema=self.ema.module.state_dict() if self.ema is not None else {},
            optimizer=tensors,
            state={
                "settings": self.settings,
                "loader": self.loader.state_dict(),
                "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
                "jets": self.jets,
                "seconds": self.seconds,
                "optimizer": rest,
            },
        )
        return save_checkpoint(run, checkpoint, keep=self.recipe.keep_checkpoints, is_best=is_best)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written.

        Raises:
            CheckpointError: it belongs to another model.
        """
        if checkpoint.state["settings"] != self.settings:
            raise CheckpointError(
                f"the checkpoint holds {checkpoint.state['settings']}, the recipe makes {self.settings}",
                do="resume with the recipe the run was started with",
            )
        self.model.load_state_dict(checkpoint.model)
        if self.ema is not None:
            self.ema.module.load_state_dict(checkpoint.ema)
        unpack_optimizer(self.optimizer, checkpoint.optimizer, checkpoint.state["optimizer"])
        self.loader.load_state_dict(checkpoint.state["loader"])
        torch.set_rng_state(checkpoint.optimizer["rng.cpu"])
        self.generator.set_state(checkpoint.optimizer["rng.generator"])
        if self.device.type == "cuda" and "rng.cuda" in checkpoint.optimizer:
            torch.cuda.set_rng_state(checkpoint.optimizer["rng.cuda"], self.device)
        self.step = checkpoint.step
        self.jets = checkpoint.state["jets"]
        self.seconds = checkpoint.state["seconds"]
        best = checkpoint.state["best_loss"]
        self.best_loss = math.inf if best is None else best


@torch.no_grad()
def validate(model: nn.Module, table: JetTable, batch_size: int, device: torch.device, seed: int) -> dict[str, float]:
    """Mean of each loss per jet, in evaluation mode; what is hidden is drawn from ``seed``, so two calls agree."""
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    for _, jets in once(table, batch_size):
        for name, value in model(jets.to(device), generator).items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + value * len(jets)
    model.train(was_training)
    return {name: value.item() / len(table) for name, value in sums.items()}


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], int | None]]:
    """Yield a function that tells the exit code of a signal received, if any; the first signal is only noted."""
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: stop now
        received.append(number)

    try:
        previous = {number: signal.signal(number, note) for number in SIGNALS}
    except ValueError:  # not in the main thread: a notebook or a test drives us, signals are theirs
        previous = {}
    try:
        yield lambda: SIGNALS[signal.Signals(received[0])] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def train(trainer: Trainer, val_table: JetTable, limits: Limits, run: Path, *, seed: int, log: Log) -> None:
    """Train until a limit is reached; leave ``last`` and ``best`` checkpoints and ``metrics.jsonl`` in ``run``.

    Args:
        trainer: fresh, or restored from a checkpoint.
        val_table: jets for the validation loss that chooses ``best``.
        limits: when to end.
        run: the run directory.
        seed: of what validation hides.
        log: called with every record written to ``metrics.jsonl``.

    Raises:
        DivergenceError: a loss or gradient is not finite; the last checkpoint is from before.
        Stopped: a signal came; everything is saved.
    """
    recipe = trainer.recipe
    batch_size = trainer.loader.batch_size
    metrics = run / "metrics.jsonl"
    _forget_after(metrics, trainer.step)

    def record(entry: dict[str, Any]) -> None:
        entry = {"step": trainer.step, **entry, "seconds": round(trainer.seconds, 3)}
        with metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        log({**entry, "progress": limits.progress(trainer.step, trainer.seconds)})

    trainer.model.train()
    begin = time.monotonic() - trainer.seconds
    last_save = trainer.seconds
    with _stop_requests() as stop_request:
        while limits.progress(trainer.step, trainer.seconds) < 1:
            losses = trainer.update(limits)
            trainer.seconds = time.monotonic() - begin
            done = limits.progress(trainer.step, trainer.seconds) >= 1
            if trainer.step % recipe.log_every == 0 or done:
                trainer.refuse_divergence(losses["loss"], losses["gradient_norm"])
                rate = trainer.optimizer.param_groups[0]["lr"] / trainer.optimizer.param_groups[0]["lr_scale"]
                values = {name: value.item() for name, value in losses.items()}
                record({"jets": trainer.jets, "learning_rate": rate, **values})
            stopped = stop_request()
            if trainer.step % recipe.val_every == 0 or done:
                losses_val = trainer.validate(val_table, batch_size, seed)
                is_best = losses_val["loss"] < trainer.best_loss
                trainer.best_loss = min(trainer.best_loss, losses_val["loss"])
                trainer.seconds = time.monotonic() - begin
                record({f"val_{name}": value for name, value in losses_val.items()})
                trainer.save(run, is_best=is_best)
                last_save = trainer.seconds
            elif stopped is not None or trainer.seconds - last_save > SECONDS_BETWEEN_SAVES:
                trainer.refuse_divergence(losses["loss"], losses["gradient_norm"])
                trainer.save(run, is_best=False)
                last_save = trainer.seconds
            if stopped is not None and not done:
                raise Stopped(
                    f"stopped at step {trainer.step} of {limits.max_steps}, saved",
                    where=run,
                    do="go on with the same command and --resume",
                    exit_code=stopped,
                )


def _forget_after(metrics: Path, step: int) -> None:
    """Drop records beyond ``step``: a resumed run writes them again."""
    if metrics.is_file():
        lines = metrics.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        metrics.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
