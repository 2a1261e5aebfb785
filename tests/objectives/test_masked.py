"""Masked modelling: what is hidden, what the encoder may see, what counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.errors import DataError
from jettag.models import build_backbone
from jettag.objectives import MaskedModelling
from jettag.objectives.masked import draw_hidden
from jettag.objectives.tokens import KmeansTokens

from ..conftest import make_table

TINY = {"dim": 16, "embed_dims": [16], "pair_dims": [8], "num_heads": 2, "num_layers": 2, "num_class_layers": 1}


def make_model(table, seed=0):
    torch.manual_seed(seed)
    backbone = build_backbone("particle_transformer", "tiny", len(table.feature_names), **TINY)
    model = MaskedModelling(
        backbone,
        table.feature_names,
        num_codes=16,
        fit_constituents=1000,
        mask_fraction=0.3,
        decoder_dim=16,
        decoder_layers=1,
        decoder_heads=2,
        max_constituents=12,
    )
    model.prepare(table, seed=0)
    return model


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=8), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_the_stated_number_of_real_constituents_is_hidden(counts, fraction, seed):
    mask = torch.arange(max(counts) + 3) < torch.tensor(counts)[:, None]
    hidden = draw_hidden(mask, fraction, torch.Generator().manual_seed(seed))
    assert not (hidden & ~mask).any()
    for row, n in zip(hidden, counts, strict=True):
        expected = 0 if n == 1 else min(max(int(np.round(np.float32(n) * np.float32(fraction))), 1), n - 1)
        assert int(row.sum()) == expected


def test_the_draw_follows_its_generator_and_favours_no_slot():
    mask = torch.ones(4000, 10, dtype=torch.bool)
    first = draw_hidden(mask, 0.3, torch.Generator().manual_seed(1))
    assert torch.equal(first, draw_hidden(mask, 0.3, torch.Generator().manual_seed(1)))
    # Each slot is hidden with probability 0.3: binomial, 4000 draws, five standard deviations.
    assert (first.float().mean(0) - 0.3).abs().max() < 5 * (0.3 * 0.7 / 4000) ** 0.5


def test_the_prediction_cannot_depend_on_what_is_hidden(table):
    """Change features and momenta of hidden constituents: logits stay, to the bit."""
    model = make_model(table).eval()
    jets = table.batch(np.arange(20))
    hidden = draw_hidden(jets.mask, 0.3, torch.Generator().manual_seed(3))
    seen = []
    model.decoder.logits.register_forward_hook(lambda _m, _i, output: seen.append(output))
    model(jets, torch.Generator().manual_seed(3))
    changed = type(jets)(
        features=torch.where(hidden[..., None], torch.randn_like(jets.features), jets.features),
        p4=torch.where(hidden[..., None], 1 + torch.rand_like(jets.p4), jets.p4),
        mask=jets.mask,
    )
    model(changed, torch.Generator().manual_seed(3))
    assert torch.equal(seen[0], seen[1])


def test_padding_does_not_count(table):
    model = make_model(table).eval()
    jets = table.batch(np.arange(6))
    wider = type(jets)(
        features=torch.nn.functional.pad(jets.features, (0, 0, 0, 5)),
        p4=torch.nn.functional.pad(jets.p4, (0, 0, 0, 5)),
        mask=torch.nn.functional.pad(jets.mask, (0, 5)),
    )
    fixed = draw_hidden(jets.mask, 0.3, torch.Generator().manual_seed(0))
    import jettag.objectives.masked as module

    original = module.draw_hidden
    try:
        module.draw_hidden = lambda mask, *_: torch.nn.functional.pad(fixed, (0, mask.shape[1] - fixed.shape[1]))
        a, b = model(jets), model(wider)
    finally:
        module.draw_hidden = original
    assert a["loss"].item() == pytest.approx(b["loss"].item(), rel=1e-5)


def test_a_jet_counts_once_whatever_its_length(table):
    """The batch loss is the mean of the losses of its jets, one by one, lone constituents left out."""
    model = make_model(table).eval()
    index = np.flatnonzero(table.counts > 1)[:5]
    import jettag.objectives.masked as module

    jets = table.batch(index)
    hidden = draw_hidden(jets.mask, 0.3, torch.Generator().manual_seed(0))
    original = module.draw_hidden
    try:
        rows = []
        for i, j in enumerate(index):
            module.draw_hidden = lambda mask, *_, i=i: hidden[i : i + 1, : mask.shape[1]]
            rows.append(model(table.batch(np.array([j])))["loss"].item())
        module.draw_hidden = lambda *_: hidden
        together = model(jets)["loss"].item()
    finally:
        module.draw_hidden = original
    assert together == pytest.approx(np.mean(rows), rel=1e-4)


def test_jets_of_one_constituent_alone_give_a_finite_loss_and_gradient():
    lonely = make_table(40, longest=1)
    model = make_model(make_table())
    loss = model(lonely.batch(np.arange(8)))["loss"]
    loss.backward()
    assert loss.item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_every_parameter_learns(table):
    model = make_model(table)
    model(table.batch(np.arange(64)))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


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
