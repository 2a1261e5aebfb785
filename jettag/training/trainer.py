"""All mutable state of a run, and one step of it."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor

from jettag.config.recipe import TrainingRecipe
from jettag.data.jets import Batch, Table
from jettag.data.loader import Share
from jettag.data.prefetch import Batches
from jettag.errors import CheckpointError, DivergenceError
from jettag.models.compiling import compile_blocks
from jettag.models.randomness import device_state, set_device_state
from jettag.objectives import Objective
from jettag.objectives.chance import Chance, Shared
from jettag.training.blame import blame, suspects, what_is_left
from jettag.training.checkpoint import Checkpoint, pack_optimizer, save_checkpoint, unpack_optimizer
from jettag.training.comparing import compare
from jettag.training.devices import has_fast_bf16
from jettag.training.distributed import ALONE, World, spread
from jettag.training.limits import Limits
from jettag.training.optim import build_optimizer, rate_factor, set_learning_rate, unchanged_if
from jettag.training.pieces import Means, Piece, cut
from jettag.training.sharding import clip, like, load_whole, parts, refuse_unshardable, shard, whole
from jettag.training.validation import validate

__all__ = ["Trainer"]

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Owns all mutable state of a run; `Checkpoint` is its image on disk.

    Args:
        model: an objective: batch -> ``{"loss": ..., parts}``; it takes jets in single precision, whatever its own.
        loader: endless batches with a place that can be saved.
        recipe: how to train.
        device: where.
        seed: of what the objective draws.
        settings: what a checkpoint must say for its tensors to mean anything.
        files: the inputs' names, for messages about single jets.
        world: the processes that train together.

    Raises:
        ValueError: the loader deals batches for another number of pieces than the recipe cuts them in.
    """

    def __init__(
        self,
        model: Objective,
        loader: Batches,
        recipe: TrainingRecipe,
        *,
        device: torch.device,
        seed: int,
        settings: dict[str, Any],
        files: Sequence[str] = (),
        world: World = ALONE,
    ) -> None:
        if loader.pieces != recipe.accumulate:
            msg = f"a loader of batches in {loader.pieces} pieces where training.accumulate is {recipe.accumulate}"
            raise ValueError(msg)
        self.model = model.to(device, torch.float64) if recipe.precision == "fp64" else model.to(device)
        self.loader = loader
        self.recipe = recipe
        self.device = device
        self.settings = settings
        self.files = files
        self.world = world
        refuse_unshardable(recipe, device, world)
        self.sharded = world.size > 1 and recipe.parallel == "fsdp"
        self.ema = (  # in one go; parameters that are sharded and buffers that are not do not go together
            ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True, foreach=not self.sharded)
            if recipe.ema_decay
            else None
        )
        if recipe.compile:
            compile_blocks(model)
            if self.ema is not None:
                compile_blocks(self.ema.module)
        # The average is copied before the model is spread: sharded parameters cannot be copied.
        self.parallel = self._spread()
        self.optimizer = build_optimizer(model, recipe)
        self.generator = torch.Generator().manual_seed(seed)
        if world.rank:
            torch.manual_seed(seed + world.rank * 1_000_003)  # dropout must differ between the processes
        self.run: Path | None = None  # where `blame` writes
        self.step = 0
        self.progress = 0.0  # of the run, at the latest step
        self.rate = 0.0  # learning rate at the latest step
        self.jets = 0
        self.seconds = 0.0
        self.closing = 0.0  # seconds that a validation and the save after it take at most
        self.best_loss = math.inf
        self.stale = 0  # validations since the best one
        self.unchecked: list[tuple[int, dict[str, Any], Tensor]] = []  # step, loader's place before it, (loss, norm)
        # On a CPU the numbers are looked at before each step. An accelerator would have to be waited for: it leaves out
        # that step and all after it by itself, and is asked before anything is recorded, validated or saved.
        self.looks_at_each_step = device.type == "cpu"
        self.diverged: Tensor | None = None  # () bool on the accelerator, since the last look
        self.precision = recipe.precision
        if self.precision == "auto":
            self.precision = "bf16" if device.type != "cpu" and has_fast_bf16(device) else "fp32"
        # A step that overflows in half precision is left out, and the scale halved. Optimizers other than AdamW wait
        # for the device to say whether it did, so bf16, which needs no scaler, is the default.
        self.scaler = torch.amp.GradScaler(device.type) if self.precision == "fp16" else None

    def _spread(self) -> Any:
        """The model as it is called in training; sharded in place, its average too, where the recipe says so."""
        if not self.sharded:
            return spread(self.model, self.world)
        if self.ema is not None:
            shard(self.ema.module, self.device, self.world)
        return shard(self.model, self.device, self.world)

    def _respread(self) -> None:
        """Tell DDP anew which parameters have gradients; sharded parameters know."""
        if not self.sharded:
            self.parallel = spread(self.model, self.world)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision where the recipe asks for it."""
        if self.precision not in PRECISIONS:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    def next_batch(self) -> Batch:
        """This process's part of the next batch."""
        return next(self.loader)

    def update(self, limits: Limits) -> dict[str, Tensor]:
        """One optimizer step on the next batch. Losses stay on the device: nothing here waits for an accelerator."""
        self.go_to(limits.progress(self.step, self.seconds))
        place = self.loader.state_dict()
        batch = self.next_batch()
        share = self.loader.share()
        losses = self.gradients(batch, share)
        norm = clip(self.model, self.recipe.clip_gradient_norm)
        numbers = torch.stack([losses["loss"], norm.to(losses["loss"].dtype)])
        self.unchecked.append((self.step, place, numbers))
        if self.looks_at_each_step:
            self.refuse_divergence()
        with self._unchanged_if_diverged(numbers):
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.jets += share.total
        if self.ema is not None:
            self.ema.update(self.model, self.step)
        return losses | {"gradient_norm": norm}

    def _is_bad(self, numbers: Tensor) -> Tensor:
        """(..., 2) losses and gradients' norms -> (...) whether one is not finite."""
        if self.scaler is not None:
            numbers = numbers[..., :1]  # a gradient that overflows is what the scaler is for
        return ~numbers.isfinite().all(-1)

    def _unchanged_if_diverged(self, numbers: Tensor) -> contextlib.AbstractContextManager[None]:
        """Leaves the weights as they are if these numbers, or those of a step before them, are not finite.

        Only the weights: moments, averages and batch statistics take such numbers, and all that such a trainer is good
        for is the error of `refuse_divergence`.
        """
        if self.looks_at_each_step:
            return contextlib.nullcontext()
        bad = self._is_bad(numbers)
        self.diverged = bad if self.diverged is None else self.diverged | bad
        return unchanged_if(self.diverged, parts(p for group in self.optimizer.param_groups for p in group["params"]))

    def go_to(self, progress: float) -> None:
        """Set the learning rates for ``progress`` of the run, and begin another phase where one begins there."""
        self.progress = progress
        if self.model.enter(progress):
            self._respread()
            self.stale = 0
        head, backbone = self.model.phases.rates(progress, lambda share: rate_factor(share, self.recipe))
        self.rate = self.recipe.learning_rate * head
        set_learning_rate(self.optimizer, self.rate, self.recipe.learning_rate * backbone)

    def gradients(self, batch: Batch, share: Share | None = None) -> dict[str, Tensor]:
        """Gradients of a batch's loss in the parameters, and its losses.

        The batch may be spread over processes and cut in pieces, of which its share tells. Then each piece gives
        loss * weight, and the sum is divided by the weight of the whole batch when that is known.

        Args:
            batch: this process's jets, not yet on the device.
            share: what they are of the whole batch; None where they are all of it, to be cut as the recipe says.
        """
        total, number = (share.total, share.pieces) if share else (len(batch), min(self.recipe.accumulate, len(batch)))
        drawn = self.model.draw(batch.pad(self.model.draws_from), self._chance(share))
        means = Means(self.world)
        alone = True
        pieces = list(cut(batch.to(self.device), drawn, number))
        for (jets, rows, is_last), more in zip(pieces, self._compared(pieces, total), strict=True):
            alone = len(jets) == total
            hold = (
                contextlib.nullcontext() if is_last or self.sharded or self.world.size == 1 else self.parallel.no_sync()
            )
            with hold:
                with self.autocast():
                    losses = self.parallel(jets, drawn=rows, **more)
                weight = losses.pop("weight").detach()
                loss = losses["loss"] if alone else losses["loss"] * weight[0] * (self.world.size / total)
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            means.add(losses, weight)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        found, weight = means.finish()
        if not alone:
            present = [p.grad for p in self.model.parameters() if p.grad is not None]
            torch._foreach_mul_(parts(present), (total / weight).to(present[0].dtype))  # slow with another type
        return found

    def _chance(self, share: Share | None) -> Chance:
        """What the objective draws from: the same numbers for a jet whichever process has it."""
        if share is None or (self.world.size == 1 and share.pieces == 1):
            return self.generator
        return Shared(self.generator, share.total, torch.from_numpy(share.places), self.world.sum)

    def _compared(self, pieces: Sequence[Piece], total: int) -> list[dict[str, Any]]:
        """What each piece must be told of the whole batch, where jets are compared beyond their piece."""
        if not self.model.compares or len(pieces) == 1:
            return [{}] * len(pieces)
        found = compare(self.model, self.parallel, pieces, total=total, device=self.device, autocast=self.autocast)
        return [{"compared": compared} for compared in found]

    def refuse_divergence(self) -> None:
        """Stop before a step, a record, a validation or a checkpoint takes over numbers that are not finite.

        All processes must call it after the same step; the numbers are those of the whole batch, equal on all.

        Raises:
            DivergenceError: naming the first batch that gave such a number, and its jets.
        """
        if not self.unchecked:
            return
        numbers = torch.stack([values for _, _, values in self.unchecked]).cpu()
        if (bad := self._is_bad(numbers)).any():
            first = int(bad.nonzero()[0, 0])
            (step, place, _), (loss, norm) = self.unchecked[first], numbers[first].tolist()
            self.loader.load_state_dict(place)
            batch = self.next_batch().pad()
            told = suspects(batch, self.loader.origin(), self.loader.share().places, self.files)
            culprits, do = blame(self.run, self.world.union(told), step=step, loader=place)
            raise DivergenceError(
                f"loss {loss:g} with gradient norm {norm:g} at step {step} ({culprits})",
                where=self.run / "bad_batch.json" if self.run else "",
                do=do,
            )
        self.unchecked.clear()

    def refuse_bad_validation(self, loss: float) -> None:
        """Stop before a checkpoint is made of weights that give no number where others are asked for one.

        Raises:
            DivergenceError: the validation loss, equal on all processes, is not finite.
        """
        if not math.isfinite(loss):
            raise DivergenceError(
                f"validation loss {loss:g} after step {self.step}",
                where=self.run or "",
                do=f"start anew with a lower training.learning_rate; {what_is_left(self.run)}",
            )

    @property
    def averaged(self) -> Objective:
        """The model that is judged: the average of the weights where the recipe asks for one."""
        judged: Objective = self.ema.module if self.ema is not None else self.model
        return judged

    @torch.no_grad()
    def validate(self, table: Table, batch_size: int, seed: int) -> dict[str, float]:
        """Losses of the averaged model over ``table``."""
        with self.autocast():
            return validate(self.averaged, table, batch_size, self.device, seed, self.world)

    def judge(self, loss: float) -> bool:
        """Take note of a validation loss; True where it is the best so far."""
        is_best = loss < self.best_loss
        self.stale = 0 if is_best else self.stale + 1
        self.best_loss = min(self.best_loss, loss)
        return is_best

    @property
    def out_of_patience(self) -> bool:
        """Whether the validation loss has not improved for as long as the recipe waits."""
        waits = self.model.is_frozen and self.model.phases.frozen < 1  # the phase that matters has not begun
        return self.recipe.patience is not None and self.stale >= self.recipe.patience and not waits

    def save(self, run: Path, *, is_best: bool) -> Path:
        """Write everything a resumed run needs.

        Raises:
            DivergenceError: a number since the last look was not finite; nothing is written.
        """
        self.refuse_divergence()
        tensors, rest = pack_optimizer(self.optimizer)
        tensors = whole(tensors, self.world)
        tensors["rng.generator"] = self.generator.get_state()
        for rank, state in enumerate(self.world.gather(torch.get_rng_state())):
            tensors[f"rng.cpu.{rank}"] = state
        own = device_state(self.device)
        for rank, state in enumerate([] if own is None else self.world.gather(own)):
            tensors[f"rng.{self.device.type}.{rank}"] = state
        checkpoint = Checkpoint(
            step=self.step,
            model=whole(self.model.state_dict(), self.world),
            ema=whole(self.ema.module.state_dict(), self.world) if self.ema is not None else {},
            optimizer=tensors,
            state={
                "settings": self.settings,
                "loader": self.loader.state_dict(),
                "best_loss": None if math.isinf(self.best_loss) else self.best_loss,
                "stale": self.stale,
                "progress": self.progress,
                "processes": self.world.size,
                "jets": self.jets,
                "seconds": self.seconds,
                "closing": self.closing,
                "optimizer": rest,
                "scaler": self.scaler.state_dict() if self.scaler is not None else {},
            },
        )
        return self.world.first(
            lambda: save_checkpoint(run, checkpoint, keep=self.recipe.keep_checkpoints, is_best=is_best)
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint was written.

        Raises:
            CheckpointError: it belongs to another model.
        """
        if checkpoint.state["settings"] != self.settings:
            differ = [key for key, value in self.settings.items() if checkpoint.state["settings"].get(key) != value]
            raise CheckpointError(
                f"the checkpoint's model differs from the recipe's in {', '.join(differ) or 'its settings'}",
                do="resume with the recipe the run was started with",
            )
        if "optimizer" not in checkpoint.state:
            raise CheckpointError("an imported network has no training to resume", do="use finetune --from it")
        load_whole(self.model, checkpoint.model)
        if self.ema is not None:
            load_whole(self.ema.module, checkpoint.ema)
        unpack_optimizer(self.optimizer, checkpoint.optimizer, checkpoint.state["optimizer"], like)
        self.progress = checkpoint.state.get("progress", 0.0)
        if self.model.enter(self.progress):
            self._respread()
        self.loader.load_state_dict(checkpoint.state["loader"])
        if self.scaler is not None:
            self.scaler.load_state_dict(checkpoint.state["scaler"])
        self.generator.set_state(checkpoint.optimizer["rng.generator"])
        rank = self.world.rank  # one that was not there before keeps its own dropout
        if f"rng.cpu.{rank}" in checkpoint.optimizer:
            torch.set_rng_state(checkpoint.optimizer[f"rng.cpu.{rank}"])
        if self.device.type != "cpu" and f"rng.{self.device.type}.{rank}" in checkpoint.optimizer:
            set_device_state(self.device, checkpoint.optimizer[f"rng.{self.device.type}.{rank}"])
        self.step = checkpoint.step
        self.jets = checkpoint.state["jets"]
        self.seconds = checkpoint.state["seconds"]
        self.closing = checkpoint.state.get("closing", 0.0)
        best = checkpoint.state["best_loss"]
        self.best_loss = math.inf if best is None else best
        self.stale = checkpoint.state.get("stale", 0)
