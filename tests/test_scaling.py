"""Scaling: exponents of known laws, and points that are measured where they say."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from jettag.scaling import Point, constituent_scaling, exponent, growth, jet_scaling, weaver_ratios


def test_the_exponent_of_a_power_law_is_its_power():
    numbers = [10, 100, 1000]
    assert exponent(numbers, [3 * n**1.7 for n in numbers]) == pytest.approx(1.7)
    assert exponent(numbers, [5.0, 5.0, 5.0]) == pytest.approx(0)
    assert exponent([10], [1.0]) is None
    assert exponent([10, 100], [0.0, 1.0]) is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process inherits the peak of its parent")
def test_a_process_does_not_count_the_memory_of_its_parent():
    begun = "import numpy as np; from jettag.scaling import _peak; before = _peak(); x = np.ones(5_000_000); "
    held = np.ones(100_000_000)  # 0.8 GB
    told = subprocess.run(
        [sys.executable, "-c", begun + "print(_peak() - before)"], capture_output=True, text=True, check=True
    )
    assert 35e6 < int(told.stdout) < 60e6 < held.nbytes


def test_every_jet_is_read_and_every_length_stepped():
    told = []
    points = jet_scaling([50], on_point=told.append)
    assert [point.number for point in points] == [50]
    assert all(point.jets == point.number and point.jets_per_second > 0 for point in points)
    points += constituent_scaling([4], size="tiny", batch_size=4, device="cpu", on_point=told.append)
    assert [(p.what, p.number) for p in points[1:]] == [("train", 4), ("infer", 4)]  # more: tests/cli/test_bench.py
    assert points == told
    assert all(point.peak_bytes >= 0 for point in points)


def test_growth_is_of_an_epoch_with_its_jets_and_of_a_jet_with_its_constituents():
    linear = [Point("loader", "jettag", n, n, 3.0, 1000.0, 10**6) for n in (10, 100, 1000)]
    square = [Point("train", "jettag", n, 64, 3.0, 1e6 / n**2, n**2) for n in (32, 64, 128)]
    slower = [Point("train", "weaver", n, 64, 1e6, 5e5 / n**2, n**2) for n in (32, 64, 128)]
    loader, ours, theirs = growth([*linear, *square, *slower])
    assert loader["time_exponent"] == pytest.approx(1)
    assert loader["memory_exponent"] == pytest.approx(0)
    assert ours["time_exponent"] == pytest.approx(2)
    assert theirs["memory_exponent"] == pytest.approx(2)
    assert weaver_ratios([*linear, *square, *slower]) == pytest.approx([2, 2, 2])
    on_device = [replace(point, device="cuda", jets_per_second=1e6 / point.number) for point in square]
    assert growth(on_device)[0]["time_exponent"] == pytest.approx(1), "the CPU only waits"
