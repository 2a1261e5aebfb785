"""Jet-level features by name: columns of the card and ratios of N-subjettiness."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from jettag.config.observables import RATIOS, columns_behind
from jettag.errors import UsageError

__all__ = ["DEFAULT_FEATURES", "columns_of", "feature_matrix", "with_noise"]

DEFAULT_FEATURES = ("mass", "sdmass", "tau21", "tau32", "nparticles")


def columns_of(features: Sequence[str]) -> tuple[str, ...]:
    """The columns to read, each once: those behind ratios in their place.

    Raises:
        UsageError: nothing is asked for, or a feature twice.
    """
    return columns_behind(_plain(features))


def feature_matrix(values: Mapping[str, npt.NDArray], features: Sequence[str]) -> npt.NDArray[np.float32]:
    """(J, F) features; a ratio whose denominator is zero (a jet of few constituents) is zero.

    Args:
        values: column name to (J,), or (J, D) which counts as D features.
        features: F names.
    """
    columns = []
    for name in _plain(features):
        if name in RATIOS:
            above, below = (values[column].astype(np.float32) for column in RATIOS[name])
            columns.append(np.divide(above, below, out=np.zeros_like(above), where=below != 0)[:, None])
        else:
            column = np.asarray(values[name], dtype=np.float32)
            columns.append(column if column.ndim == 2 else column[:, None])
    return np.concatenate(columns, axis=1)


def with_noise(features: npt.NDArray[np.float32], count: int, seed: Sequence[int]) -> npt.NDArray[np.float32]:
    """(J, F + count): columns of standard normal noise that tell nothing, to see what a classifier makes of them."""
    noise = np.random.default_rng(list(seed)).standard_normal((len(features), count), dtype=np.float32)
    return np.concatenate([features, noise], axis=1)


def _plain(features: Sequence[str]) -> tuple[str, ...]:
    """Names without the ``jet_`` of branches."""
    names = tuple(name.strip().removeprefix("jet_") for name in features if name.strip())
    if not names:
        raise UsageError("no feature", do=f"give --features, such as {','.join(DEFAULT_FEATURES)}")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"feature {twice[0]} stands twice in --features")
    return names
