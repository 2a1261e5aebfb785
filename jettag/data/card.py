"""Data cards: which branch holds what, in which unit and with which sign, and where the class of a jet stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from jettag.config import Section, find, read_yaml, validate
from jettag.config.origins import ORIGINS
from jettag.errors import CardError

__all__ = [
    "Column",
    "ColumnOfCard",
    "Constituents",
    "DataCard",
    "Join",
    "Labels",
    "OneHotLabels",
    "Units",
    "ValueLabels",
    "load_card",
]

# Factor into GeV, mm and rad.
MOMENTUM = {"GeV": 1.0, "MeV": 1e-3}
LENGTH = {"mm": 1.0, "cm": 10.0, "um": 1e-3}
ANGLE = {"rad": 1.0, "deg": 0.017453292519943295}
QUANTITIES = {"momentum": MOMENTUM, "length": LENGTH, "angle": ANGLE}

# What a field measures; everything else on a card is a plain number.
MEASURES = {
    **dict.fromkeys(("px", "py", "pz", "energy", "pt", "mass", "sdmass"), "momentum"),
    **dict.fromkeys(("truth_pt", "truth_energy", "truth_mass", "hadron_pt", "hadron_mass"), "momentum"),
    **dict.fromkeys(("d0", "d0_error", "dz", "dz_error", "hadron_lxy", "hadron_flight"), "length"),
    **dict.fromkeys(("phi", "dphi", "truth_phi"), "angle"),
}
CARTESIAN = frozenset({"px", "py", "pz", "energy"})


def _column(value: object) -> object:
    """A branch name, or several of which a file has one, may stand for a whole column."""
    return {"branch": value} if isinstance(value, str | list) else value


class ColumnOfCard(Section):
    """One quantity of the file."""

    branch: str | tuple[str, ...] = Field((), description="name of the branch, or names of which a file has one")
    value: float | None = Field(None, description="instead of a branch: the same number for every constituent")
    unit: Literal["GeV", "MeV", "mm", "cm", "um", "rad", "deg"] | None = Field(
        None, description="unit of this branch where it is not the card's"
    )
    sign: Literal[1, -1, "jet_eta"] = Field(
        1, description="factor into jettag's convention; jet_eta multiplies by the sign of the jet's eta"
    )
    to_jet: Literal["difference", "ratio"] | None = Field(
        None, description="stored relative to the jet: eta and phi as difference, pt as ratio"
    )
    apply: Literal["sign", "over_sin_theta"] | None = Field(
        None, description="take the sign (charge from q/p), or divide by sin(theta) (z0 from z0 sin(theta))"
    )
    equals: tuple[int, ...] | None = Field(None, description="1 where the branch has one of these values, else 0")
    names: tuple[str, ...] | None = Field(
        None, description="of origins: what the stored 0, 1, 2, ... are called; negative ones have no truth"
    )
    missing: float | None = Field(None, description="stored where there is no track; becomes 0")

    @property
    def branches(self) -> tuple[str, ...]:
        """The names that this quantity may have in a file, first choice first."""
        return (self.branch,) if isinstance(self.branch, str) else self.branch


Column = Annotated[ColumnOfCard, BeforeValidator(_column)]


class Join(Section):
    """How a tree of events becomes jets with their candidates: by index tables, or by distance.

    Branches that begin with ``jets`` belong to the jets, those that begin with ``candidates`` to the candidates; flat
    branches are the event's and repeated for each of its jets.
    """

    jets: str = Field(min_length=1, description="beginning of the jets' branches, as Jet_")
    candidates: str | tuple[str, ...] = Field(description="beginning of the candidates' branches, as PFCands_")
    jet_index: str | tuple[str, ...] | None = Field(None, description="for each link the jet in its event")
    candidate_index: str | tuple[str, ...] | None = Field(None, description="for each link the candidate in its event")
    cone: float | None = Field(None, gt=0, description="instead of links: each candidate to the nearest jet within it")
    eta: str = Field("eta", description="for a cone: how the names of pseudorapidities end")
    phi: str = Field("phi", description="for a cone: how the names of azimuths end")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.cone is None) != bool(self.jet_index and self.candidate_index):
            msg = "needs jet_index and candidate_index, or cone"
            raise ValueError(msg)
        return self


class Units(Section):
    """Units of every branch that does not name its own."""

    momentum: Literal["GeV", "MeV"] = "GeV"
    length: Literal["mm", "cm", "um"] = "mm"
    angle: Literal["rad", "deg"] = "rad"


class Constituents(Section):
    """Jagged branches, one entry a constituent.

    The momentum is (px, py, pz, energy) or (pt, eta, phi) with energy or mass. ``deta`` is (eta - jet eta) times the
    sign of the jet's eta, ``dphi`` is phi - jet phi in [-pi, pi): the published preprocessing of JetClass and of Top
    Landscape stores both, so they are read where a file has them and derived where it has not. ``d0`` has the ATLAS
    and CMS sign, -x sin(phi) + y cos(phi) at the beam line's origin.
    """

    px: Column | None = None
    py: Column | None = None
    pz: Column | None = None
    energy: Column | None = None
    pt: Column | None = None
    eta: Column | None = None
    phi: Column | None = None
    mass: Column | None = None
    deta: Column | None = None
    dphi: Column | None = None
    d0: Column | None = None
    d0_error: Column | None = None
    dz: Column | None = None
    dz_error: Column | None = None
    charge: Column | None = None
    is_charged_hadron: Column | None = None
    is_neutral_hadron: Column | None = None
    is_photon: Column | None = None
    is_electron: Column | None = None
    is_muon: Column | None = None
    n_pixel_hits: Column | None = None
    n_innermost_hits: Column | None = None
    n_strip_hits: Column | None = None
    n_shared_hits: Column | None = None
    origin: Column | None = None
    vertex: Column | None = None


class OneHotLabels(Section):
    """One branch a class, exactly one of them set; the order here is the order of the classes."""

    kind: Literal["one_hot"] = "one_hot"
    classes: dict[str, str] = Field(min_length=1, description="class: branch")


class ValueLabels(Section):
    """One branch whose value tells the class; the order here is the order of the classes."""

    kind: Literal["value"] = "value"
    branch: str | tuple[str, ...] = Field(description="name of the branch, or names of which a file has one")
    classes: dict[str, int | tuple[int, ...]] = Field(min_length=1, description="class: value or values")

    @property
    def branches(self) -> tuple[str, ...]:
        """The names that the label branch may have in a file."""
        return (self.branch,) if isinstance(self.branch, str) else self.branch


Labels = Annotated[OneHotLabels | ValueLabels, Field(discriminator="kind")]


class DataCard(Section):
    """One data set: a file must have the branches that the chosen features and labels need, and no others."""

    name: str = Field(min_length=1, pattern=r"^[\w.+-]+$")
    description: str = ""
    citation: str = ""
    tree: str | None = Field("tree", description="TTree or RNTuple; null takes the only one in the file")
    units: Units = Units()
    join: Join | None = Field(None, description="where an entry is an event and not a jet")
    constituents: Constituents
    jet: dict[str, Column] = Field(
        default_factory=dict, description="flat branches; pt, eta, phi and energy are summed where absent"
    )
    labels: Labels | None = Field(None, description="null: the class comes with the file, as CLASS:GLOB")
    splits: dict[str, str] = Field(default_factory=dict, description="where the data set's own splits lie, as globs")

    @model_validator(mode="wrap")
    @classmethod
    def _all_mistakes(cls, raw: Any, handler: Any) -> Self:
        """What no single key can tell is reported together with what one can."""
        extra = [
            InitErrorDetails(type=PydanticCustomError("card", "{what}", {"what": what}), loc=loc, input=found)
            for loc, what, found in (_cross_checks(raw) if isinstance(raw, Mapping) else ())
        ]
        try:
            card: Self = handler(raw)
        except ValidationError as problems:
            known: list[InitErrorDetails] = []
            for error in problems.errors(include_url=False):
                details = InitErrorDetails(type=error["type"], loc=error["loc"], input=error["input"])
                if "ctx" in error:
                    details["ctx"] = error["ctx"]
                known.append(details)
            raise ValidationError.from_exception_data(cls.__name__, known + extra) from None
        if extra:
            raise ValidationError.from_exception_data(cls.__name__, extra)
        return card

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the card's order; empty where the files bring them."""
        return tuple(self.labels.classes) if self.labels else ()

    @property
    def branches(self) -> frozenset[str]:
        """Every name that a quantity or a label of this card may have in a file."""
        of_constituents = (getattr(self.constituents, field) for field in Constituents.model_fields)
        columns = [column for column in (*of_constituents, *self.jet.values()) if column]
        names = {name for column in columns for name in column.branches}
        if isinstance(self.labels, OneHotLabels):
            names.update(self.labels.classes.values())
        elif self.labels is not None:
            names.update(self.labels.branches)
        return frozenset(names)

    def column(self, owner: Literal["constituents", "jet"], field: str) -> ColumnOfCard | None:
        """The column of a field, or None where the card has none."""
        return self.jet.get(field) if owner == "jet" else getattr(self.constituents, field)

    def factor(self, field: str, column: ColumnOfCard) -> float:
        """What brings the stored number to GeV, mm or rad, without the sign."""
        quantity = MEASURES.get(field)
        if column.unit is not None:
            return (MOMENTUM | LENGTH | ANGLE)[column.unit]
        return QUANTITIES[quantity][getattr(self.units, quantity)] if quantity else 1.0


