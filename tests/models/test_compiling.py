"""Compiled blocks: the numbers of the others, and one program for every batch.

The counting needs guards and no code, which is what the eager backend gives; inductor has one small test.
"""

import copy
import random

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from jettag.errors import ResourceError
from jettag.models import ParticleTransformer, compiling
from jettag.models.compiling import compile_blocks

from .conftest import random_jets
from .test_particle_transformer import SMALL

DROPS = {"dropout": 0.1, "attention_dropout": 0.2}


@pytest.fixture
def programs(monkeypatch):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(compiling, "BACKEND", counter)
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield counter
    torch._dynamo.reset()


def both(**changes):
    """The same small network twice, the second compiled."""
    torch.manual_seed(0)
    plain = ParticleTransformer(17, **{**SMALL, **changes}).train()
    compiled = copy.deepcopy(plain)
    compile_blocks(compiled)
    return plain, compiled


def gradients(network, jets):
    network.zero_grad()
    torch.manual_seed(5)
    jet = network(jets).jet
    jet.sin().sum().backward()
    return jet.detach(), [p.grad for p in network.parameters()]


def agree(plain, compiled, jets):
    (jet, of_plain), (jet_2, of_compiled) = gradients(plain, jets), gradients(compiled, jets)
    torch.testing.assert_close(jet_2, jet, rtol=1e-5, atol=1e-5)
    # Some gradients are sums of large terms that nearly cancel: what is lost there depends on the processor's kernels.
    largest = max(gradient.abs().max().item() for gradient in of_plain)
    for a, b in zip(of_plain, of_compiled, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * max(1.0, largest))


def lengths(seed):
    drawn = random.Random(seed)
    return [drawn.randint(2, 40) for _ in range(drawn.randint(2, 40))]


def test_neither_lengths_nor_depth_compile_anything_again(programs):
    """Jets of any number and length, three layers with as many rates of stochastic depth; then evaluation."""
    plain, compiled = both(num_layers=3, drop_path=0.3, **DROPS)
    agree(plain, compiled, random_jets(lengths(0)))
    agree(plain, compiled, random_jets(lengths(1)))
    warm = programs.frame_count
    assert 2 <= warm <= 10
    for seed in range(2, 7):
        agree(plain, compiled, random_jets(lengths(seed)))
    assert programs.frame_count == warm
    agree(plain, compiled, random_jets([1, 1, 1]))
    agree(plain, compiled, random_jets([30] * 34 + [1]))
    assert programs.frame_count == warm
    agree(plain, compiled, random_jets([7]))
    special = programs.frame_count
    agree(plain, compiled, random_jets([12]))
    assert programs.frame_count == special <= 2 * warm + 1  # a class block is given a part of a parameter, then is not
    plain.eval(), compiled.eval()
    with torch.no_grad():
        for seed in range(3):
            jets = random_jets(lengths(seed))
            torch.testing.assert_close(compiled(jets).jet, plain(jets).jet, rtol=1e-5, atol=1e-5)
            warm = programs.frame_count if seed == 0 else warm
    assert programs.frame_count == warm <= special + 8


def test_as_many_jets_or_constituents_as_a_weight_has_entries_are_not_taken_for_a_constant(programs):
    """Of eight heads, a hidden layer of 64 and others of 32."""
    _, compiled = both(num_layers=1, num_heads=8, dim=32, embed_dims=[32], mlp_ratio=2)
    gradients(compiled, random_jets([8] * 32))
    assert programs.frame_count == 2
    gradients(compiled, random_jets([32] * 64))
    gradients(compiled, random_jets([64, 20, 20, 20, 7, 7, 3]))
    assert programs.frame_count == 2


def test_mixed_precision_has_a_program_of_each_block_and_the_types_of_plain_blocks(programs):
    plain, compiled = both(num_layers=3, **DROPS)
    made = []
    with torch.autocast("cpu", torch.bfloat16):
        for seed in range(3):
            jets = random_jets(lengths(seed))
            (jet, _), (jet_2, _) = gradients(plain, jets), gradients(compiled, jets)
            torch.testing.assert_close(jet_2, jet, rtol=0.05, atol=0.05)
            assert compiled(jets).constituents.dtype == plain(jets).constituents.dtype
            made.append(programs.frame_count)
    assert made[1] == made[2]


def test_threads_with_groups_of_their_own_compile_no_more_with_every_batch(programs):
    """What one thread made serves the others."""
    plain, compiled = both(num_layers=3, **DROPS)
    torch.set_num_threads(3)
    try:
        agree(plain, compiled, random_jets(lengths(0) + lengths(1)))
        warm = programs.frame_count
        assert 2 <= warm <= 10
        for seed in range(2, 12, 2):
            agree(plain, compiled, random_jets(lengths(seed) + lengths(seed + 1)))
        assert programs.frame_count == warm
        plain.eval(), compiled.eval()
        with torch.no_grad():
            for seed in range(4):
                jets = random_jets(lengths(seed) + lengths(seed + 20))
                torch.testing.assert_close(compiled(jets).jet, plain(jets).jet, rtol=1e-5, atol=1e-5)
                warm = programs.frame_count if seed == 0 else warm
        assert programs.frame_count == warm
    finally:
        torch.set_num_threads(1)


def test_where_whole_jets_are_dropped_threads_share_compiled_operations(programs):
    """The generator that draws them would be another constant in every thread, and another program."""
    _, compiled = both(num_layers=3, drop_path=0.3)
    torch.set_num_threads(3)
    try:
        gradients(compiled, random_jets(lengths(0) + lengths(1)))
        gradients(compiled, random_jets(lengths(2) + lengths(3)))
        warm = programs.frame_count
        for seed in range(4, 12, 2):
            gradients(compiled, random_jets(lengths(seed) + lengths(seed + 1)))
        assert programs.frame_count == warm
    finally:
        torch.set_num_threads(1)


def test_names_and_state_are_those_of_the_network_and_copies_are_plain(programs):
    plain, compiled = both()
    assert list(compiled.state_dict()) == list(plain.state_dict())
    again = copy.deepcopy(compiled)
    jets = random_jets([5, 3, 9])
    gradients(again, jets)
    assert programs.frame_count == 0
    gradients(compiled, jets)
    assert programs.frame_count > 0


def test_checkpointed_blocks_compile_too(programs):
    plain, compiled = both(checkpointing=True, **DROPS)
    agree(plain, compiled, random_jets([5, 3, 9, 9]))
    assert programs.frame_count


def test_a_machine_that_cannot_compile_says_so_in_one_line(monkeypatch):
    def fails(*_):
        msg = "No working C++ compiler found\nand more of it"
        raise OSError(msg)

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", fails)
    _, compiled = both()
    with pytest.raises(
        ResourceError, match=r"torch\.compile failed: .*No working C\+\+ compiler found; install"
    ) as told:
        compiled(random_jets([5, 3]))
    assert "\n" not in str(told.value)
    torch._dynamo.reset()


@pytest.mark.slow
def test_the_real_compiler_gives_the_numbers_too():
    torch._dynamo.reset()
    plain, compiled = both(num_layers=1, num_class_layers=1, **DROPS)
    agree(plain, compiled, random_jets([5, 3, 9, 9]))
    torch._dynamo.reset()
