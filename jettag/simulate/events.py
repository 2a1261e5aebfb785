"""Batches of Pythia events as flat arrays, and the walks along mothers and daughters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from jettag.errors import RecipeError, ResourceError
from jettag.simulate.processes import BEAM_ENERGY

__all__ = [
    "Bools",
    "Events",
    "Floats",
    "Ints",
    "Particles",
    "charge_of",
    "make_pythia",
    "next_events",
    "pythia_version",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Charges of what Pythia leaves undecayed [e]; everything else in the final state is neutral.
CHARGES = {11: -1, 13: -1, 15: -1, 211: 1, 321: 1, 2212: 1, 3112: -1, 3222: 1, 3312: -1, 3334: -1}
_CHARGED_IDS = np.array(sorted(CHARGES))
_CHARGE_VALUES = np.array([CHARGES[int(code)] for code in _CHARGED_IDS])


@dataclass(frozen=True)
class Events:
    """All entries of a batch of events, one after the other.

    Args:
        offsets: (E + 1,) where each event begins.
        pdg, status, mother, first_daughter, last_daughter: (M,) Pythia's columns; the links are rows of these arrays,
            and a particle without mother or daughter points at the event's row 0.
        p4: (M, 4) px, py, pz, energy [GeV].
        mass: (M,) [GeV].
        vertex: (M, 3) production point x, y, z [mm], the hard scatter at the origin.
    """

    offsets: Ints
    pdg: Ints
    status: Ints
    mother: Ints
    first_daughter: Ints
    last_daughter: Ints
    p4: Floats
    mass: Floats
    vertex: Floats

    @property
    def event(self) -> Ints:
        """(M,) number of the event of each row."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True)
class Particles:
    """Final-state particles that reach the detector, grouped by event.

    Args:
        event: (P,) number of the event, ascending.
        row: (P,) row in `Events`; -1 for pile-up.
        pdg, charge: (P,).
        p4: (P, 4) [GeV].
        mass: (P,) [GeV].
        vertex: (P, 3) production point [mm].
        pile_up_z: (P,) z of the pile-up collision [mm]; NaN for the hard scatter.
    """

    event: Ints
    row: Ints
    pdg: Ints
    charge: Ints
    p4: Floats
    mass: Floats
    vertex: Floats
    pile_up_z: Floats


def charge_of(pdg: Ints) -> Ints:
    """Charge [e] of final-state particles by PDG id, (P,) -> (P,)."""
    at = np.minimum(np.searchsorted(_CHARGED_IDS, np.abs(pdg)), len(_CHARGED_IDS) - 1)
    return np.where(_CHARGED_IDS[at] == np.abs(pdg), np.sign(pdg) * _CHARGE_VALUES[at], 0)


def _import_pythia() -> Any:
    try:
        import pythia8mc
    except ImportError as problem:
        raise ResourceError(
            f"Pythia 8 cannot be imported ({problem})", do="pip install 'pythia8mc>=8.316,<8.318'"
        ) from problem
    return pythia8mc


def pythia_version() -> str:
    """Version of the Pythia that would run, as in ``8.317``."""
    return f"{make_bare().parm('Pythia:versionNumber'):.3f}"


def make_bare() -> Any:
    """A silent Pythia without settings."""
    return _import_pythia().Pythia("", False)


def make_pythia(lines: Sequence[str], about: str) -> Any:
    """An initialised, silent Pythia.

    Args:
        lines: settings beyond beams and seed.
        about: what is being made, for the error.

    Raises:
        ResourceError: pythia8mc is absent.
        RecipeError: Pythia refuses the settings, or finds no phase space.
    """
    pythia = make_bare()
    fixed = ("Print:quiet = on", f"Beams:eCM = {BEAM_ENERGY}", "Random:setSeed = on", "Random:seed = 1")
    for line in (*fixed, *lines):
        if not pythia.readString(line):
            raise RecipeError(f"Pythia refuses the setting {line!r}", where=about)
    if not pythia.init():
        raise RecipeError(f"Pythia finds no phase space for {about}", do="change --pt")
    return pythia


def next_events(pythia: Any, count: int, seed: int) -> Events:
    """`count` events that depend on the settings and the seed alone, not on what this Pythia made before.

    Args:
        pythia: from `make_pythia`.
        count: events E.
        seed: 1 to 900,000,000.
    """
    pythia.rndm.init(seed)
    return from_batch(pythia.nextBatch(count))


def from_batch(batch: ak.Array) -> Events:
    """Flatten what `pythia.nextBatch` returns."""
    layout = ak.to_packed(batch.prt).layout
    record = layout.content
    offsets = np.asarray(layout.offsets, dtype=np.int64)
    begin = np.repeat(offsets[:-1], np.diff(offsets))

    def column(name: str) -> Ints:
        return np.asarray(record.content(name).data).astype(np.int64)

    p = record.content("p")
    p4 = np.stack([np.asarray(p.content(name).data) for name in ("px", "py", "pz", "e")], axis=1)
    produced = record.content("vProd")
    index = np.asarray(produced.index.data)
    points = np.stack([np.asarray(produced.content.content(name).data) for name in ("px", "py", "pz")], axis=1)
    vertex = np.zeros((len(index), 3))
    vertex[index >= 0] = points[index[index >= 0]]
    first, last = column("daughter1"), column("daughter2")
    return Events(
        offsets=offsets,
        pdg=column("id"),
        status=column("status"),
        mother=begin + column("mother1"),
        first_daughter=begin + first,
        last_daughter=begin + np.where(last > 0, last, first),
        p4=p4,
        mass=np.asarray(record.content("m").data),
        vertex=vertex,
    )


def visible(events: Events) -> Particles:
    """The final-state particles but for neutrinos."""
    code = np.abs(events.pdg)
    rows = np.flatnonzero((events.status > 0) & (code != 12) & (code != 14) & (code != 16))
    return Particles(
        event=events.event[rows],
        row=rows,
        pdg=events.pdg[rows],
        charge=charge_of(events.pdg[rows]),
        p4=events.p4[rows],
        mass=np.maximum(events.mass[rows], 0.0),
        vertex=events.vertex[rows],
        pile_up_z=np.full(len(rows), np.nan),
    )
