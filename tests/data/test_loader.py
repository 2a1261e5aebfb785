"""The order of jets: decided by (seed, epoch), every jet once, the same after a resume."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.data.loader import WINDOW, Loader, once
from jettag.errors import CheckpointError

from ..conftest import make_table

TABLE = make_table(97, longest=9)


def row_ids(jets):
    """Which jets a batch holds, known by the energy of the first constituent."""
    energies = TABLE.p4[TABLE.offsets[:-1], 3]
    return [int(np.argmin(np.abs(energies - energy))) for energy in jets.p4[:, 0, 3].tolist()]


@settings(max_examples=30, deadline=None)
@given(
    batch_size=st.integers(1, 120),
    seed=st.integers(0, 2**31),
    taken=st.integers(0, 250),
    shuffle=st.booleans(),
    bucket=st.booleans(),
)
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(batch_size, seed, taken, shuffle, bucket):
    options = {"batch_size": batch_size, "seed": seed, "shuffle": shuffle, "bucket": bucket}
    loader = Loader(TABLE, **options)
    for _ in range(taken % (3 * loader.batches_per_epoch)):
        next(loader)
    resumed = Loader(TABLE, **options)
    resumed.load_state_dict(loader.state_dict())
    for one, other in itertools.islice(zip(loader, resumed, strict=True), 5):
        assert torch.equal(one.p4, other.p4)
        assert torch.equal(one.label, other.label)
        assert torch.equal(one.mask, other.mask)


@settings(max_examples=30, deadline=None)
@given(batch_size=st.integers(1, 120), seed=st.integers(0, 2**31), shuffle=st.booleans(), bucket=st.booleans())
def test_every_jet_comes_once_an_epoch(batch_size, seed, shuffle, bucket):
    loader = Loader(TABLE, batch_size=batch_size, seed=seed, shuffle=shuffle, bucket=bucket)
    for epoch in range(2):
        batches = [row_ids(next(loader)) for _ in range(loader.batches_per_epoch)]
        assert sorted(itertools.chain(*batches)) == list(range(len(TABLE)))
        assert loader.epoch == epoch  # the next batch begins the next one


def test_epochs_and_seeds_differ():
    orders = [row_ids(next(Loader(TABLE, batch_size=97, seed=seed, bucket=False))) for seed in (1, 2)]
    loader = Loader(TABLE, batch_size=97, seed=1, bucket=False)
    orders += [row_ids(next(loader)), row_ids(next(loader))]
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert orders[0] != orders[3]


def test_bucketing_saves_padding():
    table = make_table(WINDOW * 8, longest=60)

    def padded(bucket):
        loader = Loader(table, batch_size=16, seed=0, bucket=bucket)
        return sum(next(loader).mask.numel() for _ in range(loader.batches_per_epoch))

    assert padded(bucket=True) < 0.7 * padded(bucket=False)


def test_without_shuffle_the_table_s_order():
    loader = Loader(TABLE, batch_size=10, seed=0, shuffle=False, bucket=False)
    assert row_ids(next(loader)) == list(range(10))


def test_a_state_of_other_data_or_settings_is_refused():
    state = Loader(TABLE, batch_size=8, seed=0).state_dict()
    with pytest.raises(CheckpointError, match="jets 97 then, 50 now"):
        Loader(TABLE.select(np.arange(50)), batch_size=8, seed=0).load_state_dict(state)
    with pytest.raises(CheckpointError, match="batch_size 8 then, 9 now"):
        Loader(TABLE, batch_size=9, seed=0).load_state_dict(state)


def test_once_gives_every_jet_with_its_row():
    seen = []
    for index, jets in once(TABLE, 10):
        assert row_ids(jets) == index.tolist()
        seen += index.tolist()
    assert sorted(seen) == list(range(len(TABLE)))


def test_a_batch_tells_where_its_jets_come_from():
    table = make_table(40)
    table = replace(table, jet={"entry": 7 * np.arange(40)})
    loader = Loader(table, batch_size=16, seed=1)
    for _ in range(5):
        jets, origin = next(loader), loader.origin()
        assert torch.equal(jets.p4, table.batch(origin["row"]).p4)
        np.testing.assert_array_equal(origin["entry"], 7 * origin["row"])
