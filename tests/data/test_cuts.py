"""Token budgets: every jet in one batch, no batch above the budget, none with a few jets only."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.data.cuts import cut, cut_by_tokens

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=200)


@settings(max_examples=200, deadline=None)
@given(counts=LENGTHS, batch_size=st.integers(1, 60), max_tokens=st.integers(1, 400), sort=st.booleans())
def test_every_jet_once_and_no_batch_above_the_budget(counts, batch_size, max_tokens, sort):
    counts = np.array(sorted(counts) if sort else counts)
    edges = cut_by_tokens(counts, batch_size, max_tokens)
    assert [j for low, high in edges for j in range(low, high)] == list(range(len(counts)))
    for low, high in edges:
        assert 1 <= high - low <= batch_size
        assert high - low == 1 or (high - low) * counts[low:high].max() <= max_tokens
    if sort and len(edges) > 1:
        # As many jets as the longest one allows would fit anywhere; the rest of a window may halve that.
        fit = min(batch_size, max(max_tokens // int(counts[-1]), 1))
        assert min(high - low for low, high in edges) >= fit // 2


@settings(max_examples=100, deadline=None)
@given(counts=LENGTHS, ranks=st.integers(1, 8), extra=st.integers(0, 200))
def test_two_of_the_longest_jets_a_process_leave_none_without(counts, ranks, extra):
    """The budget that a training of several processes asks for."""
    edges = cut_by_tokens(np.array(sorted(counts)), 2 * ranks + extra, 2 * ranks * 30 + extra)
    assert len(edges) == 1 or min(high - low for low, high in edges) >= ranks


def test_batches_are_as_few_as_the_budget_allows():
    # Of 40 jets of 10 and 10 of 40 constituents 400 hold ten long ones or forty short ones.
    assert cut_by_tokens(np.repeat([10, 40], [40, 10]), 64, 400) == [(0, 40), (40, 50)]
    # The batch that is left over takes half of its neighbour's.
    assert cut_by_tokens(np.full(21, 10), 64, 100) == [(0, 5), (5, 11), (11, 21)]


def test_a_rest_that_is_too_small_joins():
    assert cut(10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert cut(9, 4, 2) == [(0, 4), (4, 9)]
    assert cut(1, 4, 2) == [(0, 1)]
