"""The order of jets: decided by (seed, epoch), every jet once, the same after a resume."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jettag.data.card import load_card
from jettag.data.loader import WINDOW, Loader, longest_jets
from jettag.data.opening import expand_data, open_jets, origin_names
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.data.shards import BLOCK, Shard
from jettag.errors import CheckpointError, DataError, UsageError

from ..conftest import make_table
from .make import make_columns

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


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """300 training jets of two classes on disk, in blocks and shards of uneven length."""
    folder = tmp_path_factory.mktemp("shards")
    for seed, name in enumerate(("QCD", "Tbqq")):
        write_tree(folder / f"{name}.root", "tree", [make_columns(150, seed=seed, class_name=name)], metadata={})
    chosen = Preparation(shard_jets=160, fractions=(1, 0, 0))
    prepare(expand_inputs([folder / "*.root"]), load_card("generated"), folder / "shards", chosen)
    inputs = expand_data([folder / "shards"])
    card = load_card("generated")
    table = open_jets(inputs, card, split="train", features="jetclass_full", labels=True)
    table.test_names = [Path(name).name for name in origin_names(inputs)]
    files = expand_inputs([folder / "*.root"])
    table.test_straight = {
        file.path.name: read_table([file], card, features="jetclass_kin", labels=False) for file in files
    }
    return table


def momenta(jets):
    """The four-momentum of each jet's first constituent: no two jets share it."""
    return [tuple(row) for row in jets.p4[:, 0].tolist()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(4, 200),
    seed=st.integers(0, 2**31),
    world_size=st.integers(1, 4),
    max_tokens=st.none() | st.integers(1, 400),
    on_disk=st.booleans(),
    bucket=st.booleans(),
)
def test_all_ranks_together_see_every_jet_once_in_steps_of_one_process(
    shards, batch_size, seed, world_size, max_tokens, on_disk, bucket
):
    table = shards if on_disk else TABLE
    options = {"batch_size": batch_size, "seed": seed, "bucket": bucket, "max_tokens": max_tokens}
    alone = Loader(table, **options)
    ranks = [Loader(table, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
    steps = ranks[0].batches_per_epoch
    assert all(rank.batches_per_epoch == steps for rank in ranks)
    seen = []
    for _ in range(steps):
        parts = [momenta(next(rank)) for rank in ranks]
        assert all(parts)  # no rank is without jets
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        if max_tokens is None and len(table) % batch_size >= world_size:
            assert sorted(itertools.chain(*parts)) == sorted(momenta(next(alone)))
        seen += itertools.chain(*parts)
    assert len(seen) == len(set(seen)) == len(table)
    assert all(rank.epoch == 0 for rank in ranks)
    for rank in ranks:
        next(rank)
        assert rank.epoch == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(8, 100), world_size=st.integers(1, 3), pieces=st.integers(1, 5), on_disk=st.booleans())
def test_the_pieces_of_all_ranks_together_are_those_of_one_process(shards, batch_size, world_size, pieces, on_disk):
    table = shards if on_disk else TABLE
    assume(len(table) % batch_size >= world_size)  # or a batch has one more
    options = {"batch_size": batch_size, "seed": 5, "pieces": pieces}
    alone = Loader(table, **options)
    ranks = [Loader(table, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
    for _ in range(3 * alone.batches_per_epoch):
        batch = momenta(next(alone))
        parts = [momenta(next(rank)) for rank in ranks]
        (number,) = {rank.share().pieces for rank in ranks}
        full = -(-batch_size // pieces)
        assert -(-len(batch) // number) <= full or number == len(batch) // world_size
        assert number == alone.share().pieces or number == len(batch) // world_size
        for piece in range(number):
            together = [part[piece::number] for part in parts]
            assert all(together)
            assert sorted(itertools.chain(*together)) == sorted(batch[piece::number])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batch_size=st.integers(2, 40),
    seed=st.integers(0, 2**31),
    taken=st.integers(0, 60),
    max_tokens=st.none() | st.integers(20, 400),
    world_size=st.integers(1, 2),
)
def test_from_shards_too_a_resumed_run_sees_what_an_uninterrupted_one_sees(
    shards, batch_size, seed, taken, max_tokens, world_size
):
    options = {"batch_size": batch_size, "seed": seed, "max_tokens": max_tokens, "world_size": world_size}
    loader = Loader(shards, **options)
    for _ in range(taken):
        next(loader)
    resumed = Loader(shards, **options)
    resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    for one, other in itertools.islice(zip(loader, resumed, strict=True), 5):
        assert torch.equal(one.p4, other.p4)
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.label, other.label)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 50), max_tokens=st.integers(1, 300), seed=st.integers(0, 100))
def test_no_batch_exceeds_its_tokens(shards, batch_size, max_tokens, seed):
    loader = Loader(shards, batch_size=batch_size, seed=seed, max_tokens=max_tokens)
    for _ in range(loader.batches_per_epoch):
        jets = next(loader)
        assert len(jets) <= batch_size
        assert jets.mask.numel() <= max_tokens or len(jets) == 1


def test_a_batch_from_shards_tells_file_and_entry(shards):
    loader = Loader(shards, batch_size=16, seed=1)
    for _ in range(3):
        jets, origin = next(loader), loader.origin()
        for jet, file, entry in zip(momenta(jets), origin["file"], origin["entry"], strict=True):
            straight = shards.test_straight[shards.test_names[file]]
            assert jet == tuple(straight.p4[straight.offsets[entry]].tolist())


def test_the_longest_jets(shards):
    everything = shards.load(np.arange(len(shards.block_sizes)))[0]
    for table in (shards, everything):
        assert longest_jets(table, 8).mask.sum() == np.sort(everything.counts)[-8:].sum()


def test_blocks_are_mixed_when_small_windows_read_them(shards):
    first = next(Loader(shards, batch_size=3, seed=0, bucket=False))
    assert momenta(first) != momenta(next(Loader(shards, batch_size=3, seed=1, bucket=False)))
    assert momenta(first) != momenta(next(Loader(shards, batch_size=3, seed=0, bucket=False, shuffle=False)))


def test_fewer_jets_than_ranks():
    with pytest.raises(DataError, match="97 jets for 98 processes"):
        Loader(TABLE, batch_size=100, seed=0, world_size=98)
    with pytest.raises(UsageError, match="a batch of 2 jets for 3"):
        Loader(TABLE, batch_size=2, seed=0, world_size=3)


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


def test_a_batch_tells_where_its_jets_come_from():
    table = make_table(40)
    table = replace(table, jet={"entry": 7 * np.arange(40)})
    loader = Loader(table, batch_size=16, seed=1)
    for _ in range(5):
        jets, origin = next(loader), loader.origin()
        assert torch.equal(jets.p4, table.batch(origin["row"]).p4)
        np.testing.assert_array_equal(origin["entry"], 7 * origin["row"])


@pytest.mark.parametrize(("max_tokens", "pieces"), [(None, 1), (400, 1), (None, 4)])
def test_of_a_table_on_disk_each_rank_reads_its_share(long_table, max_tokens, pieces, monkeypatch):
    """Of 60 blocks four ranks read a quarter each, and what their neighbours read too; counting batches reads none."""
    read = []
    check = Shard.check_block
    monkeypatch.setattr(Shard, "check_block", lambda shard, block: (read.append(block), check(shard, block)))
    options = {"batch_size": 400, "seed": 3, "max_tokens": max_tokens and 400 * max_tokens, "world_size": 4}
    options |= {"pieces": pieces}
    ranks = [Loader(long_table, **options, rank=rank) for rank in range(4)]
    assert len({rank.batches_per_epoch for rank in ranks}) == 1
    assert not read
    seen = []
    for rank in ranks:
        before = len(read)
        seen += itertools.chain(*(momenta(next(rank)) for _ in range(rank.batches_per_epoch)))
        assert len(read) - before <= 0.5 * len(long_table.block_sizes)
        assert len(rank._loaded) == len(long_table) / 4
    assert len(read) >= len(long_table.block_sizes)
    assert len(set(seen)) == len(long_table)


@pytest.fixture(scope="module")
def long_table(tmp_path_factory):
    """60 blocks of one shard."""
    folder = tmp_path_factory.mktemp("long")
    write_tree(folder / "QCD.root", "tree", [make_columns(60 * BLOCK, longest=4)], metadata={})
    prepare(
        expand_inputs([folder / "*.root"]), load_card("generated"), folder / "shards", Preparation(fractions=(1, 0, 0))
    )
    return open_jets(
        expand_data([folder / "shards"]), load_card("generated"), split="train", features="jetclass_full", labels=True
    )
