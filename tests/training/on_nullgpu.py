"""What test_nullgpu starts where the only GPU computes nothing: steps of every objective, and what must be refused."""

import contextlib
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from jettag.config.recipe import TrainingRecipe
from jettag.data import transfer
from jettag.data.loader import Loader
from jettag.data.prefetch import Prefetched
from jettag.training import Limits, Trainer, load_last_good
from jettag.training.devices import choose_device

from ..nullgpu.inside import Waits, kernels, no_waiting
from .some_steps import ASKING, refuse
from .test_waiting import shipped

CUDA = choose_device("cuda")


def steps(*, name: str, mode: str | None, **settings: Any) -> None:
    """Two steps for which nobody waits, a validation, a checkpoint; from it one step more, with what it would draw."""
    torch.manual_seed(0)
    model, table = shipped(name, mode)
    recipe = TrainingRecipe(max_steps=10, **settings)
    plain = Loader(table, batch_size=16, seed=0, pieces=recipe.accumulate, device=CUDA)
    with Prefetched(plain, 2, 1) as loader, tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model.train(), loader, recipe, device=CUDA, seed=0, settings={})

        def update() -> None:
            before = kernels()
            with no_waiting():
                losses = trainer.update(Limits(10))
            assert all(x.is_cuda for x in (*losses.values(), *trainer.model.parameters()))
            assert kernels() > before + 100

        update()
        update()
        trainer.validate(table, 16, 0)
        trainer.unchecked.clear()  # no number was computed, and what memory happened to hold may not be finite
        trainer.save(Path(folder), is_best=True)
        drawn = torch.cuda.get_rng_state()
        torch.cuda.manual_seed(7)
        trainer.restore(load_last_good(Path(folder), print))
        assert torch.equal(torch.cuda.get_rng_state(), drawn)
        update()


def pageable() -> None:
    """A training that does not page-lock its batches waits for their copies."""
    locked, transfer.PINNED = transfer.PINNED, ()
    try:
        steps(name="top", mode=None)
    except Waits:
        return
    finally:
        transfer.PINNED = locked
    raise AssertionError("nobody saw that batches were copied from pageable memory")


def refused() -> None:
    """All that waits is an error, or steps that give none would say nothing."""
    x = torch.zeros(3, device=CUDA)
    refuse(ASKING, x, no_waiting, Waits)
    asking: list[Callable[[torch.Tensor], object]] = [
        lambda _: torch.cuda.synchronize(),
        lambda _: torch.cuda.current_stream().synchronize(),
        lambda _: torch.cuda.current_stream().record_event().synchronize(),
    ]
    refuse(asking, x, no_waiting, Waits)


def problem(what: Callable[..., None], **call: Any) -> str | None:
    """What goes wrong in it."""
    try:
        what(**call)
    except Exception:  # noqa: BLE001 - the test shows it
        return traceback.format_exc()
    return None


if __name__ == "__main__":
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(sys.stderr):
        answers = [problem(refused), problem(pageable)]
        answers += [problem(steps, **call) for call in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps(answers))
