"""Groups of jets in threads of their own: what one thread computes, whichever thread is faster."""

import threading
import time
from contextlib import nullcontext

import pytest
import torch

from jettag.models.layout import Layout
from jettag.models.particle_transformer import ParticleTransformer
from jettag.models.threads import shared, shared_graphs

from .conftest import random_jets

CPU = torch.device("cpu")
LENGTHS = [40, 38, 33, 21, 20, 20, 19, 11, 10, 9, 9, 8, 5, 4, 2, 1] * 4


@pytest.fixture
def threads():
    """Set the number of PyTorch's threads for one test."""
    yield torch.set_num_threads
    torch.set_num_threads(1)


def build(**changes):
    torch.manual_seed(0)
    settings = {"dim": 16, "embed_dims": (16,), "pair_dims": (8,), "num_heads": 2, "num_layers": 3} | changes
    return ParticleTransformer(random_jets([1]).features.shape[-1], **settings)


def outcome(model, jets, *, seed=0):
    """What a pass gives, the gradient of every parameter, and the running statistics after it."""
    torch.manual_seed(seed)
    model.zero_grad()
    encoded = model(jets)
    weights = [torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape) for x in encoded]
    sum((x * weight).sum() for x, weight in zip(encoded, weights, strict=True)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return [x.detach() for x in encoded], gradients, {name: x.clone() for name, x in model.named_buffers()}


@pytest.mark.parametrize("changes", [{}, {"num_registers": 2}, {"summary_blocks": 3}, {"pair_dims": ()}], ids=str)
@pytest.mark.parametrize("train", [True, False])
def test_three_threads_compute_what_one_computes(changes, train, threads):
    model = build(**changes, dropout=0.0, attention_dropout=0.0).double().train(train)
    jets = random_jets(LENGTHS, dtype=torch.float64)
    state = {name: x.clone() for name, x in model.state_dict().items()}
    expected = outcome(model, jets)
    model.load_state_dict(state)
    threads(3)
    assert len(Layout.of(jets.mask).groups) > 3
    torch.testing.assert_close(outcome(model, jets), expected, rtol=1e-9, atol=1e-9)


def test_inference_in_three_threads(threads):
    model, jets = build().double().eval(), random_jets(LENGTHS, dtype=torch.float64)
    with torch.no_grad():
        expected = model(jets)
    threads(3)
    with torch.inference_mode():
        found = model(jets)
        assert found.jet.is_inference()
        torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-9, atol=1e-9)
        constituents = model.constituents(jets)
    torch.testing.assert_close(constituents, expected.constituents, rtol=1e-9, atol=1e-9)


def test_dropout_depends_on_the_seed_and_not_on_the_threads_race(threads, monkeypatch):
    """Two passes are the same to the bit though each job waits differently long."""
    threads(3)
    model, jets = build(dropout=0.3, attention_dropout=0.3, drop_path=0.5).train(), random_jets(LENGTHS)
    state = {name: x.clone() for name, x in model.state_dict().items()}
    through, waits = ParticleTransformer._through, iter([0.03, 0.0, 0.02, 0.0, 0.01] * 100)

    def late(*arguments):
        time.sleep(next(waits))
        return through(*arguments)

    monkeypatch.setattr(ParticleTransformer, "_through", late)
    first = outcome(model, jets, seed=3)
    model.load_state_dict(state)
    second = outcome(model, jets, seed=3)
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    model.load_state_dict(state)
    assert (outcome(model, jets, seed=4)[0][1] - first[0][1]).abs().max() > 1e-3


def test_equal_jets_of_different_groups_drop_different_things(threads):
    threads(2)
    model, one = build(dropout=0.3).train(), random_jets([40])
    jets = type(one)(*(x.expand(64, *x.shape[1:]) if x is not None else None for x in vars(one).values()))
    groups = Layout.of(jets.mask).groups
    found = model(jets).jet
    firsts = found[torch.stack([group.jets[0] for group in groups])]
    assert len(groups) > 2
    assert torch.pdist(firsts).min() > 1e-3


