"""Random jets as wide as those of JetClass, for measurements where no files are given."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from jettag.data.card import load_card
from jettag.data.jets import JetTable
from jettag.data.root import write_tree

__all__ = ["CARD", "random_table", "write_random_jets"]

CARD = "jetclass"
CHUNK = 10_000  # jets made at a time
FLAGS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")
SHARES = (0.5, 0.1, 0.36, 0.02, 0.02)  # of the kinds of `FLAGS`, roughly those in a jet
CHARGED = (0, 3, 4)
NUM_CLASSES = 10
MEAN, SPREAD, MOST = 50, 18, 128  # constituents of a jet: about those of JetClass, cut as there


def random_table(jets: int, *, num_features: int = 17, seed: int = 0) -> JetTable:
    """Jets as wide as those of JetClass: constituents normal around 50 with width 18, from 1 to 128, falling in pT."""
    random = np.random.default_rng(seed)
    counts = np.clip(np.round(random.normal(MEAN, SPREAD, jets)), 1, MOST).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = int(offsets[-1])
    jet = np.repeat(np.arange(jets), counts)
    pt = np.exp(random.normal(1.5, 1.2, rows))
    pt = pt[np.lexsort((-pt, jet))]
    eta, phi = random.normal(0, 0.3, (2, rows))
    eta += random.normal(0, 1, jets)[jet]
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(px**2 + py**2 + pz**2 + 0.0195)  # the mass of a pion
    return JetTable(
        features=random.normal(size=(rows, num_features)).astype(np.float32),
        p4=np.stack([px, py, pz, energy], axis=1).astype(np.float32),
        offsets=offsets,
        feature_names=tuple(f"feature_{i}" for i in range(num_features)),
        label=random.integers(0, NUM_CLASSES, jets),
        class_names=tuple(f"class_{i}" for i in range(NUM_CLASSES)),
    )


def write_random_jets(path: Path, jets: int, *, seed: int = 0) -> Path:
    """Write a TTree with every constituent branch, the axis and the labels that card `CARD` reads; return its path.

    Momenta, numbers of constituents and labels are those of `random_table`; angles and jet momenta
    follow from them, impact parameters [mm], charges and kinds are random. Random numbers compress less than jets.

    Raises:
        ResourceError: the disk is full or not writable.
    """
    write_tree(path, "tree", _chunks(jets, seed), metadata={})
    return path


def _chunks(jets: int, seed: int) -> Iterator[dict[str, Any]]:
    classes = load_card(CARD).classes
    for number, begin in enumerate(range(0, jets, CHUNK)):
        table = random_table(min(CHUNK, jets - begin), num_features=1, seed=seed + number)
        random = np.random.default_rng((seed, number))
        p4 = table.p4.astype(np.float64)
        sums = np.add.reduceat(p4, table.offsets[:-1])
        eta, phi = _direction(p4)
        jet_eta, jet_phi = _direction(sums)
        jet = np.repeat(np.arange(len(table)), table.counts)
        kind = random.choice(len(FLAGS), len(p4), p=SHARES)
        charged = np.isin(kind, CHARGED)
        values = dict(zip(("px", "py", "pz", "energy"), p4.T, strict=True)) | {
            "deta": (eta - jet_eta[jet]) * np.where(jet_eta < 0, -1, 1)[jet],
            "dphi": (phi - jet_phi[jet] + np.pi) % (2 * np.pi) - np.pi,
            "d0val": random.normal(0, 0.5, len(p4)) * charged,
            "d0err": random.exponential(0.1, len(p4)) * charged,
            "dzval": random.normal(0, 0.5, len(p4)) * charged,
            "dzerr": random.exponential(0.1, len(p4)) * charged,
        }
        columns: dict[str, Any] = {name: column.astype(np.float32) for name, column in values.items()}
        columns["charge"] = (random.choice([-1, 1], len(p4)) * charged).astype(np.int32)
        columns |= {flag: kind == place for place, flag in enumerate(FLAGS)}
        jagged = {f"part_{name}": ak.unflatten(column, table.counts) for name, column in columns.items()}
        flat = {"pt": np.hypot(sums[:, 0], sums[:, 1]), "eta": jet_eta, "phi": jet_phi, "energy": sums[:, 3]}
        labels = {f"label_{name}": table.label == place for place, name in enumerate(classes)}
        yield jagged | {f"jet_{name}": column.astype(np.float32) for name, column in flat.items()} | labels


def _direction(p4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pseudorapidity and azimuth of (n, 4) momenta."""
    return np.arcsinh(p4[:, 2] / np.hypot(p4[:, 0], p4[:, 1])), np.arctan2(p4[:, 1], p4[:, 0])
