"""What torchrun starts for test_distributed: small trainings whose every step is recorded."""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from jettag.config.recipe import TrainingRecipe
from jettag.data.loader import Loader
from jettag.errors import JettagError, ResourceError
from jettag.training import Limits, Trainer, load_last_good, train
from jettag.training.checkpoint import has_checkpoint
from jettag.training.distributed import World, join

from ..conftest import make_table
from ..objectives.test_classification import make_model as make_classifier
from ..objectives.test_masked import make_model as make_masked

MODELS = {"masked": make_masked, "classification": lambda table: make_classifier(table, class_weight=[1.0, 2.5])}


def run(
    *,
    folder: Path,
    objective: str,
    world: World,
    steps: int = 20,
    dropout: float = 0.0,
    term_at: tuple[int, int] = (-1, -1),
    fail_at: tuple[int, int] = (-1, -1),
    **changes: object,
) -> None:
    """Train; every step's loss is in ``metrics.jsonl``, the validation losses before the first in ``before.json``.

    ``term_at`` and ``fail_at`` are a rank and the step at which that process gets SIGTERM, or fails.
    """
    folder.mkdir(exist_ok=True, parents=True)
    torch.set_num_threads(1)
    table, val_table = make_table(150), make_table(70, seed=9)  # batches of 32 with a rest of 22
    model = MODELS[objective](table)
    for module in model.modules():
        for name in ("drop", "attention_drop"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, dropout)
    recipe = TrainingRecipe(**{"max_steps": steps, "val_every": 10, "log_every": 1, **changes})
    loader = Loader(table, batch_size=32, seed=0)
    trainer = Trainer(model, loader, recipe, device=torch.device("cpu"), seed=0, settings={}, world=world)
    if has_checkpoint(folder):
        trainer.restore(load_last_good(folder, print))
    before = trainer.validate(val_table, 16, 0)
    if world.is_first:
        (folder / "before.json").write_text(json.dumps(before))

    def disturb(record: dict[str, object]) -> None:
        if [world.rank, record["step"]] == list(term_at):
            os.kill(os.getpid(), signal.SIGTERM)
        if [world.rank, record["step"]] == list(fail_at):
            raise ResourceError(f"the disk of process {world.rank} is gone")

    train(trainer, val_table, Limits(steps), folder, seed=0, log=disturb)


if __name__ == "__main__":
    try:
        with join() as joined:
            for call in json.loads(sys.argv[1]):
                run(**{**call, "folder": Path(call["folder"])}, world=joined)
    except JettagError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
