"""What test_nullgpu starts where the only GPU computes nothing: steps of every objective, and what must be refused."""

import contextlib
import copy
import itertools
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch._dynamo.utils import counters

from jettag.config.recipe import TrainingRecipe
from jettag.data import transfer
from jettag.data.loader import Loader
from jettag.data.prefetch import Prefetched
from jettag.models import ParticleTransformer
from jettag.models.compiling import compile_blocks
from jettag.training import Limits, Trainer, load_last_good
from jettag.training.devices import choose_device

from ..models.conftest import random_jets
from ..models.test_particle_transformer import SMALL
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


def biases() -> None:
    """Fused attention copies no bias: all rows begin at multiples of eight numbers, for all lengths in one layout."""
    seen: list[torch.Tensor] = []
    fused = F.scaled_dot_product_attention

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, drop: float) -> Any:
        seen.append(bias)
        return fused(query, key, value, bias, drop)

    F.scaled_dot_product_attention = attention
    try:
        for changes in ({}, {"num_registers": 3}, {"pair_dims": ()}):
            network = ParticleTransformer(17, **{**SMALL, **changes}).to(CUDA)
            for length, mixed in itertools.product((29, 31, 32, 45), (False, True)):
                with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
                    network(random_jets([length] * 3).to(CUDA))
    finally:
        F.scaled_dot_product_attention = fused
    assert len(seen) == 3 * 8 * (SMALL["num_layers"] + SMALL["num_class_layers"])
    for bias in seen:
        *between, within = bias.stride()
        assert within == 1
        assert all(step % 8 == 0 for step in between), bias.stride()
        assert between[-1] > bias.shape[-1]


def compiled() -> None:
    """Compiled blocks take fewer kernels than plain ones, nobody waits, and other jets make no other program.

    The first batch has as many jets as the network is wide, and jets as long. The last has so many constituents that
    inductor would rather not have in one kernel what it has in one for the others.
    """
    torch.manual_seed(0)
    plain = ParticleTransformer(17, **{**SMALL, "dropout": 0.1, "attention_dropout": 0.1}).to(CUDA).train()
    network = copy.deepcopy(plain)
    compile_blocks(network)

    def step(model: ParticleTransformer, number: int, length: int) -> int:
        jets = random_jets([length] * number).to(CUDA)
        before = kernels()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(jets).jet.sum()
        loss.backward()
        return kernels() - before

    step(network, network.dim, network.dim)
    made = counters["stats"]["unique_graphs"]
    assert made == 2, made  # of a block and of a class block
    for number, length in ((5, 7), (16, 32), (9, 16), (4, 1), (40, 33), (3, 128)):
        step(plain, number, length), step(network, number, length)  # memory that is new is page-locked, which waits
        with no_waiting():
            assert step(network, number, length) < 0.85 * step(plain, number, length)
    step(network, 22_000, 15)
    assert counters["stats"]["unique_graphs"] == made


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
        answers = [problem(refused), problem(pageable), problem(biases), problem(compiled)]
        answers += [problem(steps, **call) for call in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps(answers))
