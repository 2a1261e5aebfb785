"""What a run leaves behind: its recipe, its card, where it came from, and a model card.

``recipe.yaml`` (resolved), ``card.yaml``, ``run.json``, ``metrics.jsonl``, ``checkpoints/``, ``README.md``, ``plots/``.
"""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from jettag import __version__
from jettag.config.files import write_atomically
from jettag.data.identity import identify
from jettag.data.inputs import InputFile
from jettag.data.network import shown
from jettag.data.opening import origin_of
from jettag.errors import CheckpointError, ResourceError, UsageError
from jettag.training.checkpoint import has_checkpoint

__all__ = [
    "BESIDE",
    "describe_inputs",
    "occupy",
    "open_run",
    "read_run",
    "refuse_another",
    "update_run",
    "write_model_card",
]

BESIDE = {".lock", "traceback.txt"}  # what a folder may hold in which nothing was begun

# Keys of a recipe that a resumed run may change. They say
FREE = {
    *("training.epochs", "training.max_steps", "training.patience"),  # when it ends,
    *("description", "training.keep_checkpoints"),  # what is kept of it,
    *("training.val_every", "training.log_every", "probe"),  # when it is looked at, which draws nothing at random,
    "training.parallel",  # where tensors lie (checkpoints hold whole ones),
    *("data.prefetch", "data.workers"),  # who prepares batches.
}


@contextmanager
def occupy(run: Path) -> Iterator[None]:
    """Hold the run directory for this process; a second one is refused.

    Raises:
        ResourceError: the directory cannot be written, or a live process holds it.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"cannot write ({error.strerror})", where=run, do="choose another --out") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise ResourceError(f"{holder} uses the run", where=run, do="wait, or choose another --out") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}")
        lock.flush()
        try:
            yield
        finally:
            # While it is held: a process that waits for this very file must not find another in its place.
            (run / ".lock").unlink(missing_ok=True)
            if not any(run.iterdir()):
                run.rmdir()


def open_run(run: Path, *, resume: bool) -> bool:
    """Decide whether to start or to go on; True means go on.

    A run that exists is never overwritten: without ``resume`` it is an error.

    Raises:
        UsageError: the directory holds a run, and nobody asked to resume it.
    """
    started = (run / "run.json").is_file()
    resumable = has_checkpoint(run)
    if resume:
        return resumable
    if started and resumable:
        raise UsageError("the directory holds a run already", where=run, do="add --resume, or choose another --out")
    return False


def describe_inputs(files: Sequence[InputFile], role: str = "train") -> list[dict[str, Any]]:
    """Path or address, size, checksum (`jettag.data.identity.Identity`) and role (train or val) of each input.

    Of an address also its ends and its tag, where the server gives them; of a prepared directory the split and the
    files behind it.
    """
    known = [{key: value for key, value in asdict(identify(file)).items() if value != ""} for file in files]
    for file, facts in zip(files, known, strict=True):
        if file.url is None:
            del facts["ends"]
    return [{**facts, **(origin_of(file, role) or {}), "role": role} for file, facts in zip(files, known, strict=True)]


def refuse_another(run: Path, recipe: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> None:
    """See that a resumed run is told what it was told when it began, but for what it may change (`FREE`).

    Args:
        run: the run directory.
        recipe: resolved, as it would be written.
        inputs: what `describe_inputs` says of the files given now.

    Raises:
        CheckpointError: another recipe or other files.
    """
    changed = _changed(yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8")), recipe)
    if changed:
        raise CheckpointError(
            f"the run was started with another recipe: {'; '.join(changed)}",
            where=run,
            do="resume with the same, or start anew in another --out",
        )
    before = {(item["sha256"], item["role"]) for item in read_run(run)["inputs"]}
    other = [item["path"] for item in inputs if (item["sha256"], item["role"]) not in before]
    if other or len(before) != len({(item["sha256"], item["role"]) for item in inputs}):
        what = f"file {other[0]} is not one of them" if other else "some are missing"
        raise CheckpointError(
            f"the run was started on other files: {what}", where=run, do="give the same --data, --val"
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """``key: old then, new now`` of every key that differs and is not `FREE`."""
    found: list[str] = []
    for key in {**before, **now}:
        name = f"{path}{key}"
        old, new = before.get(key), now.get(key)
        if name in FREE:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += _changed(old, new, f"{name}.")
        elif old != new:
            found.append(f"{name}: {old} then, {new} now")
    return found


def _commit() -> str | None:
    """The commit of the source tree jettag runs from, where there is one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def update_run(run: Path, *, begin: bool = False, **facts: Any) -> dict[str, Any]:
    """Add facts to ``run.json``; to ``begin`` writes a new one, with what is known of the machine and the code."""
    path = run / "run.json"
    if not begin:
        content = read_run(run)
    else:
        content = {
            "schema": 1,
            "version": __version__,
            "commit": _commit(),
            "command": ["jettag", *map(shown, sys.argv[1:])],
            "host": platform.node(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    content.update(facts)
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def read_run(run: Path) -> dict[str, Any]:
    """The facts in ``run.json``.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = run / "run.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise CheckpointError(f"expected keys and values, found {type(content).__name__}", where=path)
    except FileNotFoundError:
        raise CheckpointError(
            "no run.json", where=run, do="give the directory of a run; see `jettag ls runs`"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"unreadable ({error})", where=path) from None
    return content


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def write_model_card(run: Path, *, title: str, tags: Sequence[str], summary: Sequence[str]) -> dict[str, Any]:
    """``README.md`` with the front matter that model hubs read, and the facts of the run, which it returns."""
    facts = read_run(run)
    drawn = (run / "plots" / "training.png").is_file()
    lines = [
        "---",
        "library_name: jettag",
        "tags:",
        *(f"- {tag}" for tag in ("high-energy-physics", "jet-tagging", *tags)),
        "---",
        f"# {title}",
        "",
        *summary,
        "",
        "| fact | value |",
        "|---|---|",
        f"| command | `{' '.join(facts['command'])}` |",
        f"| jettag, torch | {facts['version']}, {facts['torch']} |",
        *([f"| mode | {facts['mode']} |"] if facts.get("mode") else []),
        *([f"| backbone from | `{facts['pretrained']}` |"] if facts.get("pretrained") else []),
        f"| seed | {facts.get('seed')} |",
        f"| parameters | {_count(facts.get('parameters'))} |",
        *(
            [f"| trained | {_count(facts['trainable_parameters'])} parameters; {facts['frozen']} |"]
            if facts.get("trainable_parameters")
            else []
        ),
        f"| training jets | {_count(facts.get('n_train'))} |",
        f"| features | {', '.join(facts.get('feature_names', []))} |",
        f"| classes | {', '.join(facts.get('class_names', [])) or 'none: trained without labels'} |",
        "",
        "`recipe.yaml` and `card.yaml` repeat the run; `metrics.jsonl` holds its losses.",
        "",
        *(["![Losses and what else was told, against the step](plots/training.png)", ""] if drawn else []),
    ]
    write_atomically(run / "README.md", "\n".join(lines))
    return facts
