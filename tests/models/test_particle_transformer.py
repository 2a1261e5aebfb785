from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from jettag.errors import RecipeError
from jettag.models import SIZES, ClassHead, ParticleTransformer, build_backbone, particle_transformer

from .conftest import random_jets

SMALL = {
    "dim": 16,
    "embed_dims": (24, 16),
    "pair_dims": (8, 8),
    "num_heads": 4,
    "num_layers": 2,
    "num_class_layers": 2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


def build(num_features=17, seed=0, **changes):
    """A small backbone whose norms and scales are off their neutral values, in float64 and evaluating."""
    torch.manual_seed(seed)
    model = ParticleTransformer(num_features, **{**SMALL, **changes}).double()
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            if value.ndim == 1 and value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return model.eval()


def in_double(jets):
    return replace(jets, features=jets.features.double(), p4=jets.p4.double())


def same(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_a_permutation_moves_constituents_and_leaves_the_jet(jets):
    model, jets = build(), in_double(jets)
    n = jets.mask.shape[1]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(3))
    moved = replace(jets, features=jets.features[:, order], p4=jets.p4[:, order], mask=jets.mask[:, order])
    expected, found = model(jets), model(moved)
    same(found.constituents, expected.constituents[:, order])
    same(found.jet, expected.jet)


@pytest.mark.parametrize("train", [False, True])
def test_padding_changes_nothing(jets, train):
    model, jets = build().train(train), in_double(jets)
    wide = replace(
        jets,
        features=torch.nn.functional.pad(jets.features, (0, 0, 0, 24), value=torch.nan),
        p4=torch.nn.functional.pad(jets.p4, (0, 0, 0, 24), value=torch.inf),
        mask=torch.nn.functional.pad(jets.mask, (0, 24)),
    )
    expected, found = model(jets), model(wide)
    same(found.constituents[:, : jets.mask.shape[1]], expected.constituents)
    same(found.jet, expected.jet)
    assert (found.constituents[:, jets.mask.shape[1] :] == 0).all()


def test_jets_do_not_see_one_another(jets):
    model, jets = build(), in_double(jets)
    together = model(jets).jet
    for row in (0, 1, 7):
        alone = replace(jets, features=jets.features[[row]], p4=jets.p4[[row]], mask=jets.mask[[row]])
        same(model(alone).jet, together[[row]])


@pytest.mark.parametrize("spare", [0, 1])  # as where blocks are compiled
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("pair_dims", [(8, 8), ()])
def test_packed_and_padded_agree_with_all_gradients(jets, train, pair_dims, spare, monkeypatch):
    monkeypatch.setattr(particle_transformer, "spare_slots", lambda *_: spare)
    jets = in_double(jets)
    results = []
    for padded in (False, True):
        model = build(pair_dims=pair_dims).train(train)
        model.one_group = padded
        encoded = model(jets)
        (encoded.jet.sin().sum() + encoded.constituents.cos().sum()).backward()
        results.append((encoded.jet, encoded.constituents, dict(model.named_buffers()), model))
    (jet, constituents, buffers, model), (jet_2, constituents_2, buffers_2, model_2) = results
    same(jet, jet_2)
    same(constituents, constituents_2)
    for name, value in buffers.items():
        same(value, buffers_2[name])
    for (name, a), (_, b) in zip(model.named_parameters(), model_2.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("num_class_layers", [2, 0])
def test_jets_of_one_constituent_and_none(num_class_layers):
    jets = in_double(random_jets([1, 0, 4], width=5))
    model = build(num_class_layers=num_class_layers)
    for model.one_group in (False, True):
        jet = model(jets).jet
        jet.sum().backward()
        assert jet.isfinite().all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("train", [False, True])
def test_a_batch_of_one_jet_with_one_constituent(train):
    encoded = build().train(train)(in_double(random_jets([1])))
    assert encoded.jet.isfinite().all()
    assert encoded.constituents.shape == (1, 1, 16)


def test_identical_constituents_give_identical_finite_embeddings():
    jets = in_double(random_jets([4]))
    jets = replace(jets, features=jets.features[:, :1].expand(-1, 4, -1), p4=jets.p4[:, :1].expand(-1, 4, -1))
    constituents = build()(jets).constituents
    assert constituents.isfinite().all()
    same(constituents, constituents[:, :1].expand(-1, 4, -1))


def test_every_parameter_receives_a_gradient(jets):
    model = build().train()
    head = ClassHead(model.dim, 5).double()
    torch.nn.functional.cross_entropy(head(model(in_double(jets)).jet), jets.label).backward()
    named = [*model.named_parameters(), *head.named_parameters()]
    silent = {name for name, p in named if p.grad is None or p.grad.abs().max() < 1e-12}
    # A shift before a normalisation changes nothing, so training cannot move it.
    shifts = {f"pair_embedding.linears.{i}.bias" for i in range(3)} | {"pair_embedding.norm.bias"}
    assert silent <= shifts, sorted(silent - shifts)
    assert all(p.grad is not None for _, p in named)


def test_the_pair_bias_matters(jets):
    model, jets = build(), in_double(jets)
    before = model(jets).jet
    with torch.no_grad():
        model.pair_embedding.norms[-1].weight.zero_()
        model.pair_embedding.norms[-1].bias.zero_()
    assert (model(jets).jet - before).abs().max() > 1e-4


def test_physics_only_enters_through_pairs(jets):
    """Rotated about the beam, the four-momenta give the same embeddings; stretched, they do not."""
    from jettag.physics.kinematics import rotate_z

    model, jets = build(), in_double(jets)
    same(model(replace(jets, p4=rotate_z(jets.p4, 1.0))).jet, model(jets).jet, 1e-6)
    assert (model(replace(jets, p4=2 * jets.p4)).jet - model(jets).jet).abs().max() > 1e-6


def test_settings_and_state_rebuild_the_network(jets, tmp_path):
    model = build(drop_path=0.2, pair_activation=False)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    again = ParticleTransformer(**model.settings()).double().eval()
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(again(in_double(jets)).jet, model(in_double(jets)).jet)


def test_constituents_are_those_of_forward(jets):
    model, jets = build(), in_double(jets)
    same(model.constituents(jets), model(jets).constituents)


def test_hidden_constituents_leave_no_trace(jets):
    """Masked modelling encodes `jets.keep(visible)`: what is hidden must not matter."""
    model, jets = build(), in_double(jets)
    visible = torch.rand(jets.mask.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    visible[:, 0] = True
    noise = replace(jets, p4=torch.where(visible[..., None], jets.p4, 7.0), features=jets.features.clone())
    same(model(noise.keep(visible)).jet, model(jets.keep(visible)).jet)


def test_dropout_and_drop_path_act_only_in_training(jets):
    model, jets = build(dropout=0.3, attention_dropout=0.3, drop_path=0.5), in_double(jets)
    assert torch.equal(model(jets).jet, model(jets).jet)
    model.train()
    assert not torch.equal(model(jets).jet, model(jets).jet)


def test_training_is_reproducible_from_a_seed(jets):
    outputs = []
    for _ in range(2):
        model = build(dropout=0.2, attention_dropout=0.2).train()
        torch.manual_seed(5)
        outputs.append(model(in_double(jets)).jet)
    assert torch.equal(*outputs)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_build_and_name_their_widths(size):
    model = build_backbone("particle_transformer", size, 7)
    assert (model.dim, model.num_features) == (SIZES[size]["dim"], 7)
    assert model.settings()["num_features"] == 7


def test_no_weight_decay_and_groups_name_real_parameters():
    import re

    model = build()
    names = [name for name, _ in model.named_parameters()]
    assert model.no_weight_decay() <= set(names)
    patterns = model.group_matcher(coarse=False)
    flat = [patterns["stem"], *(pattern for pattern, _ in patterns["blocks"])]
    assert all(any(re.match(pattern, name) for pattern in flat) for name in names)


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        (lambda: build_backbone("particle_transfomer", "tiny", 7), "did you mean particle_transformer?"),
        (lambda: build_backbone("particle_transformer", "tny", 7), "did you mean tiny?"),
        (lambda: build_backbone("particle_transformer", "tiny", 7, num_head=4), "num_heads"),
        (lambda: ParticleTransformer(7, dim=30, embed_dims=[30], num_heads=8), "multiple"),
        (lambda: ParticleTransformer(7, dim=32, embed_dims=[64], num_heads=8), "end with"),
    ],
)
def test_mistakes_are_named(call, advice):
    with pytest.raises(RecipeError, match=advice.replace("?", r"\?")):
        call()


def test_bfloat16_autocast_stays_close(jets):
    model = build().float()
    expected = model(jets).jet
    with torch.autocast("cpu", torch.bfloat16):
        found = model(jets).jet
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_bfloat16_autocast_gives_close_gradients(jets):
    gradients = []
    for enabled in (False, True):
        model = build(dropout=0.0).float().train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model(jets).jet.float().sin().sum()
        loss.backward()
        gradients.append(
            [torch.cat([p.grad.flatten() for p in part.parameters()]) for part in (model.blocks, model.pair_embedding)]
        )
    for exact, rounded in zip(*gradients, strict=True):
        assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.98


@pytest.mark.parametrize("train", [False, True])
def test_a_padded_step_never_waits_for_the_device(train, monkeypatch):
    """Tensors on the meta device hold no values: `.item()` or a shape that depends on the data would raise.

    It takes the paths of an accelerator, whose dropout and attention are PyTorch's own.
    """
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # autocast knows no such device
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    model = ParticleTransformer(17, **{**SMALL, "dropout": 0.1, "drop_path": 0.1}).train(train).to("meta")
    jets = random_jets([9, 3, 1, 5])
    jets = replace(jets, **{name: getattr(jets, name).to("meta") for name in ("features", "p4", "mask")})
    encoded = model(jets)
    encoded.jet.sum().backward()
    assert encoded.constituents.shape == (4, 9, 16)
    assert encoded.jet.shape == (4, 16)
    for value in (lambda: jets.mask.nonzero(), lambda: jets.mask.sum().item()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            value()
