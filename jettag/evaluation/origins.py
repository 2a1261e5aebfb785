"""Predicted against true track origins: confusion matrix, precision and recall."""

from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.config.origins import ORIGINS
from jettag.evaluation.multiclass import confusion

__all__ = ["origin_report"]


def origin_report(true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Counts, precision and recall of each origin by name, and the accuracy; None is for a share of none."""
    matrix = confusion(true, predicted, len(ORIGINS))
    right, of_true, of_predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)

    def share(part: int, whole: int) -> float | None:
        return int(part) / int(whole) if whole else None

    known = [share(r, t) for r, t in zip(right, of_true, strict=True) if t]
    return {
        "classes": list(ORIGINS),
        "confusion": matrix.tolist(),
        "recall": {name: share(right[k], of_true[k]) for k, name in enumerate(ORIGINS)},
        "precision": {name: share(right[k], of_predicted[k]) for k, name in enumerate(ORIGINS)},
        "accuracy": share(right.sum(), matrix.sum()),
        "balanced_accuracy": sum(value or 0.0 for value in known) / len(known) if known else None,
        "tracks": int(matrix.sum()),
    }
