"""A loss that is not finite: which batch it was, and which of its jets."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jettag.config.files import write_atomically
from jettag.data.jets import Jets
from jettag.training.checkpoint import kept_steps, pointed_step

__all__ = ["Suspect", "blame", "suspects", "what_is_left"]

MOST = 3  # jets named in the one line; the file names all


class Suspect(NamedTuple):
    """A jet of the batch: its place there, whether its own numbers are finite, and where it is from."""

    place: int
    is_finite: bool
    row: dict[str, Any]


def suspects(
    jets: Jets,
    origin: Mapping[str, npt.NDArray[np.int64]],
    places: npt.NDArray[np.int64],
    files: Sequence[str],
) -> list[Suspect]:
    """What one process knows of its jets.

    Args:
        jets: its part of the batch.
        origin: of each, as `jettag.data.loader.Loader.origin` tells.
        places: of each in the batch.
        files: names behind the numbers in ``origin["file"]``.
    """
    finite = (jets.features.isfinite().flatten(1).all(1) & jets.p4.isfinite().flatten(1).all(1)).tolist()
    rows = [_row({key: int(column[i]) for key, column in origin.items()}, files) for i in range(len(jets))]
    return [Suspect(*told) for told in zip(places.tolist(), finite, rows, strict=True)]


def blame(run: Path | None, batch: Sequence[Suspect], *, step: int, **facts: Any) -> tuple[str, str]:
    """Say where the jets of a batch came from, in a few words and in full in ``run/bad_batch.json``.

    Args:
        run: the run directory, or None to write nothing.
        batch: the jets of all processes.
        step: that had the batch.
        facts: what else stands in the file.

    Returns:
        The jets whose own numbers are not finite, or the first of the batch; and what to do.
    """
    batch = sorted(batch, key=lambda suspect: suspect.place)
    bad = [suspect.row for suspect in batch if not suspect.is_finite]
    rows = [suspect.row for suspect in batch]
    if run is not None:
        content = {"step": step, **facts, "not_finite_jets": bad, "jets": rows}
        write_atomically(run / "bad_batch.json", json.dumps(content, indent=1, default=str) + "\n")
    chosen = bad or rows
    named = ", ".join(_words(row) for row in chosen[:MOST])
    more = f" and {len(chosen) - MOST} more" if len(chosen) > MOST else ""
    if bad:
        return f"jets that are not finite themselves: {named}{more}", f"repair those jets; {what_is_left(run)}"
    return f"finite jets: {named}{more}", f"start anew with a lower training.learning_rate; {what_is_left(run, step)}"


def what_is_left(run: Path | None, step: int | None = None) -> str:
    """Which checkpoint is still good; not the last, where its own weights gave what is not finite at ``step``."""
    last = None if run is None else pointed_step(run, "last")
    if run is None or last is None:
        return "no checkpoint was written yet"
    if step is None or last < step:
        return f"the checkpoint of step {last} is still good"
    before = [other for other in kept_steps(run) if other < last]
    left = f"that of step {before[-1]} is older" if before else "and there is no older one"
    return f"the checkpoint of step {last} gives it already, {left}"


def _row(numbers: dict[str, int], files: Sequence[str]) -> dict[str, Any]:
    named: dict[str, Any] = dict(numbers)
    if "file" in named:
        named["file"] = files[numbers["file"]] if numbers["file"] < len(files) else numbers["file"]
    return named


def _words(row: Mapping[str, Any]) -> str:
    if "entry" in row:
        return f"entry {row['entry']} of {row['file']}" if "file" in row else f"entry {row['entry']}"
    return " ".join(f"{key} {value}" for key, value in row.items())
