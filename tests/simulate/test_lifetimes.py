"""Proper lifetimes from flight lengths, hadron by hadron: they test vertices, momenta and last copies at once."""

import numpy as np
import pytest

from jettag.simulate.events import make_pythia, next_events
from jettag.simulate.truth import flavour_ghosts, flight

pytest.importorskip("pythia8mc")
EVENTS = 2500
BARE = ("PartonLevel:MPI = off", "PartonLevel:ISR = off", "PartonLevel:FSR = off", "PhaseSpace:pTHatMin = 30")
# c tau [mm] of the Review of Particle Physics as Pythia 8.317 has them.
C_TAU = {511: 0.4587, 521: 0.4911, 531: 0.439, 5122: 0.440, 411: 0.3118, 421: 0.1229, 431: 0.1499, 4122: 0.0599}


@pytest.fixture(scope="module")
def beauty():
    """b bbar events without showers: every hadron decays as it always does, and nothing else is simulated."""
    return next_events(make_pythia(("HardQCD:hardbbbar = on", *BARE), "lifetimes"), EVENTS, 7)


@pytest.mark.parametrize("pdg", C_TAU)
def test_the_mean_proper_flight_length_is_c_tau(beauty, pdg):
    # The maximum-likelihood estimate of an exponential's constant is the mean, its error the mean over sqrt(n).
    rows, _ = flavour_ghosts(beauty)
    rows = rows[np.abs(beauty.pdg[rows]) == pdg]
    _, flown = flight(beauty, rows)
    p = np.sqrt(np.sum(beauty.p4[rows, :3] ** 2, axis=1))
    proper = np.sqrt(np.sum(flown**2, axis=1)) * beauty.mass[rows] / p
    assert len(rows) > 150
    assert proper.mean() == pytest.approx(C_TAU[pdg], abs=4 * C_TAU[pdg] / np.sqrt(len(rows)))
    # An exponential has a median of ln 2 of its mean; the median's standard error is that of the mean.
    assert np.median(proper) == pytest.approx(np.log(2) * C_TAU[pdg], abs=4 * C_TAU[pdg] / np.sqrt(len(rows)))


def test_hadrons_fly_along_their_momentum(beauty):
    rows, kind = flavour_ghosts(beauty)
    rows = rows[kind >= 4]
    _, flown = flight(beauty, rows)
    p = beauty.p4[rows, :3]
    cosine = np.sum(flown * p, axis=1) / np.sqrt(np.sum(flown**2, axis=1) * np.sum(p**2, axis=1))
    assert np.percentile(cosine, 1) > 1 - 1e-6
