"""`features: auto` asks every file of a few, and some of many."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from jettag.data import richest
from jettag.data.card import load_card


@pytest.mark.parametrize(("files", "asked"), [(1, 1), (5, 5), (1000, richest.MOST_OPENED)])
def test_first_and_last_are_among_the_files_that_are_asked(files, asked, monkeypatch):
    opened = []

    @contextmanager
    def open_source(file, *_):
        opened.append(file)
        yield SimpleNamespace(names=card.branches)

    card = load_card("jetclass")
    monkeypatch.setattr(richest, "open_source", open_source)
    assert richest.sets_in_all(range(files), card, ["jetclass_full"]) == ["jetclass_full"]
    assert len(opened) == len(set(opened)) == asked
    assert (opened[0], opened[-1]) == (0, files - 1)
