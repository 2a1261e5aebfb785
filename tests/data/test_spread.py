"""Who prepares leaves no trace: this process, processes, or a Dask cluster of two workers."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.data.prepare import Preparation, prepare
from jettag.data.spread import spread
from jettag.errors import DataError, ResourceError

from ..cli.conftest import write_root
from .make import make_columns
from .test_prepare import content, finished

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as running:
        yield running.scheduler_address


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dask")
    return [str(write_root(folder / f"{seed}.root", make_columns(120, seed=seed))) for seed in range(3)]


CHOSEN = Preparation(features="jetclass_kin", shard_jets=50)


def test_a_cluster_writes_the_shards_that_one_process_writes(files, cluster, tmp_path):
    for name, dask in (("here", None), ("there", cluster)):
        prepare(expand_inputs(files), load_card("generated"), tmp_path / name, CHOSEN, dask=dask)
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_an_error_of_a_worker_is_the_one_line_it_is_here(files, cluster, tmp_path):
    broken = tmp_path / "broken.root"
    columns = make_columns(120, seed=7)
    columns["part_px"] = columns["part_px"] * np.float32("nan")
    write_root(broken, columns)
    told = []
    for dask in (None, cluster):
        with pytest.raises(DataError) as caught:
            prepare(
                expand_inputs([*files[1:], str(broken)]),
                load_card("generated"),
                tmp_path / str(dask is None),
                CHOSEN,
                dask=dask,
            )
        told.append((caught.value.what, caught.value.exit_code))
    assert told[0] == told[1]


def test_a_scheduler_that_does_not_answer_is_told(monkeypatch):
    monkeypatch.setattr("jettag.data.spread.CONNECT", 1)
    with pytest.raises(ResourceError, match="no Dask scheduler answers") as caught, spread(dask="tcp://127.0.0.1:9"):
        pass
    assert caught.value.exit_code == 7


def test_a_scheduler_without_workers_is_told():
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as empty,
        spread(dask=empty.scheduler_address) as run,
        pytest.raises(ResourceError, match="without workers"),
    ):
        list(run([int]))


def die_once(marker):
    """Take the worker down, the first time."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


def test_the_work_of_a_worker_that_dies_goes_to_another(cluster, tmp_path):
    with spread(dask=cluster) as run:
        found = list(run([partial(die_once, tmp_path / "marker"), *(partial(int, n) for n in range(5))]))
    assert sorted(map(str, found)) == ["0", "1", "2", "3", "4", "done"]


def test_a_task_that_kills_every_worker_ends_in_one_line(cluster):
    with spread(dask=cluster) as run, pytest.raises(ResourceError, match="a Dask worker died over a task") as caught:
        list(run([os.abort]))
    assert caught.value.exit_code == 7


def test_when_no_worker_is_left_it_does_not_wait_for_ever(monkeypatch, tmp_path):
    monkeypatch.setattr("jettag.data.spread.PATIENCE", 1)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
        ) as small,
        spread(dask=small.scheduler_address) as run,
    ):
        results = run([int, partial(time.sleep, 10)])
        assert next(results) == 0
        small.scale(0)
        with pytest.raises(ResourceError, match="no Dask worker is left since 1 s") as caught:
            list(results)
    assert caught.value.exit_code == 7


def test_killed_and_called_again_on_a_cluster_the_command_writes_the_shards_of_local_processes(cluster, tmp_path):
    for seed in range(8):
        write_root(tmp_path / f"{seed}.root", make_columns(200, seed=seed))
    words = [sys.executable, "-m", "jettag_cli", "data", "prepare", "generated", str(tmp_path / "*.root")]
    words += ["--features", "jetclass_kin", "--shard-jets", "50", "--out"]
    out = tmp_path / "there"
    process = subprocess.Popen([*words, out, "--dask", cluster], stderr=subprocess.DEVNULL)
    while not finished(out, "index.json") and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (out / "dataset.json").exists()
    subprocess.run([*words, out, "--dask", cluster], check=True, capture_output=True)
    inputs = expand_inputs([tmp_path / "*.root"])
    prepare(inputs, load_card("generated"), tmp_path / "here", CHOSEN)
    assert content(out) == content(tmp_path / "here")