def test_evaluation_draws_nothing(threads):
    threads(2)
    model, jets = build().eval(), random_jets(LENGTHS)
    before = torch.get_rng_state()
    model(jets)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_look_ahead_without_gradients_drops_what_the_step_drops(checkpointing, threads):
    """What contrastive learning in pieces of a batch rests on."""
    threads(3)
    model = build(dropout=0.3, attention_dropout=0.3, checkpointing=checkpointing).double().train()
    jets = random_jets(LENGTHS, dtype=torch.float64)
    torch.manual_seed(2)
    with torch.no_grad():
        ahead = model(jets).jet
    torch.manual_seed(2)
    torch.testing.assert_close(model(jets).jet.detach(), ahead, rtol=1e-9, atol=1e-9)


def test_gradients_can_be_asked_for_once(threads):
    threads(2)
    jet = build().train()(random_jets(LENGTHS)).jet.sum()
    jet.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        jet.backward()


def test_only_what_learns_gets_gradients(threads):
    """A frozen block, and outputs that no loss asks for."""
    threads(2)
    model, jets = build(dropout=0.0, attention_dropout=0.0).train(), random_jets(LENGTHS)
    for parameter in model.blocks[0].parameters():
        parameter.requires_grad_(False)
    model.constituents(jets).square().sum().backward()
    assert all(x.grad is None for x in (*model.blocks[0].parameters(), *model.class_blocks.parameters()))
    assert model.pair_embedding.linears[0].weight.grad.abs().max() > 0
    model.requires_grad_(False)
    assert not model(jets).jet.requires_grad


@pytest.mark.parametrize("mixed", [True, False])
def test_threads_compute_in_the_precision_of_who_asks(mixed, threads):
    model, jets = build().train(), random_jets(LENGTHS)
    threads(2)
    with torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext():
        jet = model(jets).jet
        types = shared(lambda x: (x @ x).dtype, [(torch.ones(2, 2),)] * 4, CPU)
    assert types == [torch.bfloat16 if mixed else torch.float32] * 4
    jet.float().sum().backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in model.parameters())


def test_threads_divide_no_operation_and_the_caller_still_does(threads):
    threads(3)
    found = shared(lambda _: (threading.get_ident(), torch.get_num_threads()), [(i,) for i in range(9)], CPU)
    assert threading.get_ident() not in {thread for thread, _ in found}
    assert {number for _, number in found} == {1}
    assert torch.get_num_threads() == 3


def test_sums_are_taken_in_the_order_of_the_jobs(threads):
    """1e8 + 1 - 1e8 is 0 in single precision in this order, and 1 in another; the last job is the first to end."""
    threads(3)
    weight = torch.ones((), requires_grad=True)

    def job(x, wait):
        return (_Late.apply(weight, wait) * x,)

    for _ in range(3):
        numbers = [torch.tensor(x) for x in (1e8, 1.0, -1e8)]
        waits = [torch.tensor(x) for x in (0.1, 0.05, 0.0)]
        outputs = shared_graphs([job] * 3, list(zip(numbers, waits, strict=True)), [weight], draw=False)
        (gradient,) = torch.autograd.grad(sum(x for (x,) in outputs), weight)
        assert gradient.item() == (torch.tensor(1e8) + 1 - 1e8).item() == 0


class _Late(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, wait):
        ctx.wait = wait.item()
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(ctx.wait)
        return gradient, None


def test_an_error_in_a_thread_is_an_error_of_the_pass(threads):
    threads(2)

    def job(x):
        if x.item() == 2:
            raise ValueError("the second")
        return (x,)

    with pytest.raises(ValueError, match="the second"):
        shared_graphs([job] * 4, [(torch.tensor(float(i)),) for i in range(1, 5)], [], draw=False)
    assert shared(lambda x: x + 1, [(1,), (2,)], CPU) == [2, 3]