def _cross_checks(raw: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str, object]]:
    """(place, mistake, what was found) for everything that more than one key decides."""
    found: list[tuple[tuple[str, ...], str, object]] = []
    constituents = raw.get("constituents")
    if isinstance(constituents, Mapping):
        given = {str(key) for key, value in constituents.items() if value is not None}
        polar = given >= {"pt", "eta", "phi"} and given & {"energy", "mass"}
        if not given >= CARTESIAN and not polar:
            what = "needs px, py, pz, energy or pt, eta, phi with energy or mass"
            found.append((("constituents",), what, ", ".join(sorted(given)) or "nothing"))
    for owner in ("constituents", "jet"):
        columns = raw.get(owner)
        for field, column in columns.items() if isinstance(columns, Mapping) else ():
            unit = column.get("unit") if isinstance(column, Mapping) else None
            found += [((owner, str(field)), *problem) for problem in _column_mistakes(owner, str(field), column)]
            allowed = QUANTITIES.get(MEASURES.get(str(field), ""), {})
            if unit is not None and allowed and unit not in allowed:
                found.append(((owner, str(field), "unit"), f"expected one of {', '.join(allowed)}", unit))
    labels = raw.get("labels")
    classes = labels.get("classes") if isinstance(labels, Mapping) else None
    if isinstance(classes, Mapping):
        taken: dict[object, object] = {}
        for name, values in classes.items():
            for value in values if isinstance(values, list) else [values]:
                if value in taken:
                    found.append((("labels", "classes", str(name)), f"{value!r} belongs to {taken[value]} too", value))
                taken[value] = name
    return found


