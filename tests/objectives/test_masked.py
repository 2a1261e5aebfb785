"""Masked modelling: what is hidden, what the encoder may see, what counts."""

import numpy as np
import pytest
import torch

from jettag.config.objectives import MaskedRecipe
from jettag.errors import DataError
from jettag.models import build_backbone
from jettag.objectives.build import JetsAre, build_masked
from jettag.objectives.masks import draw_hidden
from jettag.objectives.quantities import IMPACT
from jettag.objectives.tokens import KmeansTokens

from ..conftest import make_table

TINY = {"dim": 16, "embed_dims": [16], "pair_dims": [8], "num_heads": 2, "num_layers": 2, "num_class_layers": 1}


TARGETS = ["kmeans", "regression", "flow", "setflow"]


def with_identity(name):
    return {} if name == "setflow" else {"identity": {}}


@pytest.fixture
def full_table():
    """Jets with identities and impact parameters, a third of the constituents neutral."""
    table = make_table(features="jetclass_full")
    names = table.feature_names
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 5, len(table.features))
    flags = [i for i, name in enumerate(names) if name.startswith("part_is")]
    table.features[:, flags] = kind[:, None] == np.arange(5)
    neutral = (kind == 1) | (kind == 2)
    table.features[:, names.index("part_charge")] = np.where(neutral, 0, rng.choice([-1, 1], len(kind)))
    for name in IMPACT:
        table.features[neutral, names.index(name)] = 0
    return table


def make_model(table, seed=0, name="kmeans", registers=0, **changes):
    torch.manual_seed(seed)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY, num_registers=registers)
    target = {"name": name, "fit_constituents": 1000, **({"codes": 16} if name == "kmeans" else {})}
    recipe = MaskedRecipe.model_validate({"target": target, "decoder": {"dim": 16, "layers": 1, "heads": 2}, **changes})
    model = build_masked(recipe, backbone, JetsAre(table.feature_names, 12))
    model.prepare(table, seed=0)
    return model


def with_fate(model, jets, hidden, seed=0):
    """What `draw` would return if it had hidden these."""
    drawn = model.draw(jets, torch.Generator().manual_seed(seed))
    fate = jets.mask.to(torch.int8) + hidden
    if drawn.ndim == 2:
        return fate
    drawn[..., 0] = fate
    return drawn


