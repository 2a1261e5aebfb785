"""All mutable state of a run, and one step of it."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from jettag.config.recipe import TrainingRecipe
from jettag.data.jets import JetTable
from jettag.data.loader import Loader
from jettag.errors import CheckpointError, DivergenceError
from jettag.training.blame import blame
from jettag.training.checkpoint import Checkpoint, pack_optimizer, save_checkpoint, unpack_optimizer
from jettag.training.limits import Limits
from jettag.training.optim import build_optimizer, rate_factor, set_learning_rate
from jettag.training.validation import validate

__all__ = ["Trainer"]


class Trainer:
    """Owns all mutable state of a run; `Checkpoint` is its image on disk.

    Args:
        model: an objective: batch -> ``{"loss": ..., parts}``.
        loader: endless batches with a place that can be saved.
        recipe: how to train.
        device: where.
        seed: of what the objective draws.
        settings: what a checkpoint must say for its tensors to mean anything.
        files: the inputs' names, for messages about single jets.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Loader,
        recipe: TrainingRecipe,
        *,
        device: torch.device,
        seed: int,
        settings: dict[str, Any],
        files: Sequence[str] = (),
    ) -> None:
        self.model = model.to(device)
        self.loader = loader
        self.recipe = recipe
        self.device = device
        self.settings = settings
        self.files = files
        self.optimizer = build_optimizer(model, recipe)
        self.ema = ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True) if recipe.ema_decay else None
        self.generator = torch.Generator().manual_seed(seed)
        self.run: Path | None = None  # where `blame` writes
        self.step = 0
        self.jets = 0
        self.seconds = 0.0
        self.best_loss = math.inf
        self.stale = 0  # validations since the best one
        self.unchecked: list[tuple[int, dict[str, Any], Tensor]] = []  # step, loader's place before it, (loss, norm)
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
        place = self.loader.state_dict()
        jets = next(self.loader).to(self.device)
        with self.autocast():
            losses = self.model(jets, self.generator)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_gradient_norm)
        self.unchecked.append((self.step, place, torch.stack([losses["loss"].detach(), norm])))
        if self.device.type == "cpu":
            self.refuse_divergence()  # costs nothing here; elsewhere it is done when logging
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.jets += len(jets)
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        return {name: value.detach() for name, value in losses.items()} | {"gradient_norm": norm}

    def refuse_divergence(self) -> None:
        """Stop before a step, or a checkpoint, takes over numbers that are not finite.

        Raises:
            DivergenceError: naming the first batch that gave such a number, and its jets.
        """
        if not self.unchecked:
            return
        numbers = torch.stack([values for _, _, values in self.unchecked]).cpu()
        if not numbers.isfinite().all():
            first = int((~numbers.isfinite().all(1)).nonzero()[0, 0])
            (step, place, _), (loss, norm) = self.unchecked[first], numbers[first].tolist()
            self.loader.load_state_dict(place)
            culprits = blame(self.run, next(self.loader), self.loader.origin(), self.files, step=step, loader=place)
            raise DivergenceError(
                f"loss {loss:g} with gradient norm {norm:g} at step {step} ({culprits})",
                where=self.run / "bad_batch.json" if self.run else "",
                do="repair those jets, or lower training.learning_rate; the last checkpoint is still good",
            )
        self.unchecked.clear()

    @torch.no_grad()
    def validate(self, table: JetTable, batch_size: int, seed: int) -> dict[str, float]:
        """Losses of the averaged model over ``table``."""
        model = self.ema.module if self.ema is not None else self.model
        with self.autocast():
            return validate(model, table, batch_size, self.device, seed)

    def judge(self, loss: float) -> bool:
        """Take note of a validation loss; True where it is the best so far."""
        is_best = loss < self.best_loss
        self.stale = 0 if is_best else self.stale + 1
        self.best_loss = min(self.best_loss, loss)
        return is_best

    @property
    def out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for as long as the recipe waits."""
        return self.recipe.patience is not None and self.stale >= self.recipe.patience

    def save(self, run: Path, *, is_best: bool) -> Path:
        """Write everything a resumed run needs.

        Raises:
            DivergenceError: a number since the last look was not finite; nothing is written.
        """
        self.refuse_divergence()
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
                "stale": self.stale,
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
        self.stale = checkpoint.state.get("stale", 0)
