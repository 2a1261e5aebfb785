"""What is chosen after training, on validation jets: the vertex threshold, the fractions of each discriminant, cuts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jettag.data.jets import JetTable, Table
from jettag.evaluation.discriminants import WORKING_POINTS, FractionScan, discriminant, scan_fractions
from jettag.evaluation.metrics import working_point
from jettag.runs.flavour_asking import Asked, ask, choose_threshold
from jettag.training import load_tagger
from jettag.training.run_directory import update_run

__all__ = ["SIGNALS", "store_choices"]

SIGNALS = ("b", "c")  # the classes that discriminants are made for, in schemes that have them
SIGNAL_EFFICIENCY = 0.7  # at which fractions are chosen


def store_choices(out: Path, table: Table, device: torch.device, note: Callable[[str], None]) -> dict[str, Any]:
    """Choose on the validation jets, and write the choices to ``run.json`` under ``flavour``; the facts of the run."""
    tagger = load_tagger(out)
    chosen: dict[str, Any] = {"chosen_on": len(table)}
    if isinstance(table, JetTable) and "vertex" in table.constituent:
        threshold, scores = choose_threshold(tagger, table, device)
        chosen |= {"vertex_threshold": threshold, "vertex_f1": round(max(scores), 4)}
        note(f"vertex threshold {threshold:g}, chosen on validation jets")
    asked = ask(tagger, table, device)
    assert table.label is not None  # trained with labels
    discriminants: dict[str, Any] = {}
    for name in _signals(tagger.class_names, table.label):
        scan = scan_fractions(asked.probabilities, table.label, tagger.class_names, (name,), SIGNAL_EFFICIENCY)
        discriminants[name] = _choice(scan, asked, table, tagger.class_names)
        shown = ", ".join(f"f_{key} {value:.3g}" for key, value in scan.chosen.items())
        note(f"D_{name}: {shown}, chosen on validation jets")
    chosen["discriminants"] = discriminants
    return update_run(out, flavour=chosen)


def _signals(names: tuple[str, ...], label: np.ndarray) -> list[str]:
    """The signals that have jets, in classes where there is a background with jets too."""
    present = {names[place] for place in np.unique(label)}
    return [name for name in SIGNALS if name in present and len(present) > 1]


def _choice(scan: FractionScan, asked: Asked, table: Table, names: tuple[str, ...]) -> dict[str, Any]:
    label = table.label
    assert label is not None
    score = discriminant(asked.probabilities, names, scan.signal, scan.chosen)
    own = score[label == names.index(scan.signal[0])]
    return {
        "fractions": scan.chosen,
        "scan": {
            "backgrounds": list(scan.backgrounds),
            "fractions": np.round(scan.fractions, 6).tolist(),
            "efficiencies": np.round(scan.efficiencies, 6).tolist(),
            "best": scan.best,
        },
        "signal_efficiency": scan.signal_efficiency,
        "cuts": {f"{efficiency:g}": working_point(own, efficiency).threshold for efficiency in WORKING_POINTS},
    }
