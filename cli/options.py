"""Options that several commands share, and the reports of a training."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jettag.errors import UsageError

from .console import is_first, progress, say, writes_in

if TYPE_CHECKING:
    from jettag.runs.common import Told

__all__ = [
    "Card",
    "Data",
    "Device",
    "MaxSteps",
    "MaxTime",
    "Overrides",
    "Overwrite",
    "Patience",
    "Precision",
    "Resume",
    "Val",
    "patience_override",
    "refuse_existing",
    "refuse_file",
    "run_folder",
    "seconds",
    "training_report",
]

Data = Annotated[list[str], typer.Option("--data", help="Files, addresses, globs, CLASS:GLOB, or prepared folders.")]
Val = Annotated[list[str] | None, typer.Option("--val", help="Files or globs for the validation loss.")]
Card = Annotated[str | None, typer.Option("--card", help="Data card: a name from `jettag ls cards`, or a path.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="key.sub=value, over the recipe; repeatable.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Precision = Annotated[Literal["fp32", "bf16"], typer.Option("--precision", help="bf16 is faster, and less exact.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file; without it, refuse.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint, if it has one.")]
MaxTime = Annotated[str | None, typer.Option("--max-time", help="End the training in time, e.g. 15m, 2h, 90s.")]
MaxSteps = Annotated[int | None, typer.Option("--max-steps", min=1, help="End the training after this many steps.")]
Patience = Annotated[
    int | None, typer.Option("--patience", min=1, help="End after so many validations without a lower loss.")
]

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str | None, option: str = "--max-time") -> float:
    """Seconds of a duration such as ``90s``, ``15m``, ``1h30m`` that came by an option; infinity for None.

    Raises:
        UsageError: it cannot be read.
    """
    if text is None:
        return float("inf")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"{option} {text!r} is no duration", do="write it as 90s, 15m or 1h30m")
    total = sum(float(number) * UNITS[unit] for number, unit in parts)
    if total <= 0:
        raise UsageError(f"{option} {text!r} leaves no time")
    return total


def patience_override(patience: int | None) -> list[str]:
    """``--patience`` is the recipe's key, so that the run's recipe tells of it."""
    return [] if patience is None else [f"training.patience={patience}"]


@contextmanager
def training_report(what: str) -> Iterator["Told"]:
    """Show notes as lines and the log as a progress bar in per cent of the run."""
    from jettag.runs.common import Told

    if not is_first():
        yield Told()
        return
    with progress(what, 100, unit="%") as update:
        latest: dict[str, Any] = {}

        def log(record: dict[str, Any]) -> None:
            latest.update(record)
            shown = {"loss": "loss", "val_loss": "val", "val_accuracy": "acc", "probe_auc": "probe AUC"}
            shown |= {"val_codes_used": "codes used", "val_code_perplexity": "perplexity"}
            parts = [f"{label} {latest[key]:.3f}" for key, label in shown.items() if key in latest]
            if latest.get("jets") and latest["seconds"]:
                parts.append(f"{latest['jets'] / latest['seconds']:.0f} jets/s")
            update(100 * record["progress"], note=", ".join(parts))

        yield Told(log=log, note=lambda text: say(f"{what}: {text}"))


def refuse_file(target: Path | None) -> None:
    """See that ``--out``, which shall be a folder, is no file; the traceback of a defect is kept there.

    Raises:
        UsageError: it is one.
    """
    if target is not None and target.exists() and not target.is_dir():
        raise UsageError("expected a folder, found a file", where=f"--out {target}", do="name a folder")
    writes_in(target)


def refuse_existing(target: Path, overwrite: bool) -> None:
    """See that the file of ``--out`` is not there yet, before anything is read.

    Raises:
        UsageError: it is, and nobody asked to ``--overwrite`` it; or it is a folder.
    """
    if target.is_dir():
        raise UsageError("expected a file, found a folder", where=f"--out {target}", do="name a file")
    if target.exists() and not overwrite:
        do = "add --overwrite to replace it, or choose another --out"
        raise UsageError("the file exists already", where=target, do=do)


def run_folder(path: Path | None, default: str, *, resume: bool = False) -> Path:
    """``path``, or of ``runs/default``, ``runs/default-2``, ... the first that does not exist, to ``resume`` the last.

    The traceback of a defect is kept there.
    """
    known = [Path("runs") / default]
    while known[-1].exists():
        known.append(known[0].with_name(f"{default}-{len(known) + 1}"))
    folder = path or known[-2 if resume and len(known) > 1 else -1]
    writes_in(folder)
    return folder
