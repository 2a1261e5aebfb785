"""Every jet once, in batches that do not depend on who shares them, of which each process builds its own alone."""

import numpy as np
import pytest

from jettag.data import once as module
from jettag.data.card import load_card
from jettag.data.jets import JetTable
from jettag.data.once import dealt, once
from jettag.data.opening import expand_data, open_jets
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs
from jettag.data.root import write_tree
from jettag.data.shards import BLOCK, Shard

from ..conftest import make_table
from .make import make_columns

TABLE = make_table(97, longest=9)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Ten blocks of jets on disk, the last of them short, of two classes."""
    folder = tmp_path_factory.mktemp("shards")
    for seed, name in enumerate(("QCD", "Tbqq")):
        jets = make_columns(5 * BLOCK - 20 * seed, seed=seed, class_name=name, longest=6)
        write_tree(folder / f"{name}.root", "tree", [jets], metadata={})
    files = expand_inputs([folder / "*.root"])
    prepare(files, load_card("generated"), folder / "shards", Preparation(fractions=(1, 0, 0)))
    inputs = expand_data([folder / "shards"])
    return open_jets(inputs, load_card("generated"), split="train", features="jetclass_full", labels=True)


@pytest.fixture
def narrow(monkeypatch):
    """Windows of two batches: five of a table on disk."""
    monkeypatch.setattr(module, "WINDOW", 2)
    return BLOCK


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("features", "p4", "mask", "label"))


@pytest.mark.parametrize("on_disk", [False, True])
def test_every_jet_comes_once_with_its_row(shards, on_disk):
    table = shards if on_disk else TABLE
    whole = shards.load(np.arange(len(shards.block_sizes)))[0] if on_disk else TABLE
    seen = []
    for index, jets in once(table, 11):
        assert same(jets, whole.batch(index))
        seen += index.tolist()
    assert sorted(seen) == list(range(len(table)))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("batch_size", [40, 97, BLOCK])
def test_processes_share_the_batches_of_one_in_equal_steps(shards, narrow, world_size, on_disk, batch_size):
    """Whether or not they go round evenly, and though there may be fewer than processes."""
    table = shards if on_disk else TABLE
    alone = {batch.number: batch for batch in dealt(table, batch_size)}
    assert list(alone) == list(range(len(alone)))
    ranks = [list(dealt(table, batch_size, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    assert len(ranks[0]) <= -(-len(alone) // world_size) + 2  # a window more than another has
    for rank in ranks:
        for batch in rank:  # one that does not count, too, is a batch that there is
            assert np.array_equal(batch.rows, alone[batch.number].rows)
            assert same(batch.jets, alone[batch.number].jets)
    counted = [batch.number for rank in ranks for batch in rank if batch.counts]
    assert sorted(counted) == list(alone)


def test_each_process_builds_its_share_and_reads_little_else(shards, narrow, monkeypatch):
    """Of five windows of two batches two processes take two each whole; of the last one each takes one."""
    built, read = [], []
    batch, check = JetTable.batch, Shard.check_block
    monkeypatch.setattr(JetTable, "batch", lambda table, index, _: (built.append(len(index)), batch(table, index))[1])
    monkeypatch.setattr(Shard, "check_block", lambda shard, block: (read.append(block), check(shard, block)))
    for rank in range(2):
        list(dealt(shards, narrow, rank=rank, world_size=2))
        assert len(built) == 5
        assert len(read) == 6  # two windows of two blocks, and both blocks of the one that is shared
        assert sum(built) <= 5 * BLOCK
        built.clear()
        read.clear()


def test_no_jet_is_no_batch():
    assert list(once(TABLE.select(np.arange(0)), 10)) == []