def some_hidden(jets, seed=0):
    return draw_hidden(jets, 0.3, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("name", ["kmeans", "regression", "flow"])
def test_the_prediction_cannot_depend_on_what_is_hidden(table, name, registers):
    """Change features and momenta of hidden constituents: what the decoder says stays, to the bit."""
    model = make_model(table, name=name, registers=registers).eval()
    jets = table.batch(np.arange(20))
    drawn = with_fate(model, jets, hidden := some_hidden(jets))
    seen = []
    model.decoder.register_forward_hook(lambda _m, _i, output: seen.append(output))
    model(jets, drawn=drawn)
    changed = type(jets)(
        features=torch.where(hidden[..., None], torch.randn_like(jets.features), jets.features),
        p4=torch.where(hidden[..., None], 1 + torch.rand_like(jets.p4), jets.p4),
        mask=jets.mask,
    )
    model(changed, drawn=drawn)
    assert torch.equal(seen[0], seen[1])


def test_a_set_flow_is_told_nothing_but_noise_at_time_one_and_sees_the_visible_jet(table):
    model = make_model(table, name="setflow").eval()
    jets = table.batch(np.arange(20))
    drawn = with_fate(model, jets, hidden := some_hidden(jets))
    drawn[..., -1] = 1.0
    seen = []
    model.decoder.register_forward_hook(lambda _m, _i, output: seen.append(output))
    for where in (hidden, ~hidden):
        features = torch.where(where[..., None] & jets.mask[..., None], torch.randn_like(jets.features), jets.features)
        model(type(jets)(features=features, p4=jets.p4, mask=jets.mask), drawn=drawn)
    model(jets, drawn=drawn)
    assert torch.equal(seen[0], seen[2])
    assert not torch.allclose(seen[1], seen[2], atol=1e-2)


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("name", TARGETS)
def test_padding_does_not_count(full_table, name, registers):
    model = make_model(full_table, name=name, registers=registers, **with_identity(name)).eval()
    jets = full_table.batch(np.arange(6))
    wider = type(jets)(
        features=torch.nn.functional.pad(jets.features, (0, 0, 0, 5), value=3.0),
        p4=torch.nn.functional.pad(jets.p4, (0, 0, 0, 5), value=1.0),
        mask=torch.nn.functional.pad(jets.mask, (0, 5)),
    )
    drawn = with_fate(model, jets, some_hidden(jets))
    padded = torch.nn.functional.pad(drawn, (0,) * (2 * drawn.ndim - 3 if drawn.ndim == 2 else 3) + (5,))
    a, b = model(jets, drawn=drawn), model(wider, drawn=padded)
    assert a["loss"].item() == pytest.approx(b["loss"].item(), rel=1e-5)


@pytest.mark.parametrize("name", TARGETS)
def test_a_jet_counts_once_whatever_its_length(full_table, name):
    """The batch loss is the mean of the losses of its jets, one by one, lone constituents left out."""
    model = make_model(full_table, name=name, **with_identity(name)).eval()
    jets = full_table.batch(
        np.concatenate([np.flatnonzero(full_table.counts > 1)[:5], [int(np.argmin(full_table.counts))]])
    )
    drawn = model.draw(jets, torch.Generator().manual_seed(0))
    rows = [model(jets.rows(slice(i, i + 1)), drawn=drawn[i : i + 1]) for i in range(6)]
    assert [row["weight"][0].item() for row in rows] == [1.0] * 5 + [0.0]
    together = model(jets, drawn=drawn)
    for key in set(together) - {"weight"}:
        assert together[key].item() == pytest.approx(np.mean([row[key].item() for row in rows[:5]]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", TARGETS)
def test_a_set_has_no_order(full_table, name):
    """Shuffle constituents with what is drawn for them: a set flow's loss stays, ranks change that of the others."""
    model = make_model(full_table, name=name).eval()
    if hasattr(model.decoder, "rank"):
        torch.nn.init.normal_(model.decoder.rank)
    jets = full_table.batch(np.flatnonzero(full_table.counts > 5)[:4])
    drawn = with_fate(model, jets, some_hidden(jets))
    order = torch.argsort(torch.rand(jets.mask.shape, generator=torch.Generator().manual_seed(1)), dim=1)
    shuffled = type(jets)(*(x[torch.arange(4)[:, None], order] for x in (jets.features, jets.p4, jets.mask)))
    a = model(jets, drawn=drawn)["loss"].item()
    b = model(shuffled, drawn=drawn[torch.arange(4)[:, None], order])["loss"].item()
    assert (a == pytest.approx(b, rel=1e-5)) == (name == "setflow")


@pytest.mark.parametrize("longest", [1, 2, 3])
@pytest.mark.parametrize("name", TARGETS)
def test_jets_of_few_constituents_give_a_finite_loss_and_gradient(full_table, name, longest):
    small = make_table(40, longest=longest, features="jetclass_full")
    model = make_model(full_table, name=name, **with_identity(name))
    loss = model(small.batch(np.arange(8)))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert (loss.item() == 0.0) == (longest == 1)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", ["kmeans", "setflow"])
def test_the_decoder_reads_the_registers_and_a_jet_without_constituents_is_finite(full_table, name):
    """What the registers have become reaches what is said of hidden constituents, by no way but the decoder."""
    model = make_model(full_table, name=name, registers=2).eval()
    jets = full_table.batch(np.arange(8))
    jets.mask[3] = False
    drawn = model.draw(jets, torch.Generator().manual_seed(0))
    hiding = model.hide(jets, drawn)
    encoded = model.backbone(hiding.seen)
    loss = model.fill(jets, hiding, encoded)["loss"]
    torch.testing.assert_close(loss, model(jets, drawn=drawn)["loss"])
    other = model.fill(jets, hiding, encoded._replace(registers=torch.randn_like(encoded.registers)))["loss"]
    assert loss.isfinite()
    assert not torch.allclose(loss, other)


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("name", TARGETS)
def test_every_parameter_learns(full_table, name, registers):
    model = make_model(full_table, name=name, registers=registers, **with_identity(name))
    model(full_table.batch(np.arange(64)))["loss"].backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        # a bias before a norm moves nothing
        assert parameter.grad.abs().sum() > 0 or (key.startswith("backbone.") and "registers" not in key), key


def test_the_loss_of_a_flow_is_the_velocity_by_hand(full_table):
    """A network that says zero: the mean square of (noise - x) over what counts, over constituents, over jets."""
    model = make_model(full_table, name="flow").eval()
    torch.nn.init.zeros_(model.target.velocity[-1].weight)
    torch.nn.init.zeros_(model.target.velocity[-1].bias)
    jets = full_table.batch(np.flatnonzero(full_table.counts > 2)[:7])
    drawn = model.draw(jets, torch.Generator().manual_seed(5))
    names = list(full_table.feature_names)
    expected = []
    for jet in range(7):
        each = []
        for slot in (drawn[jet, :, 0] == 2).nonzero().flatten().tolist():
            row = jets.features[jet, slot]
            terms = []
            for place, name in enumerate(model.target.quantities.names):
                if name in IMPACT and row[names.index("part_charge")] == 0:
                    continue
                mean, std = (float(getattr(model.target.quantities, key)[place]) for key in ("mean", "std"))
                x = min(max((float(row[names.index(name)]) - mean) / std, -5), 5)
                terms.append((float(drawn[jet, slot, 1 + place]) - x) ** 2)
            each.append(np.mean(terms))
        expected.append(np.mean(each))
    assert model(jets, drawn=drawn)["loss"].item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_times_are_within_zero_and_one_and_one_for_a_jet_of_a_set(full_table):
    jets = full_table.batch(np.arange(50))
    for name in ("flow", "setflow"):
        drawn = make_model(full_table, name=name).draw(jets, torch.Generator().manual_seed(0))
        time = drawn[..., -1]
        assert ((time > 0) & (time < 1)).all()
        assert (time.std(1).max() == 0) == (name == "setflow")


def test_a_set_flow_refuses_a_second_identity():
    with pytest.raises(ValueError, match="leave identity null"):
        MaskedRecipe.model_validate({"target": {"name": "setflow"}, "identity": {}})


def test_tokens_are_the_nearest_centres(table):
    tokens = KmeansTokens(table.feature_names, 8)
    tokens.fit(table.sample_features(10_000, 1), seed=1)
    x = torch.from_numpy(table.features[:50])
    scaled = (x[:, tokens.columns] - tokens.mean) / tokens.std
    expected = torch.cdist(scaled.double(), tokens.centres.double()).argmin(1)
    assert torch.equal(tokens(x), expected)
    assert len(torch.unique(tokens(torch.from_numpy(table.features)))) == 8


def test_too_few_constituents_for_the_tokens_are_refused(table):
    with pytest.raises(DataError, match="cannot fill 5000 tokens"):
        KmeansTokens(table.feature_names, 5000).fit(table.features, seed=0)
