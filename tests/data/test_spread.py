"""Who prepares leaves no trace: this process, processes, or a Dask cluster of two workers."""

import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.data.prepare import Preparation, prepare
from jettag.data.spread import spread
from jettag.errors import DataError, ResourceError

from ..cli.conftest import write_root
from .make import make_columns
from .test_prepare import content

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
