"""jettag doctor: can this machine do it?"""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from jettag import __version__
from jettag.errors import ResourceError

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading

if TYPE_CHECKING:
    from jettag.runs.device_check import Trial

__all__ = ["doctor"]

CORE = ("torch", "awkward", "uproot", "vector", "timm", "pythia8mc", "fastjet", "numpy", "scikit-learn", "matplotlib")
EXTRAS = {
    "parquet": ("pyarrow",),
    "hdf5": ("h5py", "hdf5plugin"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "remote": ("aiohttp", "s3fs"),
    "xrootd": ("fsspec-xrootd", "xrootd"),
    "cluster": ("distributed",),
    "flows": ("zuko",),
    "weak": ("zuko", "pybumphunter", "pot"),
}
LEAST_DISK = 1e9  # bytes; a quickstart leaves about 50 MB


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _try(device: str) -> "list[Trial]":
    with loading():
        from jettag.runs.device_check import check_device

    return list(check_device(device, on_begin=lambda what: say(f"doctor: {what}")))


def _trial_json(trial: "Trial") -> dict[str, Any]:
    return {**trial.__dict__, "seconds": round(trial.seconds, 1), "passed": trial.passed}


def _way(trial: "Trial") -> str:
    return f"{trial.recipe}, {trial.precision}{', compiled' if trial.compiled else ''}"


def _verdict(trial: "Trial") -> str:
    if trial.difference is None:
        return f"FAILED: {trial.problem}"
    if trial.passed:
        return f"losses as on the cpu, to {trial.difference:.1g} ({trial.seconds:.0f} s)"
    return f"LOSSES OTHER than on the cpu, by {trial.difference:.1g} where rounding may make {trial.most:g}"


@boundary
def doctor(
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda or mps: also train on it, and compare with the CPU.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check packages, devices, memory and disk; exit 7 if something needed is missing.

    With --device a small network takes its first steps there and on the CPU, in every precision that it has and with
    compiled blocks; exit 7 if they differ. It takes minutes, and reads and leaves nothing.

    Example: jettag doctor --device cuda
    """
    with loading():
        import torch

        from jettag.training.devices import has_fast_bf16

    packages = {name: _version(name) for name in (*CORE, *(name for names in EXTRAS.values() for name in names))}
    absent = {extra: [name for name in names if packages[name] is None] for extra, names in EXTRAS.items()}
    missing = [name for name in CORE if packages[name] is None]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = shutil.disk_usage(Path.cwd()).free
    devices = [f"cpu ({os.cpu_count()} cores, torch uses {torch.get_num_threads()})"]
    bf16 = has_fast_bf16(torch.device("cpu"))
    devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    trials = _try(device) if device is not None else []
    if as_json:
        emit_json(
            {
                "schema": 1,
                "jettag": __version__,
                "python": platform.python_version(),
                "packages": packages,
                "extras": {extra: not names for extra, names in absent.items()},
                "devices": devices,
                "cpu_bf16": bf16,
                "memory_bytes": memory,
                "disk_free_bytes": disk,
                "missing": missing,
                "trials": [_trial_json(trial) for trial in trials],
            }
        )
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_row("jettag", __version__)
        table.add_row("python", f"{platform.python_version()} on {platform.platform()}")
        for name in CORE:
            table.add_row(name, packages[name] or "MISSING")
        for extra, names in EXTRAS.items():
            found = ", ".join(f"{name} {packages[name]}" for name in names if packages[name])
            hint = f"without {', '.join(absent[extra])}: pip install 'jettag[{extra}]'" if absent[extra] else ""
            table.add_row(Text(f"[{extra}]"), Text("; ".join(part for part in (found, hint) if part)))
        table.add_row("devices", ", ".join(devices))
        if bf16:
            table.add_row("", "the cpu has bf16: --set training.precision=bf16 trains large networks faster")
        table.add_row("memory", f"{memory / 1e9:.1f} GB")
        table.add_row("disk free here", f"{disk / 1e9:.1f} GB")
        if trials:
            table.add_row(Text(f"training on {device}"), "")
        for trial in trials:
            table.add_row(Text(f"  {_way(trial)}"), Text(_verdict(trial)))
        out.print(table)
    if missing:
        raise ResourceError(f"missing packages: {', '.join(missing)}", do="pip install jettag")
    if disk < LEAST_DISK:
        raise ResourceError(f"{disk / 1e9:.1f} GB of disk free", where=Path.cwd(), do="free at least 1 GB")
    if failed := [trial for trial in trials if not trial.passed]:
        what = f"{len(failed)} of {len(trials)} trainings fail, first {_way(failed[0])}: {_verdict(failed[0])}"
        raise ResourceError(what, where=f"training on {device}", do="do without, or use --device cpu, and report it")
