"""What flavour tagging needs of files: labels by a scheme, truth of tracks, how common each origin is."""

from collections.abc import Sequence

import numpy as np

from jettag.config.flavour import ORIGINS, FlavourRecipe
from jettag.config.schemes import EXTENDED_CODES, Scheme, scheme
from jettag.data.card import DataCard, OneHotLabels, ValueLabels
from jettag.data.inputs import InputFile
from jettag.data.jets import JetTable, Table
from jettag.data.opening import split_of
from jettag.data.read import stored_in_all
from jettag.data.sign_check import DISPLACED, HEAVY, PT_RANGE, median_or_none, sign_verdict, unit_verdict
from jettag.errors import CardError, DataError

__all__ = [
    "COMPUTED",
    "check_origins",
    "flavour_card",
    "opposite_sign",
    "origin_weights",
    "refuse_missing_truth",
    "without_missing_truth",
    "wrong_unit",
]

COMPUTED = ("pt", "energy", "mass")  # jet columns of every file
FLAVOUR = "flavour"  # the jet column with codes such as 5, 4, 15, 0
EXTENDED = "flavour_extended"  # the one that has 44, 54 and 55 too
OUTSIDE = "outside the scheme"
COMMONEST = 1.0  # weight of the most common origin
ERROR = "part_d0err"  # the feature with the error of d0, at most 1 [mm]
LIFETIME_SIGNED = "part_d0sig_lifetime"  # the feature with the arcsinh of the significance


def flavour_card(card: DataCard, name: str, inputs: Sequence[InputFile] = ()) -> DataCard:
    """The card with the labels of a scheme: its own classes by name, else by the codes of its flavour column.

    Where it has neither and every file brings its class, the classes are the scheme's, in branches named as JetClass
    and `jettag data convert` name them.

    Raises:
        CardError: it has neither, and a file brings no class.
        DataError: a file brings a class that the scheme has not.
    """
    chosen = scheme(name)
    wanted = f"CLASS:GLOB of {', '.join(chosen.classes)}"
    for file in inputs:
        if file.class_name not in (None, *chosen.classes):
            what = f"no class {file.class_name!r} in label scheme {name}"
            raise DataError(what, where=file.address, do=f"give files as {wanted}")
    labels = _renamed(card, chosen)
    if labels is not None:
        return card.model_copy(update={"labels": labels})
    needs_extended = any(set(codes) <= {44, 54, 55} for codes in chosen.codes.values())
    field = EXTENDED if needs_extended else FLAVOUR
    column = card.column("jet", field)
    if column is None or not chosen.codes:
        bare = next((file for file in inputs if file.class_name is None), None)
        if inputs and bare is None:
            branches = {own: f"label_{own}" for own in chosen.classes}
            return card.model_copy(update={"labels": OneHotLabels(classes=branches)})
        has = "no codes for" if column else f"neither the classes nor a jet column {field} for"
        each = f"{bare.address}, and every other file, as" if bare else "files as"
        do = f"give {each} {wanted}" + (", or name the column on the card" if chosen.codes else "")
        raise CardError(f"{has} label scheme {name}", where=f"card {card.name}", do=do)
    classes: dict[str, int | tuple[int, ...]] = {**chosen.codes}
    others = tuple(code for code in EXTENDED_CODES if all(code not in codes for codes in chosen.codes.values()))
    if others:
        classes[OUTSIDE] = others
    return card.model_copy(update={"labels": ValueLabels(branch=column.branch, classes=classes)})


def _renamed(card: DataCard, chosen: Scheme) -> OneHotLabels | ValueLabels | None:
    """The card's labels with the scheme's names, where it has every class of it; classes beyond keep their names."""
    own = {name: chosen.own_name(name) for name in card.classes}
    if card.labels is None or not set(chosen.classes) <= set(own.values()):
        return None
    names = {name: mine or name for name, mine in own.items()}
    if isinstance(card.labels, OneHotLabels):
        return OneHotLabels(classes={names[name]: branch for name, branch in card.labels.classes.items()})
    return ValueLabels(
        branch=card.labels.branch, classes={names[name]: values for name, values in card.labels.classes.items()}
    )


def without_missing_truth(
    inputs: Sequence[InputFile], card: DataCard, recipe: FlavourRecipe
) -> tuple[FlavourRecipe, str]:
    """The recipe without the tasks of tracks whose truth not one file has, and a note of that, or nothing.

    What some files have and others lack stays, for `refuse_missing_truth` to name the file. So do regressions: a
    recipe has none that nobody asked for.

    Raises:
        DataError: a file is missing or damaged.
    """
    prepared = split_of(inputs[0], "train") is not None
    lacking = [
        name
        for name in recipe.constituent_columns
        if prepared or not any(stored_in_all([file], card, [name], "constituents") for file in inputs)
    ]
    if not lacking:
        return recipe, ""
    off: dict[str, object] = {}
    off |= {"origin": None} if "origin" in lacking and recipe.origin is not None else {}
    if "vertex" in lacking:
        off["vertex"] = None
    elif "origin" in lacking and recipe.vertex is not None:
        off["vertex"] = recipe.vertex.model_copy(update={"pair_weights": "none"})
    who = "prepared directories carry" if prepared else "the files have"
    told = " and ".join(f"{name}={'null' if x is None else '{pair_weights: none}'}" for name, x in off.items())
    return recipe.model_copy(update=off), f"objective: {told}, as {who} no {' and no '.join(lacking)} of constituents"


