"""Checkpoints: whole or absent, checked on reading, never a pickle.

A run keeps ``checkpoints/step-XXXXXXXX/{model,ema,optimizer}.safetensors`` and ``state.json``, and the text files
``checkpoints/last`` and ``checkpoints/best`` that name one of them. Everything is written under another name, synced
and renamed; ``state.json`` holds the SHA-256 of its neighbours.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from jettag.config.files import sync, usual_permissions, write_atomically
from jettag.errors import CheckpointError, ResourceError

__all__ = [
    "Checkpoint",
    "has_checkpoint",
    "kept_steps",
    "load_checkpoint",
    "load_last_good",
    "load_model_state",
    "pack_optimizer",
    "point_to",
    "pointed_step",
    "resolve_checkpoint",
    "save_checkpoint",
    "unpack_optimizer",
]

POINTERS = ("best", "last")  # small files in ``checkpoints`` that name one of the folders beside them
OTHER = "use another step-XXXXXXXX folder of the run"
FORMAT = 1  # of state.json; another number means other names or another meaning


@dataclass
class Checkpoint:
    """Everything a run needs to go on; what is not here is rebuilt from the recipe.

    Attributes:
        step: optimizer updates done.
        model: parameters and buffers by name.
        ema: their moving average, or empty.
        optimizer: tensors of the optimizer and of the random generators.
        state: JSON-safe rest: loader position, best loss, settings, elapsed seconds.
    """

    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(run: Path, checkpoint: Checkpoint, *, keep: int, is_best: bool) -> Path:
    """Write a checkpoint, point ``last`` (and ``best``) to it, and drop the older ones beyond ``keep``.

    Raises:
        ResourceError: the disk refuses; what was there before is untouched.
    """
    folder = run / "checkpoints"
    name = f"step-{checkpoint.step:08d}"
    temporary = folder / f".{name}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        sums = {}
        for part in ("model", "ema", "optimizer"):
            tensors: dict[str, Tensor] = getattr(checkpoint, part)
            if tensors:
                path = temporary / f"{part}.safetensors"
                save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
                usual_permissions(path)
                sums[path.name] = _sha256(path)
                sync(path)
        state = {"format": FORMAT, "step": checkpoint.step, "sha256": sums, **checkpoint.state}
        write_atomically(temporary / "state.json", json.dumps(state, indent=1))
        if (folder / name).exists():
            shutil.rmtree(folder / name)
        temporary.replace(folder / name)
        sync(folder)
        point_to(run, "last", name)
        if is_best:
            point_to(run, "best", name)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise ResourceError(f"cannot save step {checkpoint.step} ({reason})", where=folder, do="free space") from None
    _prune(folder, keep, name)
    return folder / name


def point_to(run: Path, pointer: str, name: str) -> None:
    """Make ``checkpoints/last`` or ``checkpoints/best`` name a checkpoint."""
    write_atomically(run / "checkpoints" / pointer, name + "\n")


def pointed_step(run: Path, pointer: str) -> int | None:
    """The step of the checkpoint that ``last`` or ``best`` names, where there is one."""
    name = _pointed(run / "checkpoints", pointer)
    return int(name.removeprefix("step-")) if name.startswith("step-") else None


def kept_steps(run: Path) -> list[int]:
    """Steps of the checkpoints that are there, rising."""
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


def _prune(folder: Path, keep: int, newest: str) -> None:
    """Drop what a killed process left half-written, and all but ``keep`` of the checkpoints up to ``newest``."""
    pointed = {_pointed(folder, "last"), _pointed(folder, "best")}
    for torn in folder.glob(".*.tmp"):
        shutil.rmtree(torn, ignore_errors=True) if torn.is_dir() else torn.unlink(missing_ok=True)
    for old in sorted(path for path in folder.glob("step-*") if path.name <= newest)[:-keep]:
        if old.name not in pointed:
            shutil.rmtree(old, ignore_errors=True)


def _pointed(folder: Path, pointer: str) -> str:
    path = folder / pointer
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_checkpoint(place: Path, *, prefer: str = "best") -> Path:
    """The checkpoint folder behind a run directory or a checkpoint folder.

    Args:
        place: a run, one of its ``checkpoints/step-XXXXXXXX`` or a file of weights in it, or the pointer
            ``checkpoints/best`` or ``checkpoints/last``.
        prefer: the pointer to follow in a run; the other where it is missing.

    Raises:
        CheckpointError: there is none.
    """
    if place.is_file():
        named = place.parent / _pointed(place.parent, place.name) if place.name in POINTERS else place.parent
        if (named / "state.json").is_file():
            return named
    if (place / "state.json").is_file():
        return place
    folder = place / "checkpoints"
    for pointer in dict.fromkeys([prefer, *POINTERS]):
        name = _pointed(folder, pointer)
        if name and (folder / name / "state.json").is_file():
            return folder / name
    if not place.exists():
        raise CheckpointError("no such run", where=place, do="see `jettag ls runs`")
    raise CheckpointError(
        "no checkpoint found", where=place, do="give a run directory or a step-XXXXXXXX folder of one"
    )


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder and verify its checksums.

    Raises:
        CheckpointError: a part is missing, changed or no safetensors file.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if not isinstance(state, dict) or "settings" not in state:
            raise CheckpointError("state.json holds no settings", where=folder, do=OTHER)
        written = state.pop("format", None)
        if written != FORMAT:
            raise CheckpointError(f"checkpoint format {written}, this jettag reads {FORMAT}", where=folder)
        sums: Mapping[str, str] = state.pop("sha256")
        step = int(state.pop("step"))
        parts: dict[str, dict[str, Tensor]] = {}
        for name, expected in sums.items():
            path = folder / name
            if _sha256(path) != expected:
                raise CheckpointError("SHA-256 differs from the one saved: the file is damaged", where=path, do=OTHER)
            parts[path.stem] = load_file(path)
        return Checkpoint(step=step, state=state, **parts)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"unreadable ({error})", where=folder, do=OTHER) from None


def has_checkpoint(run: Path) -> bool:
    """Whether a run has anything to go on from, whole or not."""
    return any(run.glob("checkpoints/step-*/state.json"))


def load_last_good(run: Path, warn: Callable[[str], None]) -> Checkpoint:
    """The last checkpoint of a run; where it is damaged, the newest one that is whole, with one warning naming both.

    Raises:
        CheckpointError: none is whole; the reason is that of the last one.
    """
    folder = run / "checkpoints"
    newest_first = sorted((path.name for path in folder.glob("step-*")), reverse=True)
    names = dict.fromkeys([name for name in [_pointed(folder, "last")] if name] + newest_first)
    first: CheckpointError | None = None
    for name in names:
        try:
            checkpoint = load_checkpoint(folder / name)
        except CheckpointError as error:
            first = first or error
        else:
            if first is not None:
                warn(f"the last checkpoint is damaged ({first.what} in {first.where}): going on from {folder / name}")
            return checkpoint
    raise first or CheckpointError("no checkpoint found", where=run, do="start the run again without --resume")


def load_model_state(place: Path) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """Averaged weights where the run kept them, else the plain ones; with the state and the folder they came from."""
    folder = resolve_checkpoint(place)
    checkpoint = load_checkpoint(folder)
    return checkpoint.ema or checkpoint.model, checkpoint.state, folder


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Optimizer state as named tensors and a JSON-safe rest."""
    content = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in content["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    return tensors, {"plain": plain, "groups": content["param_groups"]}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    rest: Mapping[str, Any],
    fit: Callable[[Tensor, Tensor], Tensor] = lambda value, _: value,
) -> None:
    """Restore what `pack_optimizer` returned, but not by which kernels a step is computed.

    ``fit`` brings a tensor of a parameter's state to that parameter.
    """
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in rest["plain"].items()}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = fit(value, own[int(index)])
    kernels = [{key: group[key] for key in ("fused", "foreach") if key in group} for group in optimizer.param_groups]
    groups = [written | own_kernels for written, own_kernels in zip(rest["groups"], kernels, strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
