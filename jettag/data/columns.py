"""From the columns of one chunk to checked, unit-converted, sorted constituents, and from them to features."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from jettag.config.origins import ORIGINS
from jettag.data.binding import JET_ETA, SLOT, Binding, Bound
from jettag.data.checks import check_energy, check_finite, check_phi, check_scale
from jettag.errors import DataError

__all__ = ["Piece", "flat", "jagged", "make_piece"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Piece:
    """The jets of one chunk that have constituents: flat columns in GeV, mm, rad.

    Attributes:
        counts: (J,) constituents a jet, at least one.
        columns: (M,) each: pt, px, py, pz, energy, jet_pt, jet_energy and the fields wanted.
        jet: (J,) each: the jet columns wanted.
        kept: (J,) positions in the chunk of the jets kept.
        notes: what was left out, counted.
    """

    counts: npt.NDArray[np.int64]
    columns: dict[str, Array]
    jet: dict[str, Array]
    kept: npt.NDArray[np.int64]
    notes: dict[str, int] = field(default_factory=dict)


def make_piece(
    chunk: Mapping[str, ak.Array],
    binding: Binding,
    entries: npt.NDArray[np.int64],
    max_constituents: int | None,
    *,
    arrange: bool = True,
) -> Piece:
    """Check, convert, sort by descending pT and cut one chunk.

    Args:
        chunk: the binding's branches.
        binding: what each of them is.
        entries: (n,) entry numbers in the file, for messages.
        max_constituents: keep so many of highest pT, or all.
        arrange: False keeps the file's order and the jets without constituents.

    Raises:
        DataError: counts differ, a value is not finite or not physical, or the units are not the card's.
    """
    counts, columns = _constituents(chunk, binding, entries)
    if SLOT in binding.fields:
        columns[SLOT] = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    jets = _jets(chunk, binding, entries)
    _undo_relative(columns, jets, counts, binding)
    momentum = _momentum(columns, binding)
    notes: dict[str, int] = {}
    columns |= momentum
    for name, bound in binding.constituents.items():
        if bound.column is not None and bound.column.apply == "over_sin_theta":
            columns[name] = columns[name] * np.sqrt(momentum["pt"] ** 2 + momentum["pz"] ** 2) / momentum["pt"]
    real = check_energy(momentum, binding.where)
    if real is not None:
        first = next(iter(binding.constituents.values()))
        if "var" in str(chunk[first.branch].type):  # else a rectangular table, whose padding is nobody's loss
            notes["constituents_without_momentum"] = int(len(real) - np.count_nonzero(real))
        owner = np.repeat(np.arange(len(counts)), counts)
        counts = np.bincount(owner[real], minlength=len(counts))
        columns = {name: column[real] for name, column in columns.items()}
    columns, jets = _complete(columns, jets, counts, binding)
    check_scale(columns["pt"], jets["pt"][counts > 0], jets["energy"][counts > 0], binding.where)
    if not arrange:
        every = np.arange(len(counts))
        return Piece(counts, columns, {name: jets[name] for name in binding.jet_columns}, every, notes)
    return _select(columns, jets, counts, binding, max_constituents, notes)


def _constituents(
    chunk: Mapping[str, ak.Array], binding: Binding, entries: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], dict[str, Array]]:
    """Counts and converted flat columns of the bound constituent branches."""
    counts: npt.NDArray[np.int64] | None = None
    first = ""
    columns: dict[str, Array] = {}
    for name, bound in binding.constituents.items():
        if not bound.branch:
            continue
        own, values = jagged(chunk[bound.branch], bound.branch, binding.where)
        if counts is None:
            counts, first = own, bound.branch
        elif not np.array_equal(counts, own):
            jet = int(np.argmax(counts != own))
            what = f"{first} has {counts[jet]} constituents and {bound.branch} {own[jet]}"
            raise DataError(what, where=f"{binding.where}, entry {entries[jet]}", do="the file is inconsistent")
        if bound.column is not None and bound.column.missing is not None:
            gone = values == bound.column.missing
            values = np.where(gone, values.dtype.type(0), values)
        check_finite(values, bound.branch, binding.where, entries, own)
        if name in ("phi", "dphi"):
            check_phi(values * abs(bound.factor), bound.branch, binding.where)
        columns[name] = _scaled(_converted(values, bound, binding.where), bound.factor)
    assert counts is not None  # a binding always has a momentum
    for name, bound in binding.constituents.items():
        if bound.column is not None and bound.column.value is not None:
            columns[name] = np.full(int(counts.sum()), bound.column.value * bound.factor, dtype=np.float32)
    return counts, columns


def _converted(values: Array, bound: Bound, where: str) -> Array:
    """What the card makes of stored numbers beyond unit and sign."""
    column = bound.column
    if column is None:
        return values
    if column.apply == "sign":
        return np.sign(values)
    if column.equals is not None:
        return np.isin(values, column.equals)
    if column.names is not None:
        if len(strange := np.unique(values[(values >= len(column.names)) | (values != np.floor(values))])):
            what = f"{bound.branch} has {strange[0]:g}, and the card names 0 to {len(column.names) - 1}"
            raise DataError(what, where=where, do="complete `names` on the card")
        codes = np.array([*(ORIGINS.index(name) for name in column.names), -1])
        return codes[np.where(values < 0, -1, values).astype(np.int64)]
    return values


def _undo_relative(
    columns: dict[str, Array], jets: Mapping[str, Array], counts: npt.NDArray[np.int64], binding: Binding
) -> None:
    """Make eta, phi and pT that are stored relative to the jet absolute."""
    owner = np.repeat(np.arange(len(counts)), counts)
    for name, bound in binding.constituents.items():
        if bound.relative:
            jet = jets[name].astype(np.float64)[owner]
            columns[name] = columns[name] * jet if name == "pt" else columns[name] + jet


def _jets(chunk: Mapping[str, ak.Array], binding: Binding, entries: npt.NDArray[np.int64]) -> dict[str, Array]:
    jets = {}
    for name, bound in binding.jet.items():
        values = flat(chunk[bound.branch], bound.branch, binding.where)
        if name in ("pt", "eta", "phi", "energy"):
            check_finite(values, bound.branch, binding.where, entries)
        if name == "phi":
            check_phi(values * abs(bound.factor), bound.branch, binding.where)
        jets[name] = _scaled(values, bound.factor)
    return jets


def _scaled(values: Array, factor: float) -> Array:
    """Values times a factor, in their own precision; booleans and integers stay what they are where they can."""
    if factor == 1.0:
        return values
    return values * (values.dtype.type(factor) if values.dtype.kind == "f" else factor)


def _momentum(columns: Mapping[str, Array], binding: Binding) -> dict[str, Array]:
    """Px, py, pz, energy, pt of every constituent, from whichever four the file has."""
    if "px" in binding.constituents:
        pt = np.sqrt(columns["px"] ** 2 + columns["py"] ** 2)
        return {name: columns[name] for name in ("px", "py", "pz", "energy")} | {"pt": pt}
    pt, eta, phi = columns["pt"], columns["eta"], columns["phi"]
    pz = pt * np.sinh(eta)
    energy = columns.get("energy")
    if energy is None:
        energy = np.sqrt(pt**2 + pz**2 + columns["mass"] ** 2)
    return {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pz, "energy": energy, "pt": pt}


def _complete(
    columns: dict[str, Array], jets: dict[str, Array], counts: npt.NDArray[np.int64], binding: Binding
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Add what the file has not stored: the jet as the sum of all its constituents, and deta, dphi from its axis."""
    derived = [name for name in ("deta", "dphi") if name in binding.fields and name not in columns]
    by_axis = [name for name, bound in binding.constituents.items() if bound.by_jet_eta]
    axis = derived or by_axis or JET_ETA in binding.fields
    wanted = {"pt", "energy", *binding.jet_columns, *(("eta", "phi") if axis else ())}
    if "energy" not in jets and {"pt", "eta"} <= jets.keys():
        mass = jets.get("mass", np.zeros(1))
        jets["energy"] = np.sqrt((jets["pt"] * np.cosh(jets["eta"].astype(np.float64))) ** 2 + mass**2)
    if wanted - jets.keys():
        jets = _summed(columns, np.repeat(np.arange(len(counts)), counts), counts) | jets

    def beside(values: Array) -> Array:
        """What a jet has, beside each of its constituents."""
        return np.repeat(values, counts)

    side = beside(np.where(jets["eta"] < 0, -1, 1).astype(np.float32)) if derived or by_axis else np.ones(0)
    for name in by_axis:
        columns[name] = columns[name] * side
    if "deta" in derived:
        # Where pT is not zero this is the pseudorapidity; float64 because two nearby numbers are subtracted.
        eta = np.arcsinh(columns["pz"].astype(np.float64) / columns["pt"])
        columns["deta"] = (eta - beside(jets["eta"].astype(np.float64))) * side
    if "dphi" in derived:
        phi = np.arctan2(columns["py"].astype(np.float64), columns["px"])
        columns["dphi"] = (phi - beside(jets["phi"].astype(np.float64)) + np.pi) % (2 * np.pi) - np.pi
    if JET_ETA in binding.fields:
        columns[JET_ETA] = beside(jets["eta"])
    columns["jet_pt"], columns["jet_energy"] = beside(jets["pt"]), beside(jets["energy"])
    return columns, jets


