"""jettag weak closure: do two sets of files hold the same jets, as far as their features tell?"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.data.jet_columns import read_jet_columns
from jettag.weak.checks import check_features
from jettag.weak.closure import classifier_test, frechet_distance, kernel_distance
from jettag.weak.features import columns_of, feature_matrix

__all__ = ["closure"]

ANY = "any"  # the class of every jet: none is asked for


def closure(
    first: Sequence[str], second: Sequence[str], features: Sequence[str], *, card: str, folds: int = 5, seed: int = 0
) -> dict[str, Any]:
    """The object of `weak closure --json`: classifier two-sample test, Fréchet and kernel physics distance.

    Args:
        first: files; the features are standardised with these.
        second: files.
        features: jet-level.
        card: name or path of the data card.
        folds: of the classifier.
        seed: of everything drawn.

    Raises:
        DataError: a file lacks a feature, one is NaN, or there are too few jets.
    """
    unlabelled = load_card(card).model_copy(update={"labels": None})
    samples = []
    for patterns in (first, second):
        read = read_jet_columns(expand_inputs(patterns), unlabelled, columns_of(features), (ANY,), default=ANY)
        samples.append(feature_matrix(read.values, features))
        check_features(samples[-1], tuple(features), where=patterns[0])
    test = classifier_test(*samples, folds=folds, seed=seed)
    frechet, kernel = (distance(*samples, seed=seed) for distance in (frechet_distance, kernel_distance))
    return {
        "schema": 1,
        "n_first": len(samples[0]),
        "n_second": len(samples[1]),
        "features": list(features),
        **{f"classifier_{key}": value for key, value in asdict(test).items()},
        "fpd": frechet[0],
        "fpd_error": frechet[1],
        "kpd": kernel[0],
        "kpd_error": kernel[1],
    }