def refuse_missing_truth(inputs: Sequence[InputFile], card: DataCard, recipe: FlavourRecipe) -> None:
    """See that every file has the truth that the tasks need.

    Raises:
        DataError: naming the branch, and how to do without it.
    """
    if split_of(inputs[0], "train") is not None:
        if recipe.constituent_columns:
            off = " ".join(dict.fromkeys(recipe.off(name) for name in recipe.constituent_columns))
            what = f"prepared jets carry no {' and '.join(recipe.constituent_columns)} of the constituents"
            raise DataError(what, where=inputs[0].path, do=f"give the files themselves, or {off}")
        return
    wanted = [("constituents", name) for name in recipe.constituent_columns]
    for owner, name in [*wanted, *(("jet", name) for name in recipe.jet_columns)]:
        found = stored_in_all(inputs, card, [name], "jet" if owner == "jet" else "constituents")
        if not found and not (owner == "jet" and name in COMPUTED):
            column = card.column("jet" if owner == "jet" else "constituents", name)
            what = f"no branch {' or '.join(column.branches)}" if column else f"no {owner}.{name} on card {card.name}"
            more = f" and {len(inputs) - 1} more files" if len(inputs) > 1 else ""
            where = f"{inputs[0].address}{more}"
            raise DataError(f"{what}, which flavour tagging needs", where=where, do=f"or {recipe.off(name)}")


def check_origins(table: Table) -> None:
    """See that the origins are of `ORIGINS`, -1 for none.

    Raises:
        DataError: others, as of a tool with classes of its own.
    """
    if not isinstance(table, JetTable) or "origin" not in table.constituent:
        return
    values = table.constituent["origin"]
    strange = np.unique(values[(values < -1) | (values >= len(ORIGINS)) | (values != np.round(values))])
    if len(strange):
        shown = ", ".join(f"{value:g}" for value in strange[:5])
        what = f"track origins {shown} are none of the {len(ORIGINS)} classes 0 {ORIGINS[0]} ... 7 {ORIGINS[-1]}"
        raise DataError(what, where="constituents.origin", do="map them by name on the card, -1 for no truth")


def origin_weights(table: Table) -> tuple[float, ...] | None:
    """(8,) weights of the origins: the most common has 1, the others by how much rarer they are; 1 for absent ones."""
    if not isinstance(table, JetTable) or "origin" not in table.constituent:
        return None
    origin = table.constituent["origin"].astype(np.int64)
    counts = np.bincount(origin[origin >= 0], minlength=len(ORIGINS))
    return tuple((np.where(counts > 0, counts.max(initial=1) / np.maximum(counts, 1), COMMONEST)).tolist())


def opposite_sign(table: Table) -> str:
    """A warning where displaced tracks of b and c jets lie behind them, as with d0 of the other sign; else nothing."""
    if not isinstance(table, JetTable) or LIFETIME_SIGNED not in table.feature_names or table.label is None:
        return ""
    heavy = np.isin(table.label, [place for place, name in enumerate(table.class_names) if name in HEAVY])
    signed = table.features[np.repeat(heavy, table.counts), table.feature_names.index(LIFETIME_SIGNED)]
    cut = np.arcsinh(DISPLACED)
    ahead, behind = int(np.count_nonzero(signed > cut)), int(np.count_nonzero(signed < -cut))
    if sign_verdict(ahead, behind) != "opposite":
        return ""
    share = f"{behind} of {ahead + behind} displaced tracks of b and c jets lie behind their jet"
    return f"warning: the sign of d0 looks opposite to the card's, {share}; `jettag data check` tells more"


def wrong_unit(table: Table) -> str:
    """A warning where the errors of d0 are those of another unit, as cm for mm; else nothing."""
    if not isinstance(table, JetTable) or ERROR not in table.feature_names:
        return ""
    error = table.features[:, table.feature_names.index(ERROR)]
    pt = np.hypot(table.p4[:, 0], table.p4[:, 1])
    problem = unit_verdict(median_or_none(error[(error > 0) & (pt > PT_RANGE[0]) & (pt < PT_RANGE[1])]))
    return f"warning: {problem}; `jettag data check` tells more" if problem else ""
