"""The code that trains on CUDA, on a stand-in: nothing waits, nothing mixes with the CPU, the losses are the CPU's.

But for the runs in double precision nothing has it, and every operator that runs is there on MPS.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchgen
from torchgen.gen import parse_native_yaml
from torchgen.model import DispatchKey

from .some_steps import CALLS, NAMES, tolerance

ROOT = Path(__file__).resolve().parents[2]
# Kernels of PyTorch for MPS, and those that are made of others.
KEYS = ("MPS", "CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
# Attention without gradients in one piece, a shortcut on the CPU, on CUDA and on devices that are not PyTorch's.
NOT_ON_MPS = {"aten::_native_multi_head_attention"}


def on_standin(module: str, *words: object) -> str:
    """What a process says that has a stand-in."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch knows no device that is written in Python")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)]).strip(":")}
    command = [sys.executable, "-m", module, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def answers():
    return json.loads(on_standin("tests.training.on_standin", json.dumps(CALLS)))


@pytest.mark.parametrize("number", range(len(CALLS)), ids=NAMES)
def test_an_accelerator_has_the_losses_of_the_cpu_and_waits_for_nothing(answers, number):
    on_cpu, there = answers[number]
    for part in ("steps", "validation"):
        assert there[part] == pytest.approx(on_cpu[part], abs=tolerance(CALLS[number])), part


def on_mps() -> set[str]:
    """Names of the operators that PyTorch has on MPS."""
    folder = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    parsed = parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))
    kernels = [parsed.backend_indices[DispatchKey.parse(key)] for key in KEYS]
    own = {f.func.name for f in parsed.native_functions if any(index.has_kernel(f) for index in kernels)}
    return {f"aten::{f.func.name}" for f in parsed.native_functions if {f.func.name, f.structured_delegate} & own}


def test_every_operator_is_there_on_mps(answers):
    ran = {name for _, there in answers for name in there["operators"]}
    assert len(ran) > 100
    assert ran - on_mps() <= NOT_ON_MPS
