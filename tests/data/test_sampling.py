"""Sampling: expected numbers that a person would compute by hand, and the loader drawing them."""

import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from jettag.config.sampling import SamplingRecipe
from jettag.data.loader import Loader
from jettag.data.once import once
from jettag.data.sampling import fit_sampling, fit_shape, sampling_of
from jettag.errors import DataError, RecipeError

from ..conftest import make_table

TABLE = make_table(4000, longest=3)
TABLE = replace(
    TABLE,
    label=(np.arange(4000) % 4 == 0).astype(np.int64),  # 3000 of class 0, 1000 of class 1
    jet={"pt": np.random.default_rng(0).exponential(100.0, 4000), "row": np.arange(4000)},
)
EDGES = (0.0, 50.0, 100.0, 200.0, 400.0)


def drawn(loader):
    """Rows of one epoch's jets."""
    rows = []
    for _ in range(loader.batches_per_epoch):
        next(loader)
        rows += loader.origin()["row"].tolist()
    return rows


def test_classes_in_the_proportions_asked_for():
    sampling = fit_sampling(TABLE, {"QCD": 1.0, "Tbqq": 2.0}, {})
    # All 1000 of class 1, and half as many of the 3000 of class 0.
    np.testing.assert_allclose(sampling.rate, [500 / 3000, 1.0])
    assert sampling.expected == pytest.approx(1500)
    rows = drawn(Loader(TABLE, batch_size=16, seed=0, sampling=sampling))
    assert len(rows) == len(set(rows))
    counts = np.bincount(TABLE.label[rows])
    assert counts[1] == 1000
    assert abs(counts[0] - 500) < 5 * np.sqrt(500)


def test_flat_in_bins():
    sampling = fit_sampling(TABLE, {}, {"pt": EDGES})
    for number in (0, 1):
        found, _ = np.histogram(TABLE.jet["pt"][TABLE.label == number], EDGES)
        reference = np.percentile(found, 10)
        np.testing.assert_allclose(sampling.rate[number], np.minimum(1, reference / found))
    rows = np.array(drawn(Loader(TABLE, batch_size=50, seed=3, sampling=sampling)))
    assert TABLE.jet["pt"][rows].max() < EDGES[-1]  # what lies outside is never drawn
    kept, _ = np.histogram(TABLE.jet["pt"][rows], EDGES)
    assert kept.max() < 1.4 * kept.min()  # before: by more than a factor of three
    assert len(rows) == pytest.approx(sampling.expected, abs=5 * np.sqrt(sampling.expected))


def test_every_epoch_draws_others_and_a_resumed_one_the_same():
    sampling = fit_sampling(TABLE, {"Tbqq": 3.0}, {"pt": EDGES})
    loader = Loader(TABLE, batch_size=8, seed=0, sampling=sampling)
    first, second = drawn(loader), drawn(loader)
    assert set(first) != set(second)
    for _ in range(3):
        next(loader)
    resumed = Loader(TABLE, batch_size=8, seed=0, sampling=sampling)
    resumed.load_state_dict(loader.state_dict())
    for one, other in itertools.islice(zip(loader, resumed, strict=True), 90):
        assert one.p4.equal(other.p4)


def test_ranks_share_what_is_drawn():
    sampling = fit_sampling(TABLE, {"Tbqq": 3.0}, {"pt": EDGES})
    alone = drawn(Loader(TABLE, batch_size=24, seed=0, sampling=sampling))
    parts = [drawn(Loader(TABLE, batch_size=24, seed=0, sampling=sampling, rank=r, world_size=2)) for r in (0, 1)]
    assert sorted(parts[0] + parts[1]) == sorted(alone)


def test_mistakes_name_the_key():
    with pytest.raises(RecipeError, match=r"classes: no class 'QDC'; did you mean QCD"):
        fit_sampling(TABLE, {"QDC": 1.0}, {})
    with pytest.raises(RecipeError, match=r"flat_in\.pt: expected two or more rising edges"):
        fit_sampling(TABLE, {}, {"pt": (3.0, 2.0)})
    with pytest.raises(RecipeError, match="no jet column 'mass'"):
        fit_sampling(TABLE, {}, {"mass": (1.0, 2.0)})
    with pytest.raises(RecipeError, match="these jets have no labels"):
        fit_sampling(replace(TABLE, label=None, class_names=()), {"QCD": 1.0}, {})
    with pytest.raises(DataError, match="no jet of class QCD in any bin"):
        fit_sampling(TABLE, {}, {"pt": (1e6, 2e6)})


BINS = {"pt": EDGES, "abs_eta": (0.0, 1.0, 2.5)}
SHAPED = replace(TABLE, jet={**TABLE.jet, "eta": np.random.default_rng(1).uniform(-2.5, 2.5, 4000)})


