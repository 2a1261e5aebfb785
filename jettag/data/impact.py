"""Impact parameters with their signs turned, or dealt to other tracks: what a flavour tagger must notice."""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from jettag.data.features import Feature, feature_set
from jettag.data.jets import JetTable
from jettag.errors import UsageError, nearest

__all__ = ["Impact", "as_impact", "change_impact"]

Impact = Literal["kept", "negated", "shuffled"]
SIGNED = frozenset({"d0", "dz"})
ERRORS = frozenset({"d0_error", "dz_error"})
HITS = frozenset({"n_pixel_hits", "n_innermost_hits", "n_strip_hits", "n_shared_hits"})  # fewer, the later the decay
DEALT = SIGNED | ERRORS | HITS
CHARGE = "part_charge"


def as_impact(text: str) -> Impact:
    """``text`` as one of the ways.

    Raises:
        UsageError: it is none.
    """
    known: tuple[Impact, ...] = get_args(Impact)
    for way in known:
        if way == text:
            return way
    raise UsageError(f"--impact {text} is unknown", do=nearest(text, known))


def _negated(feature: Feature, values: np.ndarray) -> np.ndarray:
    """The feature of -d0 and -dz, of which it is an odd function before it is standardised."""
    if feature.standardise is None:
        return -values
    subtract, multiply, lowest, highest = feature.standardise
    return np.clip(-values - 2 * subtract * multiply, lowest, highest)


def change_impact(table: JetTable, features: str, how: Impact, *, seed: int = 0) -> JetTable:
    """The same jets with other impact parameters.

    Args:
        table: with the features of the set.
        features: name of the set.
        how: ``negated`` turns the sign of d0 and dz of every track, and with it that of every lifetime sign;
            ``shuffled`` deals the impact parameters of all tracks, with their errors, lifetime signs and hits, to all
            tracks at random, so that only kinematics and multiplicity are left.
        seed: of the shuffle.

    Raises:
        UsageError: a set without impact parameters.
    """
    if how == "kept":
        return table
    known = list(enumerate(feature_set(features).features))
    signed = [(column, feature) for column, feature in known if SIGNED & set(feature.fields)]
    if not signed:
        raise UsageError(
            f"feature set {features} has no impact parameters", do="use a run with jetclass_full, flavour or gn2"
        )
    changed = table.features.copy()
    others = dict(table.constituent)
    if how == "negated":
        for column, feature in signed:
            changed[:, column] = _negated(feature, changed[:, column])
        others |= {name: -values for name, values in others.items() if name in SIGNED}
    else:
        names = list(table.feature_names)
        is_track = table.features[:, names.index(CHARGE)] != 0 if CHARGE in names else np.ones(len(changed), bool)
        tracks = np.flatnonzero(is_track)
        dealt = np.random.default_rng(seed).permutation(tracks)
        columns = [column for column, feature in known if DEALT & set(feature.fields)]
        for column in columns:
            changed[tracks, column] = table.features[dealt, column]
        for name in DEALT & others.keys():
            values = others[name].copy()
            values[tracks] = others[name][dealt]
            others[name] = values
    return replace(table, features=changed, constituent=others)
