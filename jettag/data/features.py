"""Named sets of constituent features, with the published order and standardisation constants.

``jetclass_kin`` (7), ``jetclass_kinpid`` (13) and ``jetclass_full`` (17) are what Particle Transformer's data
configurations JetClass_kin, _kinpid and _full (arXiv:2202.03772, repository jet-universe/particle_transformer) compute,
so weights trained with weaver see the numbers they were trained on. The constants 1.7, 2.0, -4.7, 0.2 and 0.7, 4.0
bring JetClass's distributions near zero mean and unit width; the paper gives them without derivation.

``jetclass_full_500`` is the same with every jet scaled to pT 500 GeV, as Sophon (arXiv:2405.12972) does: networks that
were trained on jets of 500 to 1000 GeV then see small jets of 20 to 250 GeV in the range they know.

``flavour`` adds to ``jetclass_full`` what ATLAS's flavour taggers read of tracks (GN2, arXiv:2505.19689): the lifetime
signs of the impact parameters, positive where the track crosses the jet axis in front of the collision as a decay in
flight makes it. In the sign of d0 alone that is a product of two inputs, which short trainings do not find. ``gn2``
adds hits to that. Sets of flavour whose names end in ``_500`` scale the jets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.errors import RecipeError, nearest

__all__ = ["FEATURE_SETS", "Feature", "FeatureSet", "feature_set"]

BLOCK = 16384  # constituents at a time, so that all columns of a block stay in the processor's cache
APART = 16  # numbers between rows: rows a power of two apart share cache sets and are turned 2.6 times slower

MOMENTA = ("px", "py", "pz", "energy", "pt", "jet_pt", "jet_energy")

Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Feature:
    """One number a constituent.

    Attributes:
        name: as in the published configuration.
        formula: from (M,) columns ``pt, energy, jet_pt, jet_energy, deta, dphi, d0, ...`` in GeV, mm, rad;
            ``jet_eta`` is a field too.
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


def _significance(value: npt.NDArray[Any], error: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """0 where there is no error, as for neutral constituents."""
    ratio: npt.NDArray[Any] = np.divide(value, error, out=np.zeros_like(value), where=error > 0)
    return ratio


def _side(jet_eta: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The sign by which deta was multiplied."""
    side: npt.NDArray[Any] = np.where(jet_eta < 0, -1.0, 1.0)
    return side


def _hits(field: str) -> Callable[[Columns], npt.NDArray[Any]]:
    """What stands where there is no track is no hit."""
    return lambda c: np.maximum(c[field], 0)


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
# sin(jet phi - phi) d0 > 0 and (jet eta - eta) z0 > 0: the lifetime signs of ATLAS. Significances have long tails, so
# arcsinh: 5 is a significance of 74.
LIFETIME = (
    Feature(
        "part_d0sig_lifetime",
        lambda c: np.arcsinh(_significance(c["d0"], c["d0_error"]) * -np.sign(np.sin(c["dphi"]))),
        (0, 1, -5, 5),
        fields=("d0", "d0_error", "dphi"),
        expression="arcsinh(-sign(sin(dphi)) * d0 / where(d0_error > 0, d0_error, inf))",
    ),
    Feature(
        "part_z0sig_lifetime",
        lambda c: np.arcsinh(_significance(c["dz"], c["dz_error"]) * -np.sign(c["deta"]) * _side(c["jet_eta"])),
        (0, 1, -5, 5),
        fields=("dz", "dz_error", "deta", "jet_eta"),
        expression="arcsinh(-sign(deta) * where(jet_eta < 0, -1, 1) * dz / where(dz_error > 0, dz_error, inf))",
    ),
    Feature(
        "part_z0sintheta",
        lambda c: np.tanh(c["dz"] * c["pt"] / np.hypot(c["pt"], c["pz"])),
        fields=("dz",),
        expression="tanh(dz * pt / sqrt(pt**2 + pz**2))",
    ),
    Feature(
        "part_qoverp",
        lambda c: c["charge"] / np.hypot(c["pt"], c["pz"]),
        (0, 2, -5, 5),
        fields=("charge",),
        expression="charge / sqrt(pt**2 + pz**2)",
    ),
    Feature("part_jet_abseta", lambda c: np.abs(c["jet_eta"]), (1, 1, -5, 5), ("jet_eta",), "abs(jet_eta)"),
)
HITS = tuple(
    Feature(name, _hits(field), standardise, (field,), f"maximum({field}, 0)")
    for name, field, standardise in (
        ("part_n_pixel_hits", "n_pixel_hits", (2, 0.5, -5, 5)),
        ("part_n_innermost_hits", "n_innermost_hits", (0, 1, -5, 5)),
        ("part_n_strip_hits", "n_strip_hits", (4, 0.25, -5, 5)),
        ("part_n_shared_hits", "n_shared_hits", (0, 1, -5, 5)),
    )
)
AXIS = (_stored("part_deta", "deta"), _stored("part_dphi", "dphi"))  # last in every published set

FULL = MOMENTUM + IDENTITY + DISPLACEMENT + AXIS

FEATURE_SETS: dict[str, FeatureSet] = {
    "jetclass_kin": FeatureSet("jetclass_kin", MOMENTUM + AXIS),
    "jetclass_kinpid": FeatureSet("jetclass_kinpid", MOMENTUM + IDENTITY + AXIS),
    "jetclass_full": FeatureSet("jetclass_full", FULL),
    "jetclass_full_500": FeatureSet("jetclass_full_500", FULL, jet_pt=500.0),
    "flavour": FeatureSet("flavour", FULL + LIFETIME),
    "flavour_500": FeatureSet("flavour_500", FULL + LIFETIME, jet_pt=500.0),
    "gn2": FeatureSet("gn2", FULL + LIFETIME + HITS),
    "gn2_500": FeatureSet("gn2_500", FULL + LIFETIME + HITS, jet_pt=500.0),
}


def feature_set(name: str) -> FeatureSet:
    """The set of a name.

    Raises:
        RecipeError: no such set.
    """
    if name not in FEATURE_SETS:
        raise RecipeError(f"no feature set named {name!r}", do=nearest(name, FEATURE_SETS))
    return FEATURE_SETS[name]
