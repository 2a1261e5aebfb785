"""Feature sets in words that another program can follow: from the branches of a file to the network's inputs.

Formulas are expressions of NumPy (`log`, `tanh`, `where`, ...) in the names of other columns;
tests/data/test_formulas.py holds them against the functions that jettag itself computes with.
"""

from typing import Any

from jettag.data.card import DataCard
from jettag.data.features import FeatureSet

__all__ = ["describe_columns", "describe_features"]

SUMMED = "of the jet; of the sum of its constituents where the file has none"
# What each column is, with its unit, and the formula that gives it where the file has no branch for it.
COLUMNS: dict[str, tuple[str, str]] = {
    "px": ("GeV", "pt * cos(phi)"),
    "py": ("GeV", "pt * sin(phi)"),
    "pz": ("GeV", "pt * sinh(eta)"),
    "pt": ("GeV", "sqrt(px**2 + py**2)"),
    "eta": ("pseudorapidity", "arcsinh(pz / pt)"),
    "phi": ("rad", "arctan2(py, px)"),
    "mass": ("GeV", ""),
    "energy": ("GeV", "sqrt(pt**2 + pz**2 + mass**2)"),
    "jet_pt": (f"GeV, {SUMMED}", ""),
    "jet_eta": (f"pseudorapidity, {SUMMED}", ""),
    "jet_phi": (f"rad, {SUMMED}", ""),
    "jet_energy": (f"GeV, {SUMMED}", ""),
    "deta": ("from the jet axis, times the sign of the jet's eta", "(eta - jet_eta) * where(jet_eta < 0, -1, 1)"),
    "dphi": ("rad, from the jet axis, in [-pi, pi)", "(phi - jet_phi + pi) % (2 * pi) - pi"),
    "d0": ("mm, -x sin(phi) + y cos(phi): the sign of ATLAS and CMS", ""),
    "d0_error": ("mm", ""),
    "dz": ("mm", ""),
    "dz_error": ("mm", ""),
    "charge": ("in units of the positron's", ""),
    **dict.fromkeys(("n_pixel_hits", "n_innermost_hits", "n_strip_hits", "n_shared_hits"), ("hits of the track", "")),
    **dict.fromkeys(("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon"), ("1 or 0", "")),
}
OF_JET = "jet_"  # in front of the names of jet columns


def describe_features(features: FeatureSet) -> list[dict[str, Any]]:
    """``name`` and ``formula`` of each feature, and ``subtract, multiply, lowest, highest`` where it is scaled.

    The input is then clip((x - subtract) * multiply, lowest, highest).
    """
    found = []
    for feature in features.features:
        entry: dict[str, Any] = {"name": feature.name, "formula": feature.expression}
        if feature.standardise is not None:
            entry |= dict(zip(("subtract", "multiply", "lowest", "highest"), feature.standardise, strict=True))
        found.append(entry)
    return found


def describe_columns(features: FeatureSet, card: DataCard) -> dict[str, dict[str, Any]]:
    """What the names in the formulas are: ``is``, and ``branches`` times ``factor`` or a ``formula``, or both.

    Where both stand, the formula is for files without the branch.

    Args:
        features: whose formulas.
        card: where the branches stand.
    """
    momentum = [name for name in COLUMNS if not name.startswith(OF_JET) and name not in _others()]
    jet = [name for name in COLUMNS if name.startswith(OF_JET)]
    found = {}
    for name in (*momentum, *jet, *features.fields):
        what, formula = COLUMNS[name]
        entry: dict[str, Any] = {"is": what}
        column = card.column("jet", name.removeprefix(OF_JET)) if name in jet else card.column("constituents", name)
        if column is not None:
            by_jet_eta = column.sign == "jet_eta"
            sign = 1 if column.sign == "jet_eta" else column.sign
            entry["branches"] = list(column.branches)
            entry["factor"] = sign * card.factor(name.removeprefix(OF_JET), column)
            if by_jet_eta:
                entry["times"] = "where(jet_eta < 0, -1, 1)"
        if formula and (column is None or name in ("deta", "dphi")):
            entry["formula"] = formula
        if len(entry) > 1 or name in jet:
            found[name] = entry
    return found


def _others() -> set[str]:
    """Columns that are no part of a momentum."""
    names = list(COLUMNS)
    return set(names[names.index("deta") :])
