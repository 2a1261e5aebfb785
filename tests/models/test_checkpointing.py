"""Activation checkpointing: the same numbers for less memory."""

import contextlib
from dataclasses import replace

import pytest
import torch

from jettag.models import SIZES, ParticleTransformer, build_backbone, pair_embedding, recompute

from .conftest import random_jets
from .test_particle_transformer import SMALL


def both(**changes):
    """The same small network without and with checkpointing."""
    networks = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        networks.append(ParticleTransformer(17, **{**SMALL, **changes}, checkpointing=checkpointing).double().train())
    return networks


@pytest.mark.parametrize("drop", [0.0, 0.3])
@pytest.mark.parametrize("padded", [False, True])
def test_outputs_gradients_and_statistics_are_the_same(jets, padded, drop, monkeypatch):
    monkeypatch.setattr(pair_embedding, "CHUNK", 7)  # of some tens of pairs
    jets = replace(jets, features=jets.features.double(), p4=jets.p4.double())
    results = []
    for network in both(dropout=drop, attention_dropout=drop, drop_path=drop):
        torch.manual_seed(1)
        network.one_group = padded
        jet = network(jets).jet
        jet.sin().sum().backward()
        results.append((jet, network))
    (jet, plain), (jet_2, sparing) = results
    torch.testing.assert_close(jet, jet_2, rtol=1e-12, atol=1e-12)
    for (name, a), (_, b) in zip(plain.named_parameters(), sparing.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=name)
    for (name, a), (_, b) in zip(plain.named_buffers(), sparing.named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def saved_bytes(network, jets):
    """What the graph keeps between the forward and the backward pass, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(jets).jet.sum()
    return sum(size for size, _ in kept.values())


def test_long_jets_keep_less_than_a_third():
    jets = random_jets([120] * 2)
    plain, sparing = (
        build_backbone("particle_transformer", "base", 17, num_layers=6, checkpointing=value).train()
        for value in (False, True)
    )
    assert saved_bytes(sparing, jets) < saved_bytes(plain, jets) / 3


def test_evaluation_does_not_care(jets):
    plain, sparing = (network.float().eval() for network in both())
    with torch.no_grad():
        assert torch.equal(plain(jets).jet, sparing(jets).jet)


def test_large_has_sixty_million_parameters_and_checkpoints():
    with torch.device("meta"):
        network = ParticleTransformer(17, **SIZES["large"])
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(60e6, rel=0.05)
    assert network.settings()["checkpointing"] is True


@pytest.mark.parametrize("forgotten", [True, False])
def test_a_device_whose_generator_pytorch_forgets_drops_the_same_twice(monkeypatch, forgotten):
    """A generator that PyTorch does not know stands for that of MPS."""
    own = torch.Generator().manual_seed(3)

    @contextlib.contextmanager
    def forked(_):
        state = own.get_state()
        try:
            yield
        finally:  # the second time ends once the last number is there
            own.set_state(state)

    monkeypatch.setattr(recompute, "device_state", lambda _: own.get_state())
    monkeypatch.setattr(recompute, "set_device_state", lambda _, state: own.set_state(state))
    monkeypatch.setattr(recompute, "forked", forked)
    monkeypatch.setattr(recompute, "FORGOTTEN", ("cpu",) if forgotten else ())

    def drop(x):
        return x * (torch.rand(64, generator=own) > 0.5)

    x = torch.ones(64, requires_grad=True)
    kept = recompute.recomputed(drop, x, draws=True)
    torch.rand(5, generator=own)  # of other layers
    before = own.get_state()
    kept.sum().backward(retain_graph=True)
    assert torch.equal(x.grad, kept.detach()) == forgotten
    kept.sum().backward()
    assert torch.equal(x.grad, 2 * kept.detach()) == forgotten
    assert torch.equal(own.get_state(), before) == forgotten
