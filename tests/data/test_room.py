"""Jets that memory cannot hold are refused while they are read, before the system kills the process."""

import pytest

from jettag.data import room
from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.data.read import read_table
from jettag.data.root import write_tree
from jettag.errors import ResourceError

from .make import make_columns

HELD, SHARE = 1_000_000, 0.01  # a hundredth of the jets takes 1 MB: 99 MB are missing


@pytest.mark.parametrize(
    ("free", "refused"),
    [
        (10**12, False),
        (99_000_000, False),  # exactly as much
        (40_000_000, False),  # too little, but the first hundredth may be unlike the rest
        (30_000_000, True),  # less than a third of what is missing
        (None, False),  # a system that does not tell
    ],
)
def test_what_is_certainly_too_much_is_refused_at_once(monkeypatch, free, refused):
    monkeypatch.setattr(room, "available", lambda: free)
    if not refused:
        room.refuse_too_many(HELD, SHARE, "a.root")
        return
    with pytest.raises(ResourceError, match=r"about 0\.1 GB of memory, 0\.031 GB are there in a\.root; .*data prepare"):
        room.refuse_too_many(HELD, SHARE, "a.root")


def test_the_last_of_memory_is_not_filled_unless_the_rest_fits(monkeypatch):
    monkeypatch.setattr(room, "available", lambda: 10_000)
    room.refuse_too_many(HELD, 0.995, "a.root")  # 5 kB are missing
    room.refuse_too_many(HELD, 1.0, "a.root")
    with pytest.raises(ResourceError):
        room.refuse_too_many(HELD, 0.98, "a.root")  # 20 kB


def test_a_container_s_limit_counts_and_what_it_can_drop_does_not(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:   500 kB\n")
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(room, "LIMITS", tmp_path)
    assert room.available() == 500 * 1024
    for name, text in {
        "memory.max": "100000\n",
        "memory.current": "90000\n",
        "memory.stat": "inactive_file 30000\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert room.available() == 40_000
    (tmp_path / "memory.max").write_text("max\n")
    assert room.available() == 500 * 1024
    (tmp_path / "meminfo").unlink()
    assert room.available() is None


def test_reading_asks(monkeypatch, tmp_path):
    write_tree(tmp_path / "a.root", "tree", [make_columns(60, seed=seed) for seed in range(2)], metadata={})
    write_tree(tmp_path / "b.root", "tree", [make_columns(60, seed=3)], metadata={})
    card, files = load_card("generated"), expand_inputs([tmp_path / "a.root", tmp_path / "b.root"])
    whole = read_table(files, card, features="jetclass_kin", labels=False)
    size = whole.features.nbytes + whole.p4.nbytes
    monkeypatch.setattr(room, "available", lambda: size)
    assert len(read_table(files, card, features="jetclass_kin", labels=False)) == len(whole)
    monkeypatch.setattr(room, "available", lambda: size // 100)
    with pytest.raises(ResourceError, match=r"in .*a\.root and 1 more files"):
        read_table(files, card, features="jetclass_kin", labels=False)
