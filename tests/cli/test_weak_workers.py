"""jettag weak scan, compare with worker processes: the same points, whatever their number; signals stop them all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import SMALL, SMALL_DECODER
from .test_generate import group_is_alive
from .test_weak import words
from .test_weak_resonance import events  # noqa: F401 - a fixture
from .test_weak_resonance import words as resonance

WAIT = 300  # seconds, at most


@pytest.fixture(scope="module")
def scan(mixed, call_json, tmp_path_factory):
    """A study of trees and networks, and its points, trained one after the other."""
    folder = tmp_path_factory.mktemp("scan")
    train = [mixed / "QCD.root", mixed / "Tbqq.root"]
    call_json("pretrain", "mpm", "--data", *train, "--out", folder / "mpm", *SMALL, *SMALL_DECODER, "--max-steps", 2)
    small = ["--set", "training.max_steps=6", "--set", "data.batch_size=64"]
    rows = ["--rows", "trees,trees-embedding,finetuned,scratch", "--from", folder / "mpm", *SMALL, *small]
    study = words(mixed, "scan", "--fraction", 0.4, "--methods", "cwola", *rows)
    call_json(*study, "--workers", 1, "--out", folder / "one")
    return study, points(folder / "one")


def points(out):
    """What came of each point but for the time it took."""
    found = {path.name: json.loads(path.read_text()) for path in (out / "points").iterdir()}
    return {name: {key: value for key, value in point.items() if key != "seconds"} for name, point in found.items()}


def nothing_left(out):
    return not list(out.glob(".*"))


def test_two_workers_train_the_same_points_as_none(scan, call_json, jettag, tmp_path):
    study, alone = scan
    assert len(alone) == 16
    found = call_json(*study, "--workers", 2, "--out", tmp_path / "two")
    assert points(tmp_path / "two") == alone
    assert nothing_left(tmp_path / "two")
    order = [(run["row"], run["fraction"], run["seed"]) for run in found["runs"]]
    assert order == sorted(order, key=lambda run: (study[study.index("--rows") + 1].split(",").index(run[0]), *run[1:]))
    (tmp_path / "two" / "points" / "cwola-trees-0-run0.json").unlink()
    code, _, err = jettag(*study, "--workers", 2, "--out", tmp_path / "two")  # one point, no process
    assert (code, "15 of 16 trainings are there already" in err, "worker processes" in err) == (0, True, False)
    assert points(tmp_path / "two") == alone


def test_regions_go_to_workers_whole(events, call_json, tmp_path):  # noqa: F811
    more = ["--fraction", "0.03", "--runs", 1, "--epochs", 2, "--methods", "cathode,curtains,combined,supervised"]
    for workers in (1, 2):
        study = resonance(events, *more, "--workers", workers, "--out", tmp_path / str(workers))
        call_json("weak", "compare", *study)
    assert len(points(tmp_path / "1")) == 7
    assert points(tmp_path / "2") == points(tmp_path / "1")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_one_line_wherever_it_happens(mixed, jettag, tmp_path, workers):
    more = ["--fraction", 0.1, "--folds", 40, "--workers", workers, "--out", tmp_path / "out"]
    code, out, err = jettag(*words(mixed, "cwola", *more))
    assert (code, out) == (4, "")
    assert [line for line in err.splitlines() if line.startswith("error")] == [err.splitlines()[-1]]
    assert "too few for 40 folds" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert nothing_left(tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed through /proc")
@pytest.mark.parametrize(("number", "code", "whom"), [("SIGTERM", 143, "one"), ("SIGINT", 130, "all")])
def test_a_signal_stops_all_workers_and_the_command_goes_on(scan, call_json, tmp_path, number, code, whom):
    """SIGTERM as `kill` sends it, SIGINT as a terminal does: to every process."""
    study, alone = scan
    out = tmp_path / "out"
    command = [sys.executable, "-m", "jettag_cli", *map(str, study), "--workers", "2", "--out", str(out)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + WAIT
    while not list(out.glob("points/*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    (os.kill if whom == "one" else os.killpg)(process.pid, signal.Signals[number])
    _, err = process.communicate(timeout=WAIT)
    end = time.monotonic() + 10
    assert process.returncode == code, err
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1
    assert "Traceback" not in err
    while group_is_alive(process.pid):
        assert time.monotonic() < end, "a worker is left"
        time.sleep(0.1)
    assert nothing_left(out)
    kept = points(out)
    assert kept.items() <= alone.items()
    assert len(kept) < len(alone)
    call_json(*study, "--workers", 1, "--out", out)
    assert points(out) == alone
