"""Commands on GPUs that compute nothing (`tests.nullgpu`): two processes and NCCL's group of them, each on its own GPU.

`tests/training/test_nullgpu.py` has the trainings of one process.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..nullgpu.build import build, found_by, missing
from ..training.test_distributed import records, torchrun
from .conftest import SMALL, SMALL_DECODER

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("nullgpu"))


@pytest.fixture
def words(files):
    data = ["--data", str(files / "train" / "*.root")]
    return ["pretrain", "mpm", *data, "--device", "cuda", "--max-steps", "4", *SMALL, *SMALL_DECODER, "--json"]


def test_each_process_computes_on_its_own_gpu_and_waits_for_none(library, words, tmp_path):
    """With whole copies of the model, whose gradients are summed, then with pieces of one, which are gathered.

    At last with pieces whose blocks are compiled.
    """
    ways = {
        way: [*words, *("--set", f"training.parallel={way.split('-')[0]}"), "--out", str(tmp_path / way)]
        for way in ("ddp", "fsdp", "fsdp-compiled")
    }
    ways["fsdp-compiled"] += ["--set", "training.compile=true"]
    _, out, err = torchrun("-m", "tests.cli.on_nullgpu", json.dumps(list(ways.values())), **found_by(library, gpus=2))
    assert [json.loads(line)["processes"] for line in out.splitlines()] == [2, 2, 2]
    assert all(len(records(tmp_path / way)) > 1 for way in ways)
    told = [json.loads(line.removeprefix("traffic ")) for line in err.splitlines() if line.startswith("traffic ")]
    for process in (0, 1):
        ddp, fsdp, compiled = (one for one in told if one["used"] == [process])
        assert ddp["all_reduce"] >= 4
        assert ddp["reduce_scatter"] == 0
        assert fsdp["reduce_scatter"] >= 4
        assert fsdp["all_gather"] > ddp["all_gather"]
        assert compiled["all_gather"] - fsdp["all_gather"] == fsdp["all_gather"] - ddp["all_gather"]
        assert fsdp["programs"] == 0 < compiled["programs"]


def test_fewer_gpus_than_processes_are_refused_before_anybody_is_waited_for(library, words, tmp_path):
    """There is no other process here that could come."""
    beside = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    environment = found_by(library, gpus=1) | beside
    command = [sys.executable, "-m", "jettag_cli", *words, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=100, check=False)
    assert done.returncode == 7
    assert done.stderr.startswith("error: no GPU for process 1 of this machine, which sees 1; start as many")
    assert done.stderr.count("\n") == 1
