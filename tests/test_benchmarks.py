"""Both sides of a comparison time the same jets and compute the same numbers."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from jettag_cli.bench_table import rates_json

from jettag.benchmarks import BenchSettings, bench_jets, compare
from jettag.errors import DataError, ResourceError
from jettag.models import compiling
from jettag.random_jets import random_table

QUICK = {"size": "tiny", "batch_size": 12, "steps": 2, "loss_steps": 50}


def test_random_jets_have_the_stated_distribution():
    table = random_table(4000)
    assert table.counts.mean() == pytest.approx(50, abs=5 * 18 / 4000**0.5)
    assert table.counts.std() == pytest.approx(18, rel=0.05)
    assert table.counts.min() >= 1
    assert table.counts.max() <= 128
    px, py, pz, energy = table.p4.astype(np.float64).T
    assert (energy**2 > px**2 + py**2 + pz**2 - 1e-4 * energy**2).all()
    pt = np.hypot(px, py)
    first = table.offsets[:-1]
    assert (np.maximum.reduceat(pt, first) <= pt[first] * (1 + 1e-6)).all()


@pytest.mark.parametrize(("precision", "most"), [("double", 5e-6), ("single", 1e-3)])
def test_losses_of_both_sides_agree_over_fifty_steps(precision, most):
    settings = BenchSettings("train", loss_precision=precision, **QUICK)
    found = compare(settings, bench_jets(settings, [], "jetclass"), weaver=True)
    assert found.difference is not None
    assert found.difference < most
    assert found.jets == 24
    assert min(found.ours.wall, found.ours.cpu, found.weaver.wall, found.weaver.cpu) > 0


def test_no_steps_of_losses_are_no_comparison():
    settings = BenchSettings("train", **QUICK | {"loss_steps": 0})
    found = compare(settings, bench_jets(settings, [], "jetclass"), weaver=True)
    assert found.difference is None
    assert found.weaver is not None


def test_both_precisions_are_timed_beside_each_other_and_learn_apart():
    settings = BenchSettings("train", **QUICK | {"loss_steps": 1}, mixed=True)
    table = bench_jets(settings, [], "jetclass")
    found = compare(settings, table, weaver=True)
    rates = (found.ours, found.weaver, found.ours_mixed, found.weaver_mixed)
    assert all(rate is not None and rate.wall > 0 and rate.cpu > 0 for rate in rates)
    alone = compare(settings, table, weaver=False)
    assert alone.ours_mixed is not None
    assert alone.weaver_mixed is None
    inference = compare(replace(settings, mode="infer"), table, weaver=False)
    assert inference.ours_mixed is not None
    assert compare(replace(settings, mode="infer", mixed=False), table, weaver=False).ours_mixed is None


def test_compiled_blocks_are_timed_beside_the_others(monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    settings = BenchSettings("train", **QUICK | {"loss_steps": 0}, compiled=True, mixed=True)
    found = compare(settings, bench_jets(settings, [], "jetclass"), weaver=False)
    told = rates_json(found)
    for precision, ours, compiled in (
        ("", found.ours, found.compiled),
        ("_bf16", found.ours_mixed, found.compiled_mixed),
    ):
        assert told[f"compiled_ratio{precision}"] == pytest.approx(compiled.wall / ours.wall, abs=1e-4)
        assert told[f"compiled_ratio_cpu{precision}"] == pytest.approx(compiled.cpu / ours.cpu, abs=1e-4)
        assert told[f"compiled_jets_per_second{precision}"] == pytest.approx(compiled.wall, abs=0.01)
        assert told[f"jets_per_second{precision}"] == pytest.approx(ours.wall, abs=0.01)
    assert told["ratio"] is None


def test_logits_of_both_sides_agree():
    settings = BenchSettings("infer", **QUICK)
    found = compare(settings, bench_jets(settings, [], "jetclass"), weaver=True)
    assert found.difference is not None
    assert 0 < found.difference < 1e-5


def test_one_side_alone_needs_no_weaver(monkeypatch):
    monkeypatch.setitem(sys.modules, "weaver.nn.model.ParticleTransformer", None)
    settings = BenchSettings("infer", **QUICK)
    table = bench_jets(settings, [], "jetclass")
    found = compare(settings, table, weaver=False)
    assert (found.weaver, found.difference) == (None, None)
    with pytest.raises(ResourceError, match=r"pip install weaver-core==0\.5\.3"):
        compare(settings, table, weaver=True)


def test_too_few_jets_are_an_error(tmp_path, monkeypatch):
    few = random_table(5)
    monkeypatch.setattr("jettag.benchmarks.read_table", lambda *_, **__: few)
    monkeypatch.setattr("jettag.benchmarks.expand_inputs", lambda data: data)
    with pytest.raises(DataError, match=r"5 jets for 2 batches of 12; give more files"):
        bench_jets(BenchSettings("train", **QUICK), ["a.root"], "jetclass")
