"""What torchrun starts for test_distributed: small trainings whose every step is recorded."""

import json
import os
import signal
import sys
import types
from dataclasses import replace
from pathlib import Path

import torch
from torch._dynamo.utils import counters
from torch.distributed.fsdp._fully_shard import _fsdp_state

from jettag.config.recipe import TrainingRecipe
from jettag.data.card import load_card
from jettag.data.jets import Jets
from jettag.data.loader import Loader
from jettag.data.opening import expand_data, open_jets
from jettag.errors import DivergenceError, JettagError, ResourceError
from jettag.models import compiling
from jettag.models.batch_norm import RealBatchNorm
from jettag.objectives.phases import Phases
from jettag.training import Limits, Trainer, load_last_good, train
from jettag.training.checkpoint import has_checkpoint
from jettag.training.distributed import World, join
from jettag.training.precompute import embedded
from jettag.training.sharding import parts

from ..conftest import make_table
from ..objectives.test_classification import make_model as make_classifier
from ..objectives.test_masked import make_model as make_masked
from ..objectives.test_tokenizer import make_tokenizer
from .test_trainer import make_comparing

MODELS = {
    "masked": make_masked,
    "classification": lambda table: make_classifier(table, class_weight=[1.0, 2.5]),
    "contrastive": lambda table: make_comparing(table, "contrastive"),
    "tokenizer": lambda table: make_tokenizer(table, codes=100, decay=0.3),  # codes die, and are replaced
    "lpft": lambda table: make_classifier(table, phases=Phases(frozen=0.5, restart=True)),
}


class Spoiling(Trainer):
    """Can spoil a batch."""

    nan_at = -1  # the step whose batch has such a number in the last process's first jet

    spoilt: dict[str, int | str] | None = None  # where the loader is before that batch
    then: tuple[torch.Tensor, ...] = ()  # the weights before that step

    def next_batch(self) -> Jets:
        place = self.loader.state_dict()
        jets = super().next_batch()
        features = jets.features.clone()
        if self.step == self.nan_at:
            self.spoilt = place
            self.then = tuple(x.detach().clone() for x in parts(self.model.parameters()))
        if place == self.spoilt and self.world.rank == self.world.size - 1:
            features[0, 0, 0] = torch.nan
        return replace(jets, features=features)


def as_on_cuda() -> list[bool]:
    """Let FSDP take the CPU for an accelerator, to which it moves arguments: each time, whether that was a tensor."""
    parts = types.SimpleNamespace(**{**vars(torch._C), "_get_privateuse1_backend_name": lambda: "cpu"})
    _fsdp_state.torch = types.SimpleNamespace(**{**vars(torch), "_C": parts})
    seen = []

    def move(args: tuple[object, ...], kwargs: dict[str, object], *_: object) -> tuple[object, object]:
        seen.append(any(isinstance(x, torch.Tensor) for x in kwargs.values()))
        return (args,), (kwargs,)

    _fsdp_state._to_kwargs = move
    return seen


def run(
    *,
    folder: Path,
    objective: str,
    world: World,
    steps: int = 20,
    dropout: float = 0.0,
    double: bool = False,
    batch_statistics: bool = True,
    term_at: tuple[int, int] = (-1, -1),
    fail_at: tuple[int, int] = (-1, -1),
    nan_at: int = -1,
    looks: bool = True,
    max_tokens: int | None = None,
    shards: str | None = None,
    **changes: object,
) -> None:
    """Train; every step's loss is in ``metrics.jsonl``, the validation losses before the first in ``before.json``.

    How many programs were compiled is in ``programs.json``.

    ``term_at`` and ``fail_at`` are a rank and the step at which that process gets SIGTERM, or fails;
    ``nan_at`` the step of a batch with a jet that is not finite, which is seen before the step if it ``looks``;
    ``shards`` is a prepared directory whose jets are taken instead of some in memory.
    """
    folder.mkdir(exist_ok=True, parents=True)
    torch.set_num_threads(1)
    compiling.BACKEND = "eager"  # what is asked here is how the processes go together, not what inductor makes
    if shards:
        told = {"features": "jetclass_kin", "labels": True}
        table, val_table = (
            open_jets(expand_data([shards]), load_card("generated"), split=split, **told) for split in ("train", "val")
        )
    else:
        table, val_table = make_table(150), make_table(70, seed=9)  # batches of 32 with a rest of 22
    model = MODELS[objective](table)
    if double:
        model.double()
    if objective == "lpft":
        table, val_table = (embedded(part, model, torch.device("cpu"), print, world) for part in (table, val_table))
    for module in model.modules():
        for name in ("drop", "attention_drop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, dropout)
    if not batch_statistics:  # which differ from piece to piece
        for module in model.modules():
            if isinstance(module, RealBatchNorm):
                module.train(False).train = lambda mode=True: None
    recipe = TrainingRecipe(**{"max_steps": steps, "val_every": 10, "log_every": 1, **changes})
    shared = {"rank": world.rank, "world_size": world.size, "pieces": recipe.accumulate}
    loader = Loader(table, batch_size=32, seed=0, max_tokens=max_tokens, **shared)
    trainer = Spoiling(model, loader, recipe, device=torch.device("cpu"), seed=0, settings={}, world=world)
    trainer.nan_at, trainer.looks_at_each_step = nan_at, looks
    if has_checkpoint(folder):
        trainer.restore(load_last_good(folder, print))
    made = counters["stats"]["unique_graphs"]
    moved = as_on_cuda() if trainer.sharded else [False]
    before = trainer.validate(val_table, 16, 0)
    if world.is_first:
        (folder / "before.json").write_text(json.dumps(before))

    def disturb(record: dict[str, object]) -> None:
        if [world.rank, record["step"]] == list(term_at):
            os.kill(os.getpid(), signal.SIGTERM)
        if [world.rank, record["step"]] == list(fail_at):
            raise ResourceError(f"the disk of process {world.rank} is gone")

    try:
        train(trainer, val_table, Limits(steps), folder, seed=0, log=disturb, note=print)
        if world.is_first:
            (folder / "programs.json").write_text(json.dumps(counters["stats"]["unique_graphs"] - made))
        assert moved, "FSDP does not look at arguments where it did"
        assert not any(moved), "what was drawn goes to the device before the host reads it"
    except DivergenceError as error:
        same = all(map(torch.equal, trainer.then, parts(trainer.model.parameters())))
        raise DivergenceError(
            f"{error} {trainer.step - nan_at} steps later, weights {'kept' if same else 'lost'}"
        ) from None


if __name__ == "__main__":
    try:
        with join() as joined:
            *others, last = json.loads(sys.argv[1])
            for other in others:
                try:
                    run(**{**other, "folder": Path(other["folder"])}, world=joined)
                except DivergenceError as error:  # of all processes at the same step
                    sys.stderr.write(f"error: {error}\n")
            run(**{**last, "folder": Path(last["folder"])}, world=joined)
    except JettagError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
