"""jettag doctor: can this machine do it?"""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from rich.table import Table
from rich.text import Text

from jettag import __version__
from jettag.errors import ResourceError

from .console import JsonOption, boundary, emit_json, out
from .entry import loading

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


@boundary
def doctor(as_json: JsonOption = False) -> None:
    """Check packages, devices, memory and disk; exit 7 if something needed is missing.

    Example: jettag doctor
    """
    with loading():
        import torch

        from jettag.run import has_fast_bf16

    packages = {name: _version(name) for name in (*CORE, *(name for names in EXTRAS.values() for name in names))}
    absent = {extra: [name for name in names if packages[name] is None] for extra, names in EXTRAS.items()}
    missing = [name for name in CORE if packages[name] is None]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = shutil.disk_usage(Path.cwd()).free
    devices = [f"cpu ({os.cpu_count()} cores, torch uses {torch.get_num_threads()})"]
    bf16 = has_fast_bf16(torch.device("cpu"))
    devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
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
        out.print(table)
    if missing:
        raise ResourceError(f"missing packages: {', '.join(missing)}", do="pip install jettag")
    if disk < LEAST_DISK:
        raise ResourceError(f"{disk / 1e9:.1f} GB of disk free", where=Path.cwd(), do="free at least 1 GB")
