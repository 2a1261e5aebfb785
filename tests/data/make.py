"""Jets of JetClass's schema as columns to write: momenta that add up, d0 with JetClass's sign."""

from typing import Any

import awkward as ak
import numpy as np

CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
FLAGS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")


def make_columns(
    jets: int = 40, *, seed: int = 0, class_name: str = "QCD", longest: int = 12, dtype: Any = np.float32
) -> dict[str, Any]:
    """Columns by branch name; jets have 1 to ``longest`` constituents of descending pT."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, longest + 1, jets)
    owner = np.repeat(np.arange(jets), counts)
    pt = rng.exponential(8.0, len(owner)) + 0.5
    pt = pt[np.lexsort((-pt, owner))]
    eta = rng.uniform(-2, 2, jets)[owner] + rng.normal(0, 0.2, len(owner))
    phi = rng.uniform(-np.pi, np.pi, jets)[owner] + rng.normal(0, 0.2, len(owner))
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(pt**2 + pz**2 + 0.13957**2)
    sums = [np.bincount(owner, weights=component, minlength=jets) for component in (px, py, pz, energy)]
    jet_pt = np.hypot(sums[0], sums[1])
    jet_eta, jet_phi = np.arcsinh(sums[2] / jet_pt), np.arctan2(sums[1], sums[0])
    side = np.where(jet_eta < 0, -1, 1)[owner]
    kind = rng.integers(0, 5, len(owner))
    charged = np.isin(kind, (0, 3, 4))
    flat = {
        "px": px,
        "py": py,
        "pz": pz,
        "energy": energy,
        "deta": (eta - jet_eta[owner]) * side,
        "dphi": (phi - jet_phi[owner] + np.pi) % (2 * np.pi) - np.pi,
        "d0val": rng.normal(0, 0.5, len(owner)) * charged,
        "d0err": rng.exponential(0.3, len(owner)) * charged,
        "dzval": rng.normal(0, 0.5, len(owner)) * charged,
        "dzerr": rng.exponential(0.3, len(owner)) * charged,
    }
    columns: dict[str, Any] = {
        f"part_{name}": ak.unflatten(values.astype(dtype), counts) for name, values in flat.items()
    }
    columns["part_charge"] = ak.unflatten((rng.choice([-1, 1], len(owner)) * charged).astype(np.int32), counts)
    columns |= {f"part_{flag}": ak.unflatten(kind == place, counts) for place, flag in enumerate(FLAGS)}
    columns |= {
        "jet_pt": jet_pt.astype(dtype),
        "jet_eta": jet_eta.astype(dtype),
        "jet_phi": jet_phi.astype(dtype),
        "jet_energy": sums[3].astype(dtype),
        "jet_nparticles": counts.astype(np.int32),
        "event_number": np.arange(jets) + 1000 * seed,
    }
    return columns | {f"label_{name}": np.full(jets, name == class_name) for name in CLASSES}


def without(columns: dict[str, Any], *names: str) -> dict[str, Any]:
    """The columns but for some; a name that ends in ``_`` means all that begin with it."""
    return {
        key: values
        for key, values in columns.items()
        if not any(key == name or (name.endswith("_") and key.startswith(name)) for name in names)
    }
