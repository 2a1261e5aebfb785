"""One row an event: the two hardest jets, the lighter one first, as the LHC Olympics order them (arXiv:2101.08320)."""

from typing import Any

import awkward as ak
import numpy as np

from jettag.simulate.clustering import Jets
from jettag.simulate.detector import eta_of
from jettag.simulate.events import Floats, Ints
from jettag.simulate.substructure import n_subjettiness, soft_drop_mass

__all__ = ["dijet_columns", "invariant_mass"]


def invariant_mass(p4: Floats) -> Floats:
    """(J, 4) px, py, pz, energy [GeV] -> (J,) [GeV], zero where rounding makes the square negative."""
    mass: Floats = np.sqrt(np.maximum(p4[:, 3] ** 2 - np.sum(p4[:, :3] ** 2, axis=1), 0.0))
    return mass


def dijet_columns(jets: Jets, p4: Floats, charge: Ints, *, radius: float, mjj: tuple[float, float]) -> dict[str, Any]:
    """Columns of the events with at least two jets and a dijet mass within the window.

    Args:
        jets: within the cuts, hardest first within an event.
        p4: (C, 4) of the particles that they were clustered from [GeV].
        charge: (C,) of them.
        radius: R of the jets.
        mjj: lowest and highest dijet mass [GeV].

    Returns:
        ``event`` (row of the batch), ``m_jj``, ``m_j1``, ``delta_m_j`` = m_j2 - m_j1, ``tau21_j1``, ``tau21_j2``, ...;
        and for each jet ``j1_pt``, ... and its constituents ``j1_part_px``, ...; GeV.
    """
    hardest = np.flatnonzero(np.diff(jets.event, prepend=-1))
    hardest = hardest[hardest + 1 < len(jets.event)]
    hardest = hardest[jets.event[hardest] == jets.event[hardest + 1]]
    total = invariant_mass(jets.p4[hardest] + jets.p4[hardest + 1])
    kept = (total >= mjj[0]) & (total <= mjj[1])
    first, total = hardest[kept], total[kept]
    mass = invariant_mass(jets.p4)
    pair = np.stack([first, first + 1], axis=1)
    pair = np.take_along_axis(pair, np.argsort(mass[pair], axis=1, kind="stable"), axis=1)
    columns: dict[str, Any] = {"event": jets.event[first].astype(np.int64), "m_jj": total}
    for side in (1, 2):
        columns |= _jet(f"j{side}", jets, pair[:, side - 1], p4, charge, radius)
    columns |= {"m_j1": columns["j1_mass"], "delta_m_j": columns["j2_mass"] - columns["j1_mass"]}
    for ratio, above, below in (("tau21", 2, 1), ("tau32", 3, 2)):
        for side in (1, 2):
            numerator, denominator = columns[f"j{side}_tau{above}"], columns[f"j{side}_tau{below}"]
            columns[f"{ratio}_j{side}"] = np.divide(
                numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0
            )
    return {name: _stored(values) for name, values in columns.items()}


def _stored(values: Any) -> Any:
    return values.astype(np.float32) if isinstance(values, np.ndarray) and values.dtype == np.float64 else values


def _jet(name: str, jets: Jets, rows: Ints, p4: Floats, charge: Ints, radius: float) -> dict[str, Any]:
    """Columns of one jet an event."""
    size = np.diff(jets.offsets)[rows]
    offsets = np.concatenate([[0], np.cumsum(size)])
    members = jets.constituents[np.repeat(jets.offsets[rows] - offsets[:-1], size) + np.arange(offsets[-1])]
    inside = p4[members]
    jet = jets.p4[rows]
    tau = n_subjettiness(inside, offsets, radius=radius)
    flat: dict[str, Any] = {
        "pt": np.hypot(jet[:, 0], jet[:, 1]),
        "eta": eta_of(jet),
        "phi": np.arctan2(jet[:, 1], jet[:, 0]),
        "energy": jet[:, 3],
        "mass": invariant_mass(jet),
        "sdmass": soft_drop_mass(inside, offsets, radius=radius),
        "nparticles": size.astype(np.float64),
        **{f"tau{n + 1}": tau[:, n] for n in range(tau.shape[1])},
    }
    columns: dict[str, Any] = {f"{name}_{key}": values for key, values in flat.items()}
    for place, key in enumerate(("px", "py", "pz", "energy")):
        columns[f"{name}_part_{key}"] = ak.unflatten(inside[:, place].astype(np.float32), size)
    columns[f"{name}_part_charge"] = ak.unflatten(charge[members].astype(np.int32), size)
    return columns
