"""A loss that is not finite: which batch it was, and which of its jets."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.config.files import write_atomically
from jettag.data.jets import Jets

__all__ = ["blame"]

MOST = 3  # jets named in the one line; the file names all


def blame(
    run: Path | None, jets: Jets, origin: Mapping[str, npt.NDArray[np.int64]], files: Sequence[str], **facts: Any
) -> str:
    """Say where the jets of a batch came from, in a few words and in full in ``run/bad_batch.json``.

    Args:
        run: the run directory, or None to write nothing.
        jets: the batch.
        origin: of each jet, as `jettag.data.loader.Loader.origin` tells.
        files: names behind the numbers in ``origin["file"]``.
        facts: what else stands in the file.

    Returns:
        The jets whose own numbers are not finite, or the first of the batch.
    """
    bad = ~(jets.features.isfinite().flatten(1).all(1) & jets.p4.isfinite().flatten(1).all(1)).numpy()
    rows = [_row({key: int(column[i]) for key, column in origin.items()}, files) for i in range(len(jets))]
    if run is not None:
        content = {**facts, "not_finite_jets": [rows[i] for i in np.flatnonzero(bad)], "jets": rows}
        write_atomically(run / "bad_batch.json", json.dumps(content, indent=1, default=str) + "\n")
    chosen = np.flatnonzero(bad) if bad.any() else np.arange(len(jets))
    named = ", ".join(_words(rows[i]) for i in chosen[:MOST])
    more = f" and {len(chosen) - MOST} more" if len(chosen) > MOST else ""
    what = "jets that are not finite themselves" if bad.any() else "finite jets"
    return f"{what}: {named}{more}"


def _row(numbers: dict[str, int], files: Sequence[str]) -> dict[str, Any]:
    named: dict[str, Any] = dict(numbers)
    if "file" in named:
        named["file"] = files[numbers["file"]] if numbers["file"] < len(files) else numbers["file"]
    return named


def _words(row: Mapping[str, Any]) -> str:
    if "entry" in row:
        return f"entry {row['entry']} of {row['file']}" if "file" in row else f"entry {row['entry']}"
    return " ".join(f"{key} {value}" for key, value in row.items())
