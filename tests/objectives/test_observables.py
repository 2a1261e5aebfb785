"""Observables of the whole jet as targets: what counts, and that they say what they should."""

import math

import numpy as np
import pytest
import torch

from jettag.data.jets import JetTable
from jettag.errors import DataError, RecipeError
from jettag.objectives.observables import Observables
from jettag.physics.correlations import energy_correlations

from ..conftest import make_table
from .test_masked import make_model

COLUMNS = ("mass", "tau2", "tau1")


def with_columns(table: JetTable, **columns: np.ndarray) -> JetTable:
    return JetTable(
        features=table.features,
        p4=table.p4,
        offsets=table.offsets,
        feature_names=table.feature_names,
        jet=columns,
        batch_columns=tuple(columns),
    )


def batch_of(columns):
    return with_columns(make_table(), **columns).batch(np.arange(len(make_table())))


@pytest.fixture
def columns():
    rng = np.random.default_rng(5)
    return {name: rng.uniform(0.1, 1.0, len(make_table())) for name in COLUMNS}


def test_the_loss_is_that_of_standardised_logarithms_and_plain_ratios(columns):
    head = Observables(("mass", "tau21"), 4, 3)
    assert head.columns == COLUMNS
    head.prepare(with_columns(make_table(), **columns), seed=0)
    mass, ratio = np.log(1 + columns["mass"]), columns["tau2"] / columns["tau1"]
    expected = np.stack([(x - x.mean()) / x.std() for x in (mass, ratio)], 1).clip(-5, 5)
    torch.nn.init.zeros_(head.layers[2].weight)
    torch.nn.init.zeros_(head.layers[2].bias)  # tells zero of every jet
    size = np.abs(expected)
    smooth = np.where(size < 1, size**2 / 2, size - 0.5).mean(1)
    found = head(torch.randn(len(ratio), 4), batch_of(columns))
    np.testing.assert_allclose(found.detach(), smooth, rtol=1e-5)


def test_what_a_jet_does_not_have_counts_as_nothing(columns):
    columns["tau1"][::2] = columns["tau2"][::2] = 0.0  # of a jet of one constituent: 0 / 0
    columns["mass"][3] = np.nan
    head = Observables(("mass", "tau21"), 4, 3)
    head.prepare(with_columns(make_table(), **columns), seed=0)
    kept = np.arange(len(columns["mass"])) != 3
    assert head.mean[0].item() == pytest.approx(np.log(1 + columns["mass"][kept]).mean(), rel=1e-5)
    assert head.mean[1].item() == pytest.approx((columns["tau2"][1::2] / columns["tau1"][1::2]).mean(), rel=1e-5)
    given = batch_of(columns)
    loss = head(torch.randn(len(given), 4, requires_grad=True), given)
    assert loss.isfinite().all()
    columns["tau1"][:] = 0.0
    with pytest.raises(DataError, match="no training jet has a finite tau21"):
        head.prepare(with_columns(make_table(), **columns), seed=0)


def test_observables_are_told_from_the_visible_constituents_alone(table, columns):
    """They join the loss with their weight, per jet, and reach the class blocks of the backbone."""
    table = with_columns(table, **columns)
    jets = table.batch(np.arange(20))
    asked = {"names": ["mass", "tau21"], "hidden": 8, "weight": 0.5}
    model = make_model(table, observables=asked)
    plain = make_model(table)
    drawn = model.draw(jets, torch.Generator().manual_seed(0))
    shared = {k: v for k, v in model.state_dict().items() if not k.startswith("observables.")}
    plain.load_state_dict(shared)
    with_, without = model.eval()(jets, drawn=drawn), plain.eval()(jets, drawn=drawn)
    torch.testing.assert_close(with_["loss"], without["loss"] + 0.5 * with_["observables_loss"])
    assert len(with_["weight"]) == len(with_) - 1
    hidden = drawn == 2
    changed = type(jets)(
        features=torch.where(hidden[..., None], torch.randn_like(jets.features), jets.features),
        p4=torch.where(hidden[..., None], 1 + torch.rand_like(jets.p4), jets.p4),
        mask=jets.mask,
        columns=jets.columns,
    )
    assert model(changed, drawn=drawn)["observables_loss"] == with_["observables_loss"]
    model.train()(jets, drawn=drawn)["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_what_constituents_tell_needs_no_column_and_no_file():
    """C2, D2 and displaced tracks are those of the whole jet, standardised over the training jets."""
    table = make_table(features="jetclass_full")
    names = ("d2", "displaced", "c2")
    head = Observables(names, 4, 3, table.feature_names)
    assert head.columns == ()
    head.prepare(table, seed=0)
    truth = []
    for begin, end in zip(table.offsets[:-1], table.offsets[1:], strict=True):
        p4 = torch.from_numpy(table.p4[begin:end])[None]
        two, three = energy_correlations(p4, torch.ones(1, end - begin, dtype=torch.bool))
        d0, error = (table.features[begin:end, table.feature_names.index(name)] for name in ("part_d0", "part_d0err"))
        d0 = np.arctanh(np.clip(d0.astype(np.float64), -1 + 1e-12, 1 - 1e-12))
        count = (np.abs(d0) > 3 * error).sum()
        if two > 0 and three > 0:
            truth.append((math.log(three / two**3), math.log1p(count), math.log(three / two**2)))
        else:
            truth.append((math.nan, math.log1p(count), math.nan))
    truth = np.array(truth)
    np.testing.assert_allclose(head.mean, np.nanmean(truth, 0), rtol=1e-4)
    np.testing.assert_allclose(head.std, np.nanstd(truth, 0), rtol=1e-4)
    torch.nn.init.zeros_(head.layers[2].weight)
    torch.nn.init.zeros_(head.layers[2].bias)
    size = np.nan_to_num(np.abs((truth - np.nanmean(truth, 0)) / np.nanstd(truth, 0)).clip(0, 5))
    smooth = np.where(size < 1, size**2 / 2, size - 0.5).mean(1)
    found = head(torch.randn(len(table), 4), table.batch(np.arange(len(table))))
    np.testing.assert_allclose(found.detach(), smooth, rtol=1e-3, atol=1e-5)


def test_displaced_tracks_need_features_that_tell_d0(table):
    with pytest.raises(RecipeError, match="displaced needs d0"):
        Observables(("displaced",), 4, 3, table.feature_names)