CONVERTED = ("value", "to_jet", "apply", "equals", "names", "missing")
RELATIVE = {"eta": "difference", "phi": "difference", "pt": "ratio"}


def _column_mistakes(owner: str, field: str, column: object) -> list[tuple[str, object]]:
    """(mistake, what was found) in the keys of one column that depend on each other or on the field."""
    if not isinstance(column, Mapping):
        return []
    mistakes: list[tuple[str, object]] = []
    if bool(column.get("branch")) == (column.get("value") is not None):
        mistakes.append(("needs a branch or a value, and not both", dict(column)))
    if owner == "jet" and (keys := [key for key in CONVERTED if column.get(key) is not None]):
        mistakes.append((f"{', '.join(keys)} is for constituents only", dict(column)))
    relative = column.get("to_jet")
    if relative is not None and RELATIVE.get(field) != relative:
        mistakes.append(("to_jet is a difference for eta and phi and a ratio for pt", relative))
    names = column.get("names")
    if names is not None and (field != "origin" or not set(names) <= set(ORIGINS)):
        mistakes.append((f"names are for origin, of {', '.join(ORIGINS)}", names))
    return mistakes


def load_card(name: str | Path) -> DataCard:
    """The card of a shipped name or a path.

    Raises:
        CardError: no such card, or mistakes in it, all of them in one message.
    """
    path = find("data_cards", name)
    values = read_yaml(path, error=CardError)
    if isinstance(labels := values.get("labels"), dict):
        # The two kinds of labels are told apart by what they hold; nobody has to write which.
        values["labels"] = {"kind": "value" if "branch" in labels else "one_hot", **labels}
    return validate(DataCard, values, where=path, error=CardError)
