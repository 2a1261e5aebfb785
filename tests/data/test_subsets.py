import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.data.subsets import draw, draw_rows
from jettag.errors import DataError

from ..conftest import make_table

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
