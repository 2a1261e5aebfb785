"""On a GPU, where there is one: the losses of the CPU, nothing that waits, runs that go on as they would have.

`test_standin` asks the same of a device that is none, and `test_devices` which GPU a process takes.
"""

import contextlib

import pytest
import torch

from jettag.config.recipe import TrainingRecipe
from jettag.data.loader import Loader
from jettag.data.prefetch import Prefetched
from jettag.training import Limits, Trainer, load_last_good
from jettag.training.devices import choose_device

from .some_steps import CALLS, CPU, NAMES, losses, tolerance
from .test_waiting import shipped

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def cuda():
    yield choose_device("cuda")
    torch.backends.cuda.enable_cudnn_sdp(True)


@contextlib.contextmanager
def no_waiting():
    """Within, an operation that waits for the GPU is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_waits_is_seen(cuda):
    x = torch.ones(3, device=cuda)
    with no_waiting(), pytest.raises(RuntimeError, match="synchronizing"):
        x.nonzero()


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_a_gpu_has_the_losses_of_the_cpu_and_is_not_waited_for(cuda, call):
    expected, found = losses(CPU, contextlib.nullcontext(), **call), losses(cuda, no_waiting(), **call)
    for part in ("steps", "validation"):
        assert found[part] == pytest.approx(expected[part], abs=tolerance(call)), part


@contextlib.contextmanager
def training(device, **settings):
    """A trainer whose batches are prepared ahead."""
    torch.manual_seed(0)
    model, table = shipped("both", drop=0.1)
    recipe = TrainingRecipe(max_steps=10, **settings)
    with Prefetched(Loader(table, batch_size=16, seed=0, device=device), 2, 2) as loader:
        yield Trainer(model.train(), loader, recipe, device=device, seed=0, settings={})


def test_a_run_goes_on_with_what_it_would_have_dropped(cuda, tmp_path):
    """But for the order of sums, which GPUs do not keep."""
    with training(cuda, precision="fp64") as trainer:
        for _ in range(2):
            trainer.update(Limits(10))
        trainer.save(tmp_path, is_best=False)
        expected = [trainer.update(Limits(10))["loss"].item() for _ in range(2)]
    torch.cuda.manual_seed(7)
    with training(cuda, precision="fp64") as trainer:
        trainer.restore(load_last_good(tmp_path, pytest.fail))
        assert [trainer.update(Limits(10))["loss"].item() for _ in range(2)] == pytest.approx(expected, abs=1e-9)


def test_compiled_blocks_give_the_numbers_and_are_not_compiled_for_each_width(cuda):
    call = {"name": "both", "mode": None, "precision": "fp32"}
    found = losses(cuda, contextlib.nullcontext(), **call, compile=True)
    expected = losses(CPU, contextlib.nullcontext(), **call)
    assert found["steps"] == pytest.approx(expected["steps"], abs=tolerance(call))
    with training(cuda, precision="bf16", compile=True) as trainer:
        trainer.update(Limits(10))
        made = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        for _ in range(8):
            trainer.update(Limits(10))
        trainer.refuse_divergence()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == made
