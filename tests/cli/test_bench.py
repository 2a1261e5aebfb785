"""jettag bench train | infer: one JSON object with both rates, on files and on random jets."""

import json

import pytest

from jettag import scaling
from jettag.random_jets import random_table, write_random_jets

TINY = ("--size", "tiny", "--batch-size", 8, "--steps", 2)


def test_train_against_weaver_on_files(files, call_json):
    jets = sorted((files / "train").glob("*.root"))
    found = call_json("bench", "train", "--against", "weaver", "--data", *jets, *TINY, "--loss-steps", 3)
    assert (found["jets"], found["batch_size"], found["size"], found["bench"]) == (16, 8, "tiny", "train")
    assert found["ratio"] == pytest.approx(found["jets_per_second"] / found["weaver_jets_per_second"], rel=0.01)
    assert found["max_difference"] < 1e-4


def test_the_ratio_in_bf16_is_to_weaver_core_as_it_trains_on_a_cpu(call_json):
    found = call_json("bench", "train", "--against", "weaver", *TINY, "--loss-steps", 0, "--bf16")
    expected = found["jets_per_second_bf16"] / found["weaver_jets_per_second"]
    assert found["ratio_bf16"] == pytest.approx(expected, rel=0.01)
    assert found["weaver_jets_per_second_bf16"] > 0
    alone = call_json("bench", "train", *TINY, "--no-bf16")
    assert (alone["jets_per_second_bf16"], alone["ratio_bf16"]) == (None, None)


def test_infer_alone_on_random_jets(call_json):
    found = call_json("bench", "infer", *TINY, "--bf16")
    assert min(found["jets_per_second"], found["jets_per_second_bf16"]) > 0
    assert (found["weaver_jets_per_second"], found["ratio"], found["max_difference"]) == (None, None, None)


@pytest.mark.parametrize(("free", "batch"), [(None, 512), (64 << 30, 512), (8 << 30, 128)])
def test_batches_are_the_published_ones_unless_memory_is_short(free, batch, call_json, monkeypatch):
    monkeypatch.setattr("jettag.data.room.available", lambda: free)
    found = call_json("bench", "infer", "--size", "tiny", "--steps", 1, "--no-bf16")
    assert (found["batch_size"], found["jets"]) == (batch, batch)


def test_an_unknown_rival_is_a_usage_error(jettag):
    code, _, err = jettag("bench", "train", "--against", "salt")
    assert code == 2
    assert err.count("\n") == 1
    assert "only weaver is known" in err


def test_an_unknown_size_is_refused_before_any_jet_is_made(jettag):
    code, _, err = jettag("bench", "scale", "--size", "tinny")
    assert code == 3
    assert "did you mean tiny" in err


def test_scale_tells_every_point_and_how_it_grows(call_json, monkeypatch):
    """Measured here, to be quick: that each point has a process of its own is tested in tests/test_scaling.py."""

    def measure(what, side, told, *, where):
        found = scaling._loader(**told) if what == "loader" else scaling._network(what, side, **told)
        return scaling.Point(what=what, side=side, **found)

    monkeypatch.setattr(scaling, "_measure", measure)
    words = ["--most-jets", 200, "--most-constituents", 16, "--size", "tiny", "--batch-size", 4]
    found = call_json("bench", "scale", *words)
    assert [point["number"] for point in found["points"] if point["what"] == "loader"] == [2, 20, 200]
    assert [point["number"] for point in found["points"] if point["what"] == "train"] == [2, 4, 8, 16]
    assert {item["what"] for item in found["growth"]} == {"loader", "train", "infer"}
    assert all(item["time_exponent"] is not None for item in found["growth"])
    assert found["ratio"] is None


def test_the_loader_without_files_reads_random_jets_and_leaves_none(jettag, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = jettag("bench", "loader", "--jets", 60, "--rounds", 1, "--batch-size", 16, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["jets"], found["random_jets"], found["card"]) == (60, True, "jetclass")
    assert found["constituents_mean"] == pytest.approx(random_table(60).counts.mean(), abs=0.01)
    assert "60 random jets" in err
    assert list(tmp_path.iterdir()) == []


def test_random_jets_are_as_the_card_promises(jettag, tmp_path):
    path = write_random_jets(tmp_path / "random.root", 300)
    code, out, err = jettag("data", "check", "jetclass", path, "--json")
    assert code == 0, err
    assert sum(json.loads(out)["classes"].values()) == 300


def test_random_jets_are_counted_only_without_files_and_of_one_card(jettag):
    for words in (["--jets", 9, "--data", "a.root"], ["--card", "generated"]):
        code, _, err = jettag("bench", "loader", *words)
        assert (code, err.count("\n")) == (2, 1), err
