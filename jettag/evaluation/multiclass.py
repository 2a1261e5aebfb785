"""Taggers of many classes as a whole: accuracy, mean AUC of pairs, and which class is taken for which.

These are the numbers in which results on JetClass are given (arXiv:2202.03772, table 1).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.evaluation.metrics import CONFIDENCE, accuracy, auc, clopper_pearson
from jettag.evaluation.scores import Scores

__all__ = ["MANY", "confusion", "judge_classes"]

MANY = 3  # classes, from which on pairs do not say everything


def confusion(true: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """(C, C) counts by true (rows) and predicted (columns) class; what has no true one, a negative, is left out."""
    known = true >= 0
    counts = np.bincount(classes * true[known] + predicted[known], minlength=classes * classes)
    return counts.reshape(classes, classes)


def judge_classes(scores: Scores) -> dict[str, Any]:
    """What `eval --json` says of a run with three classes or more, under ``multiclass``.

    Returns:
        ``run``, ``n_jets``, ``classes``; ``accuracy`` of the largest probability with its 68 % interval
        ``accuracy_low``, ``accuracy_high``; ``auc_ovo``, the mean over all ordered pairs of classes that have jets of
        the AUC of p_i between their jets (Hand and Till), None where fewer than two have any; ``recall`` of each class
        by name, None without jets; ``confusion``, rows are true classes.
    """
    names, table, label = scores.class_names, scores.probabilities, scores.label
    matrix = confusion(label, table.argmax(axis=1), len(names))
    present = [place for place, count in enumerate(scores.counts.values()) if count]
    pairs = [auc(table[label == i, i], table[label == j, i]) for i in present for j in present if i != j]
    share = accuracy(table, label)
    low, high = clopper_pearson(round(share * len(label)), len(label), CONFIDENCE)
    totals = matrix.sum(axis=1)
    return {
        "run": scores.run,
        "n_jets": len(label),
        "classes": list(names),
        "accuracy": share,
        "accuracy_low": float(low),
        "accuracy_high": float(high),
        "auc_ovo": float(np.mean(pairs)) if pairs else None,
        "recall": {name: int(matrix[k, k]) / int(totals[k]) if totals[k] else None for k, name in enumerate(names)},
        "confusion": matrix.tolist(),
    }
