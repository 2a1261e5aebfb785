"""What torchrun starts for test_distributed: a small training whose steps are recorded in double precision."""

import json
import sys
from pathlib import Path

import torch

from jettag.config.recipe import TrainingRecipe
from jettag.data.loader import Loader
from jettag.training import Limits, Trainer, load_last_good, train
from jettag.training.checkpoint import has_checkpoint
from jettag.training.distributed import World, join

from ..conftest import make_table
from ..objectives.test_classification import make_model as make_classifier
from ..objectives.test_masked import make_model as make_masked

MODELS = {"masked": make_masked, "classification": lambda table: make_classifier(table, class_weight=[1.0, 2.5])}


def run(
    folder: Path, objective: str, world: World, steps: int = 20, dropout: float = 0.0, **changes: object
) -> Trainer:
    """Train; every step's loss is in ``metrics.jsonl``."""
    folder.mkdir(exist_ok=True, parents=True)
    torch.set_num_threads(1)
    table = make_table(150)  # batches of 32 with a rest of 22
    torch.manual_seed(0)
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
    train(trainer, make_table(70, seed=9), Limits(steps), folder, seed=0, log=lambda _: None)
    return trainer


if __name__ == "__main__":
    with join() as world:
        run(Path(sys.argv[1]), sys.argv[2], world, **json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