def _summed(columns: Mapping[str, Array], owner: Array, counts: npt.NDArray[np.int64]) -> dict[str, Array]:
    """The jet as the sum of its constituents' four-momenta."""
    px, py, pz, energy = (
        np.bincount(owner, weights=columns[name], minlength=len(counts)) for name in ("px", "py", "pz", "energy")
    )
    pt = np.hypot(px, py)
    mass = np.sqrt(np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0))
    eta = np.arcsinh(np.divide(pz, pt, out=np.zeros_like(pz), where=pt > 0))
    return {"pt": pt, "eta": eta, "phi": np.arctan2(py, px), "energy": energy, "mass": mass, "nparticles": counts}


def _select(
    columns: dict[str, Array],
    jets: dict[str, Array],
    counts: npt.NDArray[np.int64],
    binding: Binding,
    max_constituents: int | None,
    notes: dict[str, int],
) -> Piece:
    """Descending pT, at most ``max_constituents``, no empty jet."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = None
    rises = columns["pt"][1:] > columns["pt"][:-1]
    ends = offsets[1:-1]
    rises[ends[(ends > 0) & (ends < offsets[-1])] - 1] = False  # from one jet to the next it may rise
    if rises.any():
        owner = np.repeat(np.arange(len(counts)), counts)
        rows = np.lexsort((-columns["pt"], owner))
    if max_constituents is not None and counts.max(initial=0) > max_constituents:
        rank = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        inside = rank < max_constituents
        rows = np.flatnonzero(inside) if rows is None else rows[inside]
        notes["jets_cut_to_max_constituents"] = int(np.count_nonzero(counts > max_constituents))
        counts = np.minimum(counts, max_constituents)
    kept = np.flatnonzero(counts)
    if len(kept) < len(counts):
        notes["jets_without_constituents"] = int(len(counts) - len(kept))
    return Piece(
        counts=counts[kept].astype(np.int64),
        columns=columns if rows is None else {name: column[rows] for name, column in columns.items()},
        jet={name: jets[name][kept] for name in binding.jet_columns},
        kept=kept,
        notes=notes,
    )


def jagged(column: ak.Array, branch: str, where: str) -> tuple[npt.NDArray[np.int64], Array]:
    """Counts (n,) and flat content (M,) of one jagged, or padded rectangular, column of numbers."""
    layout = _plain(column, branch, where)
    if isinstance(layout, ak.contents.ListArray):
        layout = layout.to_ListOffsetArray64(True)
    if isinstance(layout, ak.contents.NumpyArray) and layout.data.ndim == 2:
        rows, width = layout.data.shape
        return np.full(rows, width, dtype=np.int64), np.ascontiguousarray(layout.data).reshape(-1)
    if isinstance(layout, ak.contents.RegularArray):
        layout = layout.to_ListOffsetArray64(True)
    content = layout.content if isinstance(layout, ak.contents.ListOffsetArray) else None
    if not isinstance(content, ak.contents.NumpyArray) or content.data.ndim != 1 or content.dtype.kind not in "biuf":
        raise DataError(f"{branch} holds {column.type.content}, not one list of numbers a jet", where=where)
    offsets = np.asarray(layout.offsets.data).astype(np.int64)
    return np.diff(offsets), np.asarray(content.data)[offsets[0] : offsets[-1]]


def flat(column: ak.Array, branch: str, where: str) -> Array:
    """The (n,) numbers of a flat column."""
    layout = _plain(column, branch, where)
    if not isinstance(layout, ak.contents.NumpyArray) or layout.data.ndim != 1 or layout.dtype.kind not in "biuf":
        raise DataError(f"{branch} holds {column.type.content}, not one number a jet", where=where)
    return np.asarray(layout.data)


def _plain(column: ak.Array, branch: str, where: str) -> Any:
    """The layout without option types; missing values are an error."""
    layout = column.layout
    inner = layout.content if isinstance(layout, ak.contents.ListOffsetArray) else layout
    if isinstance(inner, ak.contents.NumpyArray):  # as files are read: to print a type takes longer than to check it
        return layout
    if "?" not in str(column.type) and "option" not in str(column.type):
        return layout
    present = ak.drop_none(column, axis=None)
    for axis in range(column.ndim):
        missing = int(np.sum(ak.to_numpy(ak.flatten(ak.is_none(column, axis=axis), axis=None))))
        if missing:
            raise DataError(f"{missing} missing values of {branch}", where=where, do="fill or drop them")
    return ak.to_packed(present).layout
