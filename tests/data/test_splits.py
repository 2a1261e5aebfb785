"""Two sides that together are the table, the same every time."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.data.splits import hold_out
from jettag.errors import DataError

from ..conftest import make_table

TABLE = replace(make_table(200), jet={"row": np.arange(200)})


@settings(max_examples=30, deadline=None)
@given(fraction=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
def test_both_sides_together_are_the_table(fraction, seed):
    train, held = hold_out(TABLE, fraction, seed)
    rows = np.concatenate([train.jet["row"], held.jet["row"]])
    assert sorted(rows) == list(range(200))
    again = hold_out(TABLE, fraction, seed)[1]
    np.testing.assert_array_equal(again.jet["row"], held.jet["row"])
    for label in (0, 1):
        wanted = fraction * np.count_nonzero(TABLE.label == label)
        assert abs(np.count_nonzero(held.label == label) - wanted) <= 1


def test_another_seed_is_another_split():
    assert hold_out(TABLE, 0.5, 1)[1].jet["row"].tolist() != hold_out(TABLE, 0.5, 2)[1].jet["row"].tolist()


def test_jets_of_one_event_stay_together():
    table = replace(TABLE, jet={"event_number": np.arange(200) // 3})
    train, held = hold_out(table, 0.3, 0)
    assert not set(train.jet["event_number"]) & set(held.jet["event_number"])
    assert abs(len(held) - 60) <= 3


def test_a_side_without_jets_is_an_error():
    with pytest.raises(DataError, match="one side empty"):
        hold_out(TABLE, 0.0, 0)
    with pytest.raises(DataError, match="one side empty"):
        hold_out(TABLE.select(np.arange(1)), 0.5, 0)
