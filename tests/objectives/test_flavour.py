"""Flavour tagging: the losses by hand, and the laws that the heads keep."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jettag.config.flavour import FlavourRecipe, RegressionTask
from jettag.data.jets import Jets
from jettag.models import build_backbone
from jettag.objectives import Flavour
from jettag.objectives.flavour import pair_weight, positive_pairs, regression_target
from jettag.objectives.phases import FROZEN
from jettag.training.distributed import ALONE
from jettag.training.pieces import Means, cut

from ..conftest import make_table
from .test_masked import TINY

SMALL = {"origin": {"hidden": [16, 8]}, "vertex": {"hidden": [16, 8]}}


def truth_table(jets=60, *, seed=0, longest=10):
    """Jets with charges, origins, vertices and two jet columns; vertices are shared by tracks of one origin."""
    rng = np.random.default_rng(seed)
    table = make_table(jets, seed=seed, features="jetclass_kinpid", longest=longest)
    charge = rng.integers(-1, 2, len(table.features))
    names = list(table.feature_names)
    table.features[:, names.index("part_charge")] = charge
    origin = np.where(charge != 0, rng.integers(0, 8, len(charge)), -1)
    vertex = np.where(charge != 0, np.where(origin == 0, -2, origin % 3), -1)
    truth_pt = rng.uniform(20, 250, jets)
    columns = {"truth_pt": truth_pt, "pt": truth_pt * rng.uniform(0.8, 1.2, jets)}
    return dataclasses.replace(
        table,
        label=rng.integers(0, 3, jets),
        class_names=("b", "c", "light"),
        constituent={"origin": origin, "vertex": vertex},
        jet=columns,
        batch_columns=("truth_pt", "pt"),
    )


def make_model(table, options=None, **recipe):
    torch.manual_seed(0)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY)
    chosen = FlavourRecipe.model_validate({**SMALL, **recipe})
    return Flavour(backbone, 3, feature_names=table.feature_names, recipe=chosen, **(options or {}))


@pytest.fixture(scope="module")
def flavours():
    return truth_table()


REGRESSION = {"truth_pt": {"relative_to": "pt", "weight": 0.1}}


def losses_by_hand(model, jets):
    """Loops over jets, tracks and pairs, from the outputs of the network alone."""
    with torch.no_grad():
        output = model.outputs(jets)
        jet_logits = model.logits(jets)
    jet = [
        -math.log(output.jet[b, int(jets.label[b])]) * float(model.class_weight[jets.label[b]])
        for b in range(len(jets))
    ]
    jet_loss = sum(jet) / sum(float(model.class_weight[label]) for label in jets.label)
    assert jet_logits.shape == (len(jets), 3)
    origin_sum = origin_weight = pair_sum = 0.0
    positives = 0
    for b in range(len(jets)):
        tracks = [n for n in range(jets.mask.shape[1]) if jets.mask[b, n] and jets.features[b, n, model.charge] != 0]
        for n in tracks:
            k = int(jets.origin[b, n])
            weight = float(model.origin_weight[k])
            origin_sum -= weight * math.log(float(output.origin[b, n, k]))
            origin_weight += weight
        for place, i in enumerate(tracks):
            for j in tracks[place + 1 :]:
                same = int(jets.vertex[b, i]) == int(jets.vertex[b, j]) >= 0
                p = float(output.pair[b, i, j])
                kinds = (int(jets.origin[b, i]), int(jets.origin[b, j]))
                weight = 2.0 if all(k in (3, 4, 5) for k in kinds) else 0.0 if kinds == (1, 1) else 1.0
                pair_sum -= weight * math.log(p if same else 1 - p)
                positives += same
    return jet_loss, origin_sum / origin_weight, pair_sum / positives


def test_the_losses_are_what_loops_give(flavours):
    options = {"class_weight": [1.0, 2.0, 0.5], "origin_weight": [1.0, 9.0, 1.0, 2.0, 3.0, 4.0, 1.0, 5.0]}
    model = make_model(flavours, options).eval()
    jets = flavours.batch(np.arange(12))
    found = model(jets)
    expected = losses_by_hand(model, jets)
    for name, value in zip(("jet_loss", "origin_loss", "vertex_loss"), expected, strict=True):
        assert found[name].item() == pytest.approx(value, rel=1e-3), name
    assert found["loss"].item() == pytest.approx(expected[0] + 0.5 * expected[1] + 1.5 * expected[2], rel=1e-3)


def test_a_jet_of_weight_two_counts_as_two_jets(flavours):
    model = make_model(flavours, {"class_weight": [1.0, 2.0, 0.5]}, origin=None, vertex=None).eval()
    rows = np.array([3, 5, 8])
    weighted = dataclasses.replace(flavours.batch(rows), weight=torch.tensor([1.0, 2.0, 0.0]))
    expected = model(flavours.batch(np.array([3, 5, 5])))["loss"]
    torch.testing.assert_close(model(weighted)["loss"], expected)


def test_losses_are_combined_as_the_recipe_says(flavours):
    jets = flavours.batch(np.arange(12))
    three = [make_model(flavours).eval()(jets)[f"{name}_loss"].item() for name in ("jet", "origin", "vertex")]
    geometric = make_model(flavours, combine="geometric").eval()(jets)["loss"].item()
    assert geometric == pytest.approx(math.prod(three) ** (1 / 3), rel=1e-4)
    trained = make_model(flavours, combine="uncertainty").eval()
    weights = (1.0, 0.5, 1.5)
    # exp(-s) = w at the start, so the sum is that of fixed weights minus the logarithms of the weights.
    expected = sum(w * x for w, x in zip(weights, three, strict=True)) - math.log(math.prod(weights))
    assert trained(jets)["loss"].item() == pytest.approx(expected, rel=1e-4)
    trained(jets)["loss"].backward()
    # d/ds (exp(-s) L + s) = 1 - w L
    for gradient, w, x in zip(trained.log_variance.grad.tolist(), weights, three, strict=True):
        assert gradient == pytest.approx(1 - w * x, abs=1e-3)


@pytest.mark.parametrize("combine", ["fixed", "geometric", "uncertainty"])
def test_every_parameter_receives_a_gradient(flavours, combine):
    model = make_model(flavours, combine=combine, regression=REGRESSION)
    model(flavours.batch(np.arange(30)))["loss"].backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A bias before a batch normalisation changes nothing.
    shifts = (".linears.", "pair_embedding.norm.")
    assert [name for name in silent if not (name.endswith(".bias") and any(s in name for s in shifts))] == []


@pytest.mark.parametrize("off", ["origin", "vertex"])
def test_tasks_can_be_turned_off_and_their_truth_is_then_not_needed(flavours, off):
    recipe = {off: None}
    if off == "origin":
        recipe["vertex"] = {"hidden": [8], "pair_weights": "none"}
    model = make_model(flavours, **recipe)
    bare = dataclasses.replace(flavours.batch(np.arange(8)), **{off: None})
    found = model(bare)
    assert f"{off}_loss" not in found
    assert not any(name.startswith(f"{off}.") for name, _ in model.named_parameters())
    with pytest.raises(ValueError, match=off):
        make_model(flavours)(bare)


def turned(jets, order):
    swap = {name: getattr(jets, name)[:, order] for name in ("features", "p4", "mask", "origin", "vertex")}
    return dataclasses.replace(jets, **swap)


def test_outputs_follow_the_order_of_constituents_and_losses_do_not_notice(flavours):
    model = make_model(flavours).eval()
    jets = flavours.batch(np.arange(20))
    order = torch.randperm(jets.mask.shape[1], generator=torch.Generator().manual_seed(1))
    before, after = model.outputs(jets), model.outputs(turned(jets, order))
    torch.testing.assert_close(after.jet, before.jet, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(after.origin, before.origin[:, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.pair, before.pair[:, order][:, :, order], rtol=1e-4, atol=1e-5)
    assert torch.equal(before.pair, before.pair.transpose(1, 2))
    first, second = model(jets), model(turned(jets, order))
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-5)


def test_padding_and_neutral_constituents_do_not_count(flavours):
    model = make_model(flavours).eval()
    jets = flavours.batch(np.arange(20))
    wider = Jets(
        **{
            name: F.pad(getattr(jets, name), (0, 0, 0, 3) if name in ("features", "p4") else (0, 3))
            for name in ("features", "p4", "mask")
        },
        label=jets.label,
        origin=F.pad(jets.origin, (0, 3), value=5),
        vertex=F.pad(jets.vertex, (0, 3), value=1),
    )
    for name, value in model(wider).items():
        torch.testing.assert_close(value, model(jets)[name], rtol=1e-4, atol=1e-5)
    output = model.outputs(jets)
    neutral = jets.mask & (jets.features[..., model.charge] == 0)
    assert neutral.any()
    assert not output.track[neutral].any()
    assert output.origin[neutral].abs().max() == 0
    assert output.pair[neutral].abs().max() == 0


def test_both_orders_of_a_pair_and_the_whole_square_give_one_number(flavours):
    model = make_model(flavours).eval()
    jets = flavours.batch(np.arange(9))
    with torch.no_grad():
        encoded = model.backbone(jets)
        dense = torch.sigmoid(model.vertex.dense(encoded.constituents, encoded.jet))
    output = model.outputs(jets)
    torch.testing.assert_close(dense, dense.transpose(1, 2))
    both = (output.track[:, :, None] & output.track[:, None]) & ~torch.eye(dense.shape[1], dtype=torch.bool)
    torch.testing.assert_close(output.pair[both], dense[both], rtol=1e-4, atol=1e-5)


def select(table, tracks, kept):
    """A batch of one jet with ``tracks`` tracks of which the first ``kept`` share a vertex."""
    rng = np.random.default_rng(0)
    pt = np.sort(rng.exponential(5, tracks) + 1)[::-1]
    eta, phi = rng.normal(0, 0.2, (2, tracks))
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], 1)
    features = rng.normal(size=(tracks, len(table.feature_names)))
    features[:, list(table.feature_names).index("part_charge")] = 1
    vertex = np.where(np.arange(tracks) < kept, 0, 1 + np.arange(tracks))
    as_tensor = lambda x, kind: torch.from_numpy(x.copy())[None].to(kind)  # noqa: E731
    return Jets(
        features=as_tensor(features, torch.float32),
        p4=as_tensor(p4, torch.float32),
        mask=torch.ones(1, tracks, dtype=torch.bool),
        label=torch.zeros(1, dtype=torch.int64),
        origin=torch.full((1, tracks), 2),
        vertex=as_tensor(vertex, torch.int64),
    )


@pytest.mark.parametrize(("tracks", "kept"), [(1, 1), (2, 0), (300, 300), (300, 0)])
@pytest.mark.parametrize("combine", ["fixed", "geometric"])
def test_one_track_none_of_one_vertex_and_three_hundred_are_defined(flavours, tracks, kept, combine):
    model = make_model(flavours, combine=combine)
    jets = select(flavours, tracks, kept)
    found = model(jets)
    assert all(value.isfinite().all() for value in found.values())
    found["loss"].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    if tracks == 1:
        assert found["vertex_loss"].item() == 0  # no pair at all
    elif kept == 0:
        # Without a positive pair the sum is divided by one.
        model.eval()
        pair = model.outputs(jets).pair[0].double()
        above = torch.ones_like(pair).triu(1).bool()
        expected = -torch.log(1 - pair[above]).sum().item()
        assert model(jets)["vertex_loss"].item() == pytest.approx(expected, rel=1e-3)


def test_a_jet_without_tracks_or_constituents_has_finite_numbers(flavours):
    model = make_model(flavours)
    jets = flavours.batch(np.arange(6))
    features = jets.features.clone()
    features[:, :, model.charge] = 0
    no_tracks = dataclasses.replace(jets, features=features, origin=torch.full_like(jets.origin, -1))
    empty = dataclasses.replace(jets, mask=torch.zeros_like(jets.mask))
    for case in (no_tracks, empty):
        found = model(case)
        assert all(value.isfinite().all() for value in found.values())
        assert found["origin_loss"] == found["vertex_loss"] == 0
        found["loss"].backward()
        output = model.eval().outputs(case)
        assert output.jet.isfinite().all()
        assert not output.track.any()
        model.train()


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_a_batch_in_pieces_has_the_losses_and_gradients_of_the_whole(flavours, parts):
    model = make_model(flavours, {"class_weight": [1.0, 3.0, 0.5]}, regression=REGRESSION).eval()
    jets = flavours.batch(np.arange(20))
    whole = model(jets)
    expected = torch.autograd.grad(whole["loss"], model.head.parameters())
    drawn, means = model.draw(jets, torch.Generator()), Means(ALONE)
    total = 0
    for piece, rows, _ in cut(jets, drawn, parts):
        losses = model(piece, drawn=rows)
        weight = losses.pop("weight")
        total = total + losses["loss"] * weight[0]
        means.add(losses, weight.detach())
    found, weight = means.finish()
    for got, wanted in zip(torch.autograd.grad(total / weight, model.head.parameters()), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-6)
    for name in ("loss", "jet_loss", "origin_loss", "vertex_loss", "truth_pt_loss", "accuracy", "origin_accuracy"):
        torch.testing.assert_close(found[name], whole[name].detach().double(), rtol=1e-4, atol=1e-6)


def test_pair_weights_on_every_pair_of_origins():
    origin = torch.arange(8)
    first, second = torch.cartesian_prod(origin, origin).unbind(1)
    for kind in ("heavy_flavour", "salt"):
        found = pair_weight(first, second, kind).view(8, 8)
        for i in range(8):
            for j in range(8):
                # salt: 1 + (a & b) with a, b = 1 for b and c hadrons, -1 for fakes, 0 else, as integers
                a, b = (1 if k in (3, 4, 5) else -1 if k == 1 else 0 for k in (i, j))
                expected = 1 + (a & b)
                if kind == "heavy_flavour" and {a, b} == {1, -1}:
                    expected = 1
                assert found[i, j] == expected, (kind, i, j)
    assert pair_weight(first, second, "none").eq(1).all()


def test_positive_pairs_are_those_counted_one_by_one(flavours):
    jets = flavours.batch(np.arange(30))
    track = jets.mask & (jets.features[..., make_model(flavours).charge] != 0)
    found = positive_pairs(jets.vertex, track)
    for b in range(30):
        numbers = jets.vertex[b][track[b]].tolist()
        expected = sum(x == y >= 0 for k, x in enumerate(numbers) for y in numbers[:k])
        assert found[b] == expected


def test_regression_aims_at_ratios_and_logarithms_and_leaves_out_what_is_absent():
    columns = torch.tensor([[10.0, 20.0], [0.0, 5.0], [math.nan, 5.0]])  # 0: no true jet
    value, counts = regression_target(columns, ("L", "pt"), "L", RegressionTask(relative_to="pt"))
    assert value.tolist() == [0.5, 0.0, 0.0]
    assert counts.tolist() == [True, False, False]
    value, counts = regression_target(columns, ("L", "pt"), "L", RegressionTask())
    assert value.tolist() == [10.0, 0.0, 0.0]
    assert counts.tolist() == [True, True, False]
    value, counts = regression_target(columns, ("L", "pt"), "L", RegressionTask(logarithm=True))
    assert value.tolist() == pytest.approx([math.log(10), 0.0, 0.0])
    assert counts.tolist() == [True, False, False]


def test_a_frozen_backbone_does_not_move_and_the_heads_do(flavours):
    model = make_model(flavours, {"phases": FROZEN}).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(flavours.batch(np.arange(30)))["loss"].backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("backbone.") for name in moved)
    assert {name.split(".")[0] for name in moved} == {"head", "origin", "vertex"}


def test_truth_follows_the_constituents_that_are_kept(flavours):
    jets = flavours.batch(np.arange(20))
    kept = jets.origin > 1
    fewer = jets.keep(kept)
    for b in range(20):
        assert fewer.origin[b][fewer.mask[b]].tolist() == jets.origin[b][kept[b] & jets.mask[b]].tolist()
    assert (fewer.origin[~fewer.mask] == -1).all()
    few = flavours.select(np.array([3, 1]))
    assert few.batch(np.array([1])).vertex.tolist() == flavours.batch(np.array([1])).vertex.tolist()
