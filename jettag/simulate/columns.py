"""Columns of a file, as JetClass names and stores them."""

from typing import Any

import numpy as np

from jettag.simulate.detector import eta_of
from jettag.simulate.events import Floats, Ints

__all__ = ["constituent_columns", "jet_columns", "stored"]


def constituent_columns(p4: Floats, pdg: Ints, charge: Ints, jet: Ints, jet_p4: Floats) -> dict[str, Any]:
    """Momentum, angles to the jet and identity of (K,) constituents; `jet` (K,) counts the rows of `jet_p4`."""
    eta, phi = eta_of(p4), np.arctan2(p4[:, 1], p4[:, 0])
    jet_eta, jet_phi = eta_of(jet_p4)[jet], np.arctan2(jet_p4[:, 1], jet_p4[:, 0])[jet]
    code, charged = np.abs(pdg), charge != 0
    return {
        "px": p4[:, 0],
        "py": p4[:, 1],
        "pz": p4[:, 2],
        "energy": p4[:, 3],
        # JetClass turns eta so that the beam nearest to the jet is on the positive side.
        "deta": np.where(jet_eta > 0, 1.0, -1.0) * (eta - jet_eta),
        "dphi": np.remainder(phi - jet_phi + np.pi, 2.0 * np.pi) - np.pi,
        "charge": charge,
        "isChargedHadron": charged & (code != 11) & (code != 13),
        "isNeutralHadron": ~charged & (code != 22),
        "isPhoton": code == 22,
        "isElectron": code == 11,
        "isMuon": code == 13,
    }


def jet_columns(p4: Floats, counts: Ints) -> dict[str, Floats]:
    """The four-momentum of (J,) jets and the number of their constituents."""
    mass2 = p4[:, 3] ** 2 - np.sum(p4[:, :3] ** 2, axis=1)
    return {
        "jet_pt": np.hypot(p4[:, 0], p4[:, 1]),
        "jet_eta": eta_of(p4),
        "jet_phi": np.arctan2(p4[:, 1], p4[:, 0]),
        "jet_energy": p4[:, 3],
        "jet_mass": np.sqrt(np.maximum(mass2, 0.0)),
        "jet_nparticles": counts.astype(np.float64),
    }


def stored(values: Any) -> Any:
    """JetClass stores numbers as float32; flags and charges are small integers here."""
    return values.astype(np.float32 if values.dtype == np.float64 else np.int32 if values.dtype != bool else bool)