def histogram(rows, number, weight=None):
    """Jets of a class in the bins, by hand."""
    chosen = np.asarray(rows)[SHAPED.label[rows] == number]
    axes = (SHAPED.jet["pt"][chosen], np.abs(SHAPED.jet["eta"][chosen]))
    return np.histogram2d(*axes, bins=list(BINS.values()), weights=None if weight is None else weight[chosen])[0]


@pytest.mark.parametrize("method", ["countup", "importance"])
def test_every_class_takes_the_shape_of_the_target(method):
    sampling = fit_shape(SHAPED, {"QCD": 2.0}, BINS, "Tbqq", method)
    target = histogram(np.arange(4000), 1)
    rows = drawn(Loader(SHAPED, batch_size=32, seed=0, sampling=sampling))
    assert len(rows) == pytest.approx(sampling.expected, abs=5 * np.sqrt(sampling.expected))
    if method == "countup":
        np.testing.assert_array_equal(histogram(rows, 1), target)  # its own jets once each
        found = histogram(rows, 0)
        # Twice as many of the other, of three times as many jets: within the fluctuation of one draw a jet.
        assert np.all(np.abs(found - 2 * target) <= 5 * np.sqrt(2 * target + 1))
        copies = np.bincount(rows, minlength=4000)
        rate = sampling(SHAPED.label, SHAPED.jet, 4000)
        assert np.all((copies == np.floor(rate)) | (copies == np.ceil(rate)))
    else:
        for number, factor in ((0, 2), (1, 1)):
            assert np.all(np.abs(histogram(rows, number) - factor * target) <= 5 * np.sqrt(factor * target + 1))
        assert len(set(rows)) < len(rows)  # with replacement


def test_countup_repeats_what_is_rare_until_there_are_enough():
    sampling = fit_shape(SHAPED, {"QCD": 1.0}, BINS, "QCD", "countup")
    counts = [histogram(np.arange(4000), number) for number in (0, 1)]
    rows = drawn(Loader(SHAPED, batch_size=32, seed=0, sampling=sampling))
    copies = np.bincount(rows, minlength=4000)[SHAPED.label == 1]
    assert copies.max() >= 3
    assert histogram(rows, 1).sum() == pytest.approx(counts[0].sum(), rel=0.05)


def test_weights_draw_every_jet_once_and_have_the_target_s_shape():
    sampling = fit_shape(SHAPED, {}, BINS, "Tbqq", "weights")
    loader = Loader(SHAPED, batch_size=50, seed=0, sampling=sampling)
    rows, weight = [], np.zeros(4000)
    for _ in range(loader.batches_per_epoch):
        batch = next(loader)
        own = loader.origin()["row"]
        rows += own.tolist()
        weight[own] = batch.weight.numpy()
    assert len(rows) == len(set(rows)) == round(sampling.expected)
    assert weight[rows].mean() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(histogram(rows, 0, weight), histogram(rows, 1, weight), rtol=1e-5)


def test_validation_and_test_jets_cannot_be_resampled():
    assert "sampling" not in inspect.signature(once).parameters  # what evaluates goes through it
    assert sum(len(batch) for _, batch in once(SHAPED, 64)) == 4000


def test_what_a_class_cannot_fill_is_told():
    shifted = replace(SHAPED, jet={**SHAPED.jet, "pt": np.where(SHAPED.label == 0, 30.0, SHAPED.jet["pt"])})
    sampling = fit_shape(shifted, {}, {"pt": EDGES}, "Tbqq", "countup")
    found, _ = np.histogram(SHAPED.jet["pt"][SHAPED.label == 1], EDGES)
    assert sampling.unfilled == {"QCD": pytest.approx(1 - found[0] / found.sum())}
    with pytest.raises(DataError, match="no jet of class QCD in any of data"):
        fit_shape(shifted, {}, {"pt": (100.0, 200.0)}, "Tbqq", "countup")


def test_a_recipe_says_it_in_regions_and_wrong_keys_are_refused():
    recipe = SamplingRecipe.model_validate(
        {
            "method": "countup",
            "target": "Tbqq",
            "bins": {"pt": [{"low": 0, "high": 100, "bins": 2}, {"low": 100, "high": 400, "bins": 3}]},
        }
    )
    assert recipe.bins["pt"] == (0, 50, 100, 200, 300, 400)
    assert sampling_of(TABLE, recipe).method == "countup"
    assert SamplingRecipe(bins={"abs_eta": (0, 1)}, method="weights", target="b").jet_columns == ("eta",)
    for wrong in (
        {"method": "countup", "bins": {"pt": (0, 1)}},
        {"target": "b"},
        {"method": "weights", "target": "b", "flat_in": {"pt": (0, 1)}},
        {"flat_in": {"pt": [{"low": 0, "high": 1, "bins": 1}, {"low": 2, "high": 3, "bins": 1}]}},
    ):
        with pytest.raises(ValidationError):
            SamplingRecipe.model_validate(wrong)
