"""Hand-made events, and one small batch of real ones shared by all tests."""

import numpy as np
import pytest

from jettag.simulate.chunk import Maker
from jettag.simulate.events import Events, Particles, charge_of
from jettag.simulate.settings import GenerateSettings


def p4_of(pt, eta, phi, mass=0.0):
    """(P, 4) from pT [GeV], eta, phi, mass [GeV]."""
    pt, eta, phi, mass = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, dtype=float)) for x in (pt, eta, phi, mass)))
    px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    return np.stack([px, py, pz, np.sqrt(px**2 + py**2 + pz**2 + mass**2)], axis=1)


def particles_of(pdg, p4, vertex=None, event=None):
    """`Particles` of one event, or of those named."""
    pdg = np.asarray(pdg)
    count = len(pdg)
    return Particles(
        event=np.zeros(count, dtype=np.int64) if event is None else np.asarray(event),
        row=np.arange(count),
        pdg=pdg,
        charge=charge_of(pdg),
        p4=p4,
        mass=np.sqrt(np.maximum(p4[:, 3] ** 2 - np.sum(p4[:, :3] ** 2, axis=1), 0.0)),
        vertex=np.zeros((count, 3)) if vertex is None else np.asarray(vertex, dtype=float),
        pile_up_z=np.full(count, np.nan),
    )


def events_of(rows):
    """`Events` of one event from (pdg, status, mother, first and last daughter, p4, vertex), row 0 the system."""
    columns = list(zip(*rows, strict=True))
    p4 = np.array(columns[5], dtype=float)
    return Events(
        offsets=np.array([0, len(rows)]),
        pdg=np.array(columns[0]),
        status=np.array(columns[1]),
        mother=np.array(columns[2]),
        first_daughter=np.array(columns[3]),
        last_daughter=np.array(columns[4]),
        p4=p4,
        mass=np.sqrt(np.maximum(p4[:, 3] ** 2 - np.sum(p4[:, :3] ** 2, axis=1), 0.0)),
        vertex=np.array(columns[6], dtype=float),
    )


@pytest.fixture(scope="session")
def batch():
    """100 b-rich events as Pythia makes them."""
    pytest.importorskip("pythia8mc")
    return Maker("Hbb", GenerateSettings(("Hbb",), 1)).events(0)[0]
