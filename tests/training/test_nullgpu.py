"""PyTorch's own code for CUDA trains every recipe on a GPU that computes nothing: nobody waits for it.

`test_cuda` asks the same, and numbers, of a GPU; `test_standin` asks for the numbers of a device that is none.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..nullgpu.build import build, found_by, missing
from .some_steps import EACH
from .test_waiting import EVERY

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ROOT = Path(__file__).resolve().parents[2]
CALLS = [
    *({"name": name, "mode": mode, "optimizer": optimizer, "precision": "bf16"} for name, mode, optimizer in EVERY),
    *({"name": name, "mode": mode, "precision": "fp16", "accumulate": 3} for name, mode, _ in EACH),
]
NAMES = ["-".join(map(str, call.values())) for call in CALLS]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What goes wrong in each training, and in what must."""
    library = build(tmp_path_factory.mktemp("nullgpu"))
    command = [sys.executable, "-m", "tests.training.on_nullgpu", json.dumps(CALLS)]
    environment = found_by(library, gpus=1)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("number", [0, 1], ids=["operations", "copies from pageable memory"])
def test_what_waits_is_seen(answers, number):
    assert answers[number] is None, answers[number]


def test_fused_attention_copies_no_bias(answers):
    assert answers[2] is None, answers[2]


def test_compiled_blocks_take_fewer_kernels_and_are_not_compiled_again(answers):
    assert answers[3] is None, answers[3]


@pytest.mark.parametrize("number", range(len(CALLS)), ids=NAMES)
def test_nothing_waits_for_a_gpu(answers, number):
    assert answers[4 + number] is None, answers[4 + number]
