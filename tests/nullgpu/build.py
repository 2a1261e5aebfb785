"""Builds the GPU that computes nothing (`gpu.c`), and says how a process finds it.

It stands for CUDA's runtime and driver, cuBLAS, cuSOLVER, cuSPARSE and NCCL, so that PyTorch's own code for CUDA runs:
the dispatcher, the caching allocator, page-locked memory, streams, the mode in which waiting is an error, generators,
process groups, the compiler with Triton. Kernels are not run, so numbers mean nothing there: what a process can tell
is where tensors are, what is copied how, who waits, and how many kernels there are.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

__all__ = ["SOURCE", "build", "found_by", "missing"]

SOURCE = Path(__file__).with_name("gpu.c")
PYTORCH = Path(torch.__file__).parent / "lib"
ASKING = ("torch_cuda", "torch_cuda_linalg", "c10_cuda", "torch_python", "caffe2_nvrtc")  # libraries of PyTorch
ASKED = re.compile(r"(cuda|cu|cublas|cublasLt|cusolver|cusparse|nccl)[A-Z]\w*")  # functions of those it stands for
ASKED_OF_DRIVER = re.compile(r"\bcu[A-Z]\w+")  # in Triton's source


def missing() -> str | None:
    """Why it cannot be built here, or is not needed."""
    if torch.version.cuda is None or not sys.platform.startswith("linux"):
        return "this PyTorch is not built for CUDA on Linux"
    if torch.cuda.is_available():
        return "a GPU that computes is at hand"
    lacking = [tool for tool in ("gcc", "nm") if shutil.which(tool) is None]
    if _version() != torch.version.cuda.partition(".")[0]:  # what describes a GPU has another form in each
        lacking.append(f"headers of CUDA {torch.version.cuda} in triton")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():  # Triton builds a module
        lacking.append("headers of Python")
    return f"no {' and no '.join(lacking)}" if lacking else None


def _triton() -> Path:
    """What it has for these GPUs."""
    triton = importlib.util.find_spec("triton")
    return Path(triton.origin if triton and triton.origin else "").parent / "backends" / "nvidia"


def _headers() -> Path:
    return _triton() / "include"


def _version() -> str:
    """Of the CUDA whose headers Triton brings, without what follows the point."""
    header = _headers() / "cuda_runtime_api.h"
    said = re.search(r"#define CUDART_VERSION +(\d+)\d{3}\b", header.read_text() if header.is_file() else "")
    return said[1] if said else ""


def _functions(library: Path, *which: str) -> set[str]:
    """Names of CUDA's functions that a library has or asks for."""
    said = subprocess.run(["nm", *which, library], capture_output=True, text=True, check=True).stdout
    names = (line.split()[-1].partition("@")[0] for line in said.splitlines())
    return {name for name in names if ASKED.fullmatch(name)}


def build(folder: Path) -> Path:
    """Compile it in a folder; the library also has what PyTorch asks for and `gpu.c` says nothing about."""
    known, others, library = folder / "gpu.o", folder / "others.c", folder / "libcuda.so.1"
    compiler = ["gcc", "-fPIC", "-O1", "-Wall"]
    subprocess.run([*compiler, "-c", "-I", _headers(), SOURCE, "-o", known], check=True)
    asked = set().union(*(_functions(PYTORCH / f"lib{name}.so", "-D", "--undefined-only") for name in ASKING))
    asked |= set(ASKED_OF_DRIVER.findall((_triton() / "driver.c").read_text()))
    rest = sorted(asked - _functions(known, "--defined-only"))
    others.write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in rest))
    named = f"-Wl,-soname,{library.name}"  # whoever opens the driver has it already
    subprocess.run([*compiler, "-shared", named, known, others, "-o", library, "-lpthread"], check=True)
    return library


def found_by(library: Path, gpus: int) -> dict[str, str]:
    """The environment of a process that finds so many GPUs."""
    there = {"LD_PRELOAD": str(library), "NULLGPU_DEVICES": str(gpus), "OMP_NUM_THREADS": "1"}
    # What is compiled for it stays apart: nothing was timed there, which choices between kernels rest on.
    apart = {"TORCHINDUCTOR_CACHE_DIR": library.parent / "compiled", "TRITON_CACHE_DIR": library.parent / "triton"}
    found = {"TRITON_LIBCUDA_PATH": library.parent, **apart}
    return {**os.environ, **there, **{name: str(path) for name, path in found.items()}}
