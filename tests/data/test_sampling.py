"""Sampling: expected numbers that a person would compute by hand, and the loader drawing them."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from jettag.data.loader import Loader
from jettag.data.sampling import fit_sampling
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
    np.testing.assert_allclose(sampling.accept, [500 / 3000, 1.0])
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
        np.testing.assert_allclose(sampling.accept[number], np.minimum(1, reference / found))
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
    with pytest.raises(DataError, match="no jet of class QCD in any bin"):
        fit_sampling(TABLE, {}, {"pt": (1e6, 2e6)})
