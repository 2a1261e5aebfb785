"""Registers: tokens beside the constituents that leave every law of the network as it was."""

from dataclasses import replace

import pytest
import torch

from jettag.errors import CheckpointError, RecipeError
from jettag.models import ParticleTransformer, build_backbone, particle_transformer
from jettag.models.adapters import add_lora
from jettag.models.features import adapt_features
from jettag.models.layout import Layout
from jettag.training.restore import load_strictly

from .conftest import random_jets
from .test_adapters import SETTINGS
from .test_particle_transformer import build, in_double, same
from .test_plain import agree, shaken

PAIRS = [(8, 8), ()]


@pytest.mark.parametrize("pair_dims", PAIRS)
@pytest.mark.parametrize("train", [False, True])
def test_permutations_and_padding_change_nothing(jets, pair_dims, train):
    model, jets = build(num_registers=3, pair_dims=pair_dims).train(train), in_double(jets)
    n = jets.mask.shape[1]
    order = torch.randperm(n + 9, generator=torch.Generator().manual_seed(3))
    pad = torch.nn.functional.pad
    moved = replace(
        jets,
        features=pad(jets.features, (0, 0, 0, 9), value=torch.nan)[:, order],
        p4=pad(jets.p4, (0, 0, 0, 9), value=torch.inf)[:, order],
        mask=pad(jets.mask, (0, 9))[:, order],
    )
    expected, found = model(jets), model(moved)
    same(found.constituents, pad(expected.constituents, (0, 0, 0, 9))[:, order])
    same(found.jet, expected.jet)
    same(found.registers, expected.registers)
    assert found.registers.shape == (len(jets), 3, 16)
    assert found.registers.std(0).max() > 1e-3  # they have seen their jets


@pytest.mark.parametrize("spare", [0, 1])  # as where blocks are compiled
@pytest.mark.parametrize("pair_dims", PAIRS)
def test_packed_and_padded_agree_with_all_gradients(jets, pair_dims, spare, monkeypatch):
    monkeypatch.setattr(particle_transformer, "spare_slots", lambda *_: spare)
    jets = in_double(jets)
    results = []
    for padded in (False, True):
        model = build(num_registers=2, pair_dims=pair_dims).train()
        model.one_group = padded
        encoded = model(jets)
        (encoded.jet.sin().sum() + encoded.constituents.cos().sum() + encoded.registers.sin().sum()).backward()
        results.append((encoded.jet, encoded.registers, encoded.constituents, model))
    for one, other in zip(results[0][:3], results[1][:3], strict=True):
        same(one, other)
    for (name, a), (_, b) in zip(*(result[3].named_parameters() for result in results), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-9, msg=name)
    assert results[0][3].registers.grad.abs().min() > 0


@pytest.mark.parametrize("counts", [[1, 0, 4], [0, 0]])
@pytest.mark.parametrize("pair_dims", PAIRS)
def test_a_jet_without_constituents_is_finite_and_its_padding_is_not_seen(counts, pair_dims):
    model = build(num_registers=2, pair_dims=pair_dims)
    jets = in_double(random_jets(counts, width=5))
    noisy = replace(jets, features=jets.features + ~jets.mask[..., None] * torch.rand(1, 5, 17))
    for model.one_group in (False, True):
        found = []
        for batch in (jets, noisy):
            encoded = model(batch)
            found.append((encoded.jet, encoded.registers))
        for one, other in zip(*found, strict=True):
            assert one.isfinite().all()
            same(one, other)
        (found[0][0].sum() + found[0][1].sin().sum()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_register_is_a_constituent_without_pair_features(jets):
    """Without pair features, a register that holds a constituent's embedding does what that constituent does."""
    jets = in_double(jets)
    extra = random_jets([1] * len(jets), width=1, seed=4)
    features = torch.cat([extra.features[:1].double().expand(len(jets), -1, -1), jets.features], 1)
    more = replace(
        jets,
        features=features,
        p4=torch.cat([jets.p4[:, :1], jets.p4], 1),
        mask=torch.cat([torch.ones_like(jets.mask[:, :1]), jets.mask], 1),
    )
    plain, with_register = build(pair_dims=()), build(pair_dims=(), num_registers=1)
    with_register.load_state_dict(plain.state_dict(), strict=False)
    with torch.no_grad():
        ((normalised,),) = plain.embedding.standard(more.features[:1, :1], Layout.padded(more.mask[:1, :1]))
        embedded = plain.embedding(normalised)
        with_register.registers.copy_(embedded)
    expected, found = plain(more), with_register(jets)
    same(found.constituents, expected.constituents[:, 1:])
    same(found.registers, expected.constituents[:, :1])


def test_pairs_leave_registers_alone(jets):
    """Momenta reach the registers through what the constituents have become, so one block deep they do not."""
    model, jets = build(num_registers=2, num_layers=1), in_double(jets)
    same(model(replace(jets, p4=2 * jets.p4)).registers, model(jets).registers)
    assert (model(replace(jets, p4=2 * jets.p4)).jet - model(jets).jet).abs().max() > 1e-6


@pytest.mark.parametrize("changes", [{}, {"pair_dims": []}, {"num_class_layers": 0}], ids=str)
@pytest.mark.parametrize("head", [{}, {"attentive": True}], ids=str)
def test_the_plain_network_has_them_too(changes, head, jets):
    torch.manual_seed(0)
    backbone = shaken(build_backbone("particle_transformer", "tiny", 17, **{**SETTINGS, "num_registers": 3, **changes}))
    plain, _ = agree(backbone, jets, **head)
    empty = plain(jets.features, jets.p4, torch.zeros_like(jets.mask))
    assert empty.isfinite().all()
    alone = random_jets([0, 0], width=4)
    torch.testing.assert_close(empty[:1], plain(alone.features, alone.p4, alone.mask)[:1])


def test_adapters_train_them_and_adapted_features_keep_them(jets):
    backbone = build_backbone("particle_transformer", "tiny", 17, **SETTINGS, num_registers=2).eval()
    names = [f"f{i}" for i in range(17)]
    adapted = adapt_features(backbone, names, names[::-1]).backbone
    turned = replace(jets, features=jets.features.flip(-1))
    torch.testing.assert_close(adapted(turned).registers, backbone(jets).registers)
    add_lora(backbone)
    assert backbone.registers.requires_grad
    assert "registers" in backbone.no_weight_decay()


def test_settings_and_shapes_tell_them_apart(tmp_path):
    with_registers = ParticleTransformer(**build(num_registers=4).settings())
    assert with_registers.registers.shape == (1, 4, 16)
    assert "num_registers" not in build().settings()  # runs from before there were any are still resumed
    for number, said in ((0, "registers unknown"), (2, r"registers \(1, 4, 16\) instead of \(1, 2, 16\)")):
        with pytest.raises(CheckpointError, match=said):
            load_strictly(build(num_registers=number).float(), with_registers.state_dict(), tmp_path)
    with pytest.raises(CheckpointError, match="registers missing"):
        load_strictly(with_registers, build().float().state_dict(), tmp_path)
    with pytest.raises(RecipeError, match="below 0"):
        build(num_registers=-1)
