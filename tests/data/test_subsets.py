import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.data import subsets
from jettag.data.card import load_card
from jettag.data.opening import expand_data, open_jets
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs
from jettag.data.root import write_tree
from jettag.data.subsets import draw, draw_rows
from jettag.errors import DataError

from ..conftest import make_table
from .make import make_columns

LABEL = np.random.default_rng(0).integers(0, 3, 300)


@given(few=st.integers(3, 150), more=st.integers(0, 150), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_fewer_labels_are_some_of_more_and_classes_are_even(few, more, seed):
    small, large = draw_rows(LABEL, few, seed), draw_rows(LABEL, few + more, seed)
    assert len(small) == few
    assert len(np.unique(large)) == few + more
    assert set(small) <= set(large)
    if few <= 3 * np.bincount(LABEL).min():
        counts = np.bincount(LABEL[small], minlength=3)
        assert counts.max() - counts.min() <= 1


def test_seeds_draw_other_jets_and_too_many_are_refused():
    assert set(draw_rows(LABEL, 50, 0)) != set(draw_rows(LABEL, 50, 1))
    with pytest.raises(DataError, match="301 jets asked for, 300 there"):
        draw_rows(LABEL, 301, 0)


def test_drawn_jets_are_those_rows_of_the_table():
    table = make_table(100)
    rows = draw_rows(table.label, 20, 3)
    part = draw(table, 20, 3)
    assert (part.label == table.label[rows]).all()
    for jet, row in enumerate(rows):
        begin, end = table.offsets[row : row + 2]
        assert (part.p4[part.offsets[jet] : part.offsets[jet + 1]] == table.p4[begin:end]).all()


@pytest.mark.parametrize("together", [1, 3, 64])
@pytest.mark.parametrize("classes", [None, ("Tbqq",)])
def test_prepared_jets_are_drawn_as_those_in_memory_some_blocks_at_a_time(tmp_path, monkeypatch, together, classes):
    for seed, name in enumerate(("QCD", "Tbqq")):
        write_tree(tmp_path / f"{name}.root", "tree", [make_columns(400, seed=seed, class_name=name)], metadata={})
    out = tmp_path / "prepared"
    prepare(expand_inputs(sorted(tmp_path.glob("*.root"))), load_card("generated"), out, Preparation(shard_jets=300))
    table = open_jets(
        expand_data([out]),
        load_card("generated"),
        split="train",
        features="jetclass_full",
        labels=True,
        classes=classes,
    )
    whole, _ = table.load(np.arange(len(table.block_sizes)))
    monkeypatch.setattr(subsets, "BLOCKS", together)
    most, load = [], table.load
    monkeypatch.setattr(table, "load", lambda blocks: most.append(len(blocks)) or load(blocks))
    for total in (1, 50, len(table)):
        found, expected = draw(table, total, 5), whole.select(draw_rows(table.label, total, 5))
        assert len(found) == total
        assert found.features.dtype == np.float32
        for name in ("features", "p4", "offsets", "label"):
            assert (getattr(found, name) == getattr(expected, name)).all()
        assert (found.jet["entry"] == expected.jet["entry"]).all()
    assert max(most) <= together
