"""``plots/training.png`` and ``.pdf`` of a run directory: its ``metrics.jsonl`` at a glance."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jettag.errors import JettagError
from jettag.training.checkpoint import pointed_step

__all__ = ["draw_training_picture"]


def draw_training_picture(run: Path, note: Callable[[str], None]) -> None:
    """Draw all that ``metrics.jsonl`` holds; each file is whole or as it was before.

    No training fails for want of a picture: whatever goes wrong is one note. Matplotlib is imported here and not
    before, so that it need not even be there.

    Raises:
        Stopped: a signal came meanwhile.
    """
    try:
        records = _records(run / "metrics.jsonl")
        if not records:
            return
        from jettag.evaluation.plots import save
        from jettag.evaluation.training_curves import draw_training

        figure = draw_training(records, name=run.resolve().name, best=pointed_step(run, "best"))
        save(figure, run / "plots" / "training")
    except JettagError:
        raise
    except Exception as error:  # noqa: BLE001 - a library that is absent or broken, a full disk: the training is done
        what = " ".join(str(error).split()) or "no reason given"
        note(f"warning: no picture of the training in {run / 'plots'} ({type(error).__name__}: {what})")


def _records(metrics: Path) -> list[dict[str, Any]]:
    """Every whole line; one cut short by a kill is left out."""
    found = []
    for line in metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
