"""Named sets of constituent features, with the published order and standardisation constants.

``jetclass_kin`` (7), ``jetclass_kinpid`` (13) and ``jetclass_full`` (17) are what Particle Transformer's data
configurations JetClass_kin, _kinpid and _full (arXiv:2202.03772, repository jet-universe/particle_transformer) compute,
so weights trained with weaver see the numbers they were trained on. The constants 1.7, 2.0, -4.7, 0.2 and 0.7, 4.0
bring JetClass's distributions near zero mean and unit width; the paper gives them without derivation.

``jetclass_full_500`` is the same with every jet scaled to pT 500 GeV, as Sophon (arXiv:2405.12972) does: networks that
were trained on jets of 500 to 1000 GeV then see small jets of 20 to 250 GeV in the range they know.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.errors import RecipeError, nearest

__all__ = ["FEATURE_SETS", "Feature", "FeatureSet", "feature_set"]

BLOCK = 8192  # constituents at a time, so that all columns of a block stay in the processor's cache
APART = 16  # numbers between rows: rows a power of two apart share cache sets and are turned 2.6 times slower

MOMENTA = ("px", "py", "pz", "energy", "pt", "jet_pt", "jet_energy")

Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Feature:
    """One number a constituent.

    Attributes:
        name: as in the published configuration.
        formula: from (M,) columns ``pt, energy, jet_pt, jet_energy, deta, dphi, d0, ...`` in GeV, mm, rad.
        standardise: (subtract, multiply, lowest, highest): clip((x - subtract) * multiply, lowest, highest), or None.
        fields: columns that the formula needs beyond the momentum and the jet's pt and energy.
        expression: the formula in words of NumPy, for programs without jettag.
    """

    name: str
    formula: Callable[[Columns], npt.NDArray[Any]]
    standardise: tuple[float, float, float, float] | None = None
    fields: tuple[str, ...] = ()
    expression: str = ""


@dataclass(frozen=True)
class FeatureSet:
    """Features in column order.

    Attributes:
        name: of the set.
        features: in column order.
        jet_pt: GeV to which every jet is scaled, its constituents with it; None leaves momenta alone.
    """

    name: str
    features: tuple[Feature, ...]
    jet_pt: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """F names in column order."""
        return tuple(feature.name for feature in self.features)

    @property
    def fields(self) -> tuple[str, ...]:
        """Constituent fields of a card that must be readable or derivable, beyond the momentum."""
        return tuple(dict.fromkeys(field for feature in self.features for field in feature.fields))

    def scaled(self, columns: Columns) -> Columns:
        """The columns with all momenta times ``jet_pt`` over the jet's own pT, directions as they are."""
        if self.jet_pt is None:
            return columns
        jet_pt = columns["jet_pt"]
        factor = np.divide(self.jet_pt, jet_pt, out=np.ones_like(jet_pt), where=jet_pt > 0)
        return {**columns, **{name: columns[name] * factor for name in MOMENTA if name in columns}}

    def __call__(self, columns: Columns, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """(M, F) float32 from (M,) columns, `scaled`: the set's fields, pt, energy, jet_pt and jet_energy (GeV).

        Args:
            columns: quantity to (M,) numbers.
            out: (M, F) to write into.
        """
        length = len(columns["pt"])
        result = np.empty((length, len(self.features)), dtype=np.float32) if out is None else out
        # One feature after the other in a small buffer, turned at once: half the time of writing column by column.
        buffer = np.empty((len(self.features), min(length, BLOCK) + APART), dtype=np.float32)
        for begin in range(0, length, BLOCK):
            rows = slice(begin, min(begin + BLOCK, length))
            block = {name: column[rows] for name, column in columns.items()}
            turned = buffer[:, : rows.stop - begin]
            for feature, values in zip(self.features, turned, strict=True):
                values[:] = feature.formula(block)
                if feature.standardise is not None:
                    subtract, multiply, lowest, highest = feature.standardise
                    if subtract:
                        values -= subtract
                    if multiply != 1:
                        values *= multiply
                    np.clip(values, lowest, highest, out=values)
            result[rows] = turned.T
        return result


def _stored(name: str, field: str, standardise: tuple[float, float, float, float] | None = None) -> Feature:
    return Feature(name, lambda c: c[field], standardise, (field,), field)


MOMENTUM = (
    Feature("part_pt_log", lambda c: np.log(c["pt"]), (1.7, 0.7, -5, 5), expression="log(pt)"),
    Feature("part_e_log", lambda c: np.log(c["energy"]), (2.0, 0.7, -5, 5), expression="log(energy)"),
    Feature(
        "part_logptrel",
        lambda c: np.log(c["pt"] / c["jet_pt"]),
        (-4.7, 0.7, -5, 5),
        expression="log(pt / jet_pt)",
    ),
    Feature(
        "part_logerel",
        lambda c: np.log(c["energy"] / c["jet_energy"]),
        (-4.7, 0.7, -5, 5),
        expression="log(energy / jet_energy)",
    ),
    Feature(
        "part_deltaR",
        lambda c: np.sqrt(c["deta"] ** 2 + c["dphi"] ** 2),
        (0.2, 4.0, -5, 5),
        fields=("deta", "dphi"),
        expression="sqrt(deta**2 + dphi**2)",
    ),
)
IDENTITY = (
    _stored("part_charge", "charge"),
    _stored("part_isChargedHadron", "is_charged_hadron"),
    _stored("part_isNeutralHadron", "is_neutral_hadron"),
    _stored("part_isPhoton", "is_photon"),
    _stored("part_isElectron", "is_electron"),
    _stored("part_isMuon", "is_muon"),
)
# The published sets were trained with JetClass's d0, whose sign is opposite to the ATLAS and CMS one used in jettag:
# the minus undoes the sign that the card applied.
DISPLACEMENT = (
    Feature("part_d0", lambda c: np.tanh(-c["d0"]), fields=("d0",), expression="tanh(-d0)"),
    _stored("part_d0err", "d0_error", (0, 1, 0, 1)),
    Feature("part_dz", lambda c: np.tanh(c["dz"]), fields=("dz",), expression="tanh(dz)"),
    _stored("part_dzerr", "dz_error", (0, 1, 0, 1)),
)
AXIS = (_stored("part_deta", "deta"), _stored("part_dphi", "dphi"))  # last in every published set

FEATURE_SETS: dict[str, FeatureSet] = {
    "jetclass_kin": FeatureSet("jetclass_kin", MOMENTUM + AXIS),
    "jetclass_kinpid": FeatureSet("jetclass_kinpid", MOMENTUM + IDENTITY + AXIS),
    "jetclass_full": FeatureSet("jetclass_full", MOMENTUM + IDENTITY + DISPLACEMENT + AXIS),
    "jetclass_full_500": FeatureSet("jetclass_full_500", MOMENTUM + IDENTITY + DISPLACEMENT + AXIS, jet_pt=500.0),
}


def feature_set(name: str) -> FeatureSet:
    """The set of a name.

    Raises:
        RecipeError: no such set.
    """
    if name not in FEATURE_SETS:
        raise RecipeError(f"no feature set named {name!r}", do=nearest(name, FEATURE_SETS))
    return FEATURE_SETS[name]
