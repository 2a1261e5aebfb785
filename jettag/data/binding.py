"""Where in one file each wanted quantity stands: the card's names matched with the branches that are there."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from jettag.data.card import ColumnOfCard, Constituents, DataCard, OneHotLabels
from jettag.data.features import FEATURE_SETS
from jettag.data.source import Source
from jettag.errors import CardError, DataError, nearest

__all__ = ["JET_ETA", "SLOT", "Binding", "Bound", "bind", "bind_labels", "locate", "sets_given"]

CARTESIAN = ("px", "py", "pz", "energy")
POLAR = ("pt", "eta", "phi")
SLOT = "slot"  # place of a constituent in its jet as the file has it, which no file stores
JET_ETA = "jet_eta"  # the jet's pseudorapidity, beside each of its constituents
NEARLY = 0.75  # alike in spelling: part_d0 and part_d0val are by 0.82, part_pz and part_d0val by 0.59
MOST_HINTS = 3
MOST_LABELS = 3  # of those missing: a card may have 188
SUMMED = ("pt", "eta", "phi", "energy", "mass", "nparticles")  # jet columns that the constituents' sum can replace


@dataclass(frozen=True)
class Bound:
    """One quantity of one file: stored number times ``factor`` is in GeV, mm, rad and of jettag's sign.

    Attributes:
        branch: its name; empty where the card has a constant.
        factor: unit and sign.
        by_jet_eta: multiply by the sign of the jet's eta as well.
        column: of the card.
    """

    branch: str
    factor: float = 1.0
    by_jet_eta: bool = False
    column: ColumnOfCard | None = None

    @property
    def relative(self) -> bool:
        """Stored relative to the jet."""
        return self.column is not None and self.column.to_jet is not None


@dataclass(frozen=True)
class Binding:
    """Everything to read from one file.

    Attributes:
        constituents: field to jagged branch; momentum either Cartesian or polar.
        jet: jet field to flat branch, only those that the file has.
        fields: constituent fields wanted beyond the momentum; deta and dphi are derived where not bound, `SLOT` and
            `JET_ETA` always.
        jet_columns: jet columns wanted in the result.
        where: file and tree, for messages.
    """

    constituents: dict[str, Bound]
    jet: dict[str, Bound]
    fields: tuple[str, ...]
    jet_columns: tuple[str, ...]
    where: str

    @property
    def branches(self) -> tuple[str, ...]:
        """Branches to read, each once."""
        bound = [*self.constituents.values(), *self.jet.values()]
        return tuple(dict.fromkeys(one.branch for one in bound if one.branch))


def locate(card: DataCard, names: Iterable[str], owner: Literal["constituents", "jet"], field: str) -> Bound | None:
    """The branch of a field in a file with these ``names``, or None."""
    column = card.column(owner, field)
    if column is None:
        return None
    sign = 1 if column.sign == "jet_eta" else column.sign
    factor = sign * card.factor(field, column)
    if column.value is not None:
        return Bound("", factor, column.sign == "jet_eta", column)
    present = set(names)
    for branch in column.branches:
        if branch in present:
            return Bound(branch, factor, column.sign == "jet_eta", column)
    return None


def bind(
    card: DataCard, source: Source, address: str, *, fields: Sequence[str], jet_columns: Sequence[str] = ()
) -> Binding:
    """Match what is wanted with what the file has.

    Raises:
        CardError: the card does not know a wanted field.
        DataError: branches are missing; the nearest names are offered.
    """
    where = f"{address}, tree {source.tree_name}" if source.tree_name else address
    constituents: dict[str, Bound] = {}
    missing: list[str] = []

    def want(field: str) -> None:
        column = card.column("constituents", field)
        if column is None:
            do = _possible_sets(card, source) or "name its branch on a copy of the card"
            raise CardError(f"constituents.{field} is needed and missing", where=f"card {card.name}", do=do)
        bound = locate(card, source.names, "constituents", field)
        if bound is None:
            missing.append(" or ".join(column.branches))
        else:
            constituents[field] = bound

    for field in _momentum(card, source):
        want(field)
    for field in fields:
        if field in (SLOT, JET_ETA):
            continue
        bound = locate(card, source.names, "constituents", field)
        if bound is not None:
            constituents[field] = bound
        elif field not in ("deta", "dphi"):
            want(field)
    derived = not {"deta", "dphi"}.intersection(fields) <= constituents.keys()
    relative = [field for field, bound in constituents.items() if bound.relative]
    axis = derived or bool(relative) or JET_ETA in fields or any(bound.by_jet_eta for bound in constituents.values())
    jet: dict[str, Bound] = {}
    # A jet without a stored energy has it from pT, eta and mass, where these are stored.
    stored = locate(card, source.names, "jet", "energy") is not None
    polar = () if stored or locate(card, source.names, "jet", "eta") is None else ("eta", "mass")
    for field in dict.fromkeys(("pt", "energy", *polar, *(("eta", "phi") if axis else ()), *jet_columns)):
        bound = locate(card, source.names, "jet", field)
        if bound is not None:
            jet[field] = bound
        elif field not in SUMMED or field in relative:
            column = card.column("jet", field)
            if column is None:
                known = nearest(field, {*card.jet, *SUMMED})
                raise CardError(f"no jet column {field!r}", where=f"card {card.name}", do=known)
            missing.append(" or ".join(column.branches))
    if missing:
        raise _missing(missing, card, source, where, advice=_possible_sets(card, source))
    return Binding(constituents, jet, tuple(fields), tuple(jet_columns), where)


def _momentum(card: DataCard, source: Source) -> tuple[str, ...]:
    """The fields that give the momentum in this file: Cartesian where all four are there."""
    third = next((f for f in ("energy", "mass") if locate(card, source.names, "constituents", f)), None)
    polar = (*POLAR, third or ("energy" if card.constituents.energy else "mass"))
    for choice in (CARTESIAN, polar):
        if all(locate(card, source.names, "constituents", field) for field in choice):
            return choice
    return CARTESIAN if all(card.column("constituents", field) for field in CARTESIAN) else polar


def bind_labels(card: DataCard, source: Source, address: str, classes: Sequence[str]) -> dict[str, str]:
    """Branch of each class (one-hot), or the one branch under the empty name, for those ``classes`` of the card.

    One-hot branches of other classes are read too where they are there, to notice jets that have two.

    Raises:
        DataError: the card has no labels, or a branch is missing.
    """
    where = f"{address}, tree {source.tree_name}" if source.tree_name else address
    if card.labels is None:
        raise DataError(f"card {card.name} has no labels", where=address, do="give files as CLASS:GLOB")
    present = set(source.names)
    if isinstance(card.labels, OneHotLabels):
        branches = {name: branch for name, branch in card.labels.classes.items() if branch in present}
        asked = [name for name in classes if name in card.labels.classes]
        missing = [card.labels.classes[name] for name in asked if name not in branches]
    else:
        found = [branch for branch in card.labels.branches if branch in present]
        branches = {"": found[0]} if found else {}
        missing = [] if found else [" or ".join(card.labels.branches)]
    if missing:
        advice = "give the class with the file, as CLASS:GLOB"
        raise _missing(missing, card, source, where, advice=advice, noun="label branch", most=MOST_LABELS, nearly=0.9)
    return branches


def sets_given(card: DataCard, names: Iterable[str]) -> list[str]:
    """The feature sets that a file with these branch ``names`` can give with a card, in the order of `FEATURE_SETS`."""
    present = set(names)
    given = {field for field in Constituents.model_fields if locate(card, present, "constituents", field)}
    if not any(given.issuperset(momentum) for momentum in (CARTESIAN, (*POLAR, "energy"), (*POLAR, "mass"))):
        return []
    given |= {SLOT, JET_ETA, "deta", "dphi"}
    return [name for name, features in FEATURE_SETS.items() if given.issuperset(features.fields)]


def _possible_sets(card: DataCard, source: Source) -> str:
    """What to do with a file that has momenta but not every other field: which feature sets it can give."""
    able = sets_given(card, source.names)
    if not able:
        return ""
    how = f"--set data.features={able[-1]} in training, --features {able[-1]} in data prepare"
    return f"it can give features {', '.join(able)}: {how}"


def _missing(
    branches: Sequence[str],
    card: DataCard,
    source: Source,
    where: str,
    *,
    advice: str,
    noun: str = "branch",
    most: int | None = None,
    nearly: float = NEARLY,
) -> DataError:
    """One line: what lacks (the ``most`` first), unused names that are ``nearly`` it, and the advice."""
    names = tuple(dict.fromkeys(branches))
    free = set(source.names) - card.branches
    near = {name: _near(name.split(" or ")[0], free, nearly) for name in names}
    hints = [f"{found} for {name}" for name, found in near.items() if found][:MOST_HINTS]
    do = [f"did you mean {', '.join(hints)}?"] if hints else []
    if not hints and not advice:
        has = ", ".join(sorted(source.names)[:12]) + (" ..." if len(source.names) > 12 else "")
        do = [f"it has {has}" if has else "it has no branch"]
    more = f" and {len(names) - most} more" if most and len(names) > most else ""
    what = f"no {noun}{'es' if len(names) > 1 else ''} {', '.join(names[:most])}{more}"
    return DataError(what, where=where, do=" ".join(filter(None, [*do, advice])))


def _near(name: str, choices: Iterable[str], nearly: float) -> str:
    """The choice that is nearly spelled like ``name``, or nothing."""
    lower = {choice.lower(): choice for choice in sorted(choices)}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=nearly)
    return lower[close[0]] if close else ""
