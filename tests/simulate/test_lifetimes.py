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
RARE = {5132: 0.364, 5232: 0.364, 4132: 0.0336, 4232: 0.132}  # Xi_b and Xi_c
TAU = ("WeakSingleBoson:ffbar2gmZ = on", "23:onMode = off", "23:onIfAny = 15", "PhaseSpace:mHatMin = 60")


@pytest.fixture(scope="module")
def beauty():
    """b bbar events without showers: every hadron decays as it always does, and nothing else is simulated."""
    return next_events(make_pythia(("HardQCD:hardbbbar = on", *BARE), "lifetimes"), EVENTS, 7)


def proper_flight(events, pdg):
    """Flight lengths over beta gamma, of all of one kind [mm]."""
    rows, _ = flavour_ghosts(events)
    rows = rows[np.abs(events.pdg[rows]) == pdg]
    _, flown = flight(events, rows)
    p = np.sqrt(np.sum(events.p4[rows, :3] ** 2, axis=1))
    return np.sqrt(np.sum(flown**2, axis=1)) * events.mass[rows] / p


def is_exponential(proper, c_tau, fewest):
    """The maximum-likelihood estimate of its constant is the mean, with the error mean / sqrt(n).

    Its median is ln 2 of its mean; the median's standard error is that of the mean.
    """
    assert len(proper) > fewest
    error = c_tau / np.sqrt(len(proper))
    assert proper.mean() == pytest.approx(c_tau, abs=4 * error)
    assert np.median(proper) == pytest.approx(np.log(2) * c_tau, abs=4 * error)


@pytest.mark.parametrize("pdg", [*C_TAU, *RARE])
def test_the_mean_proper_flight_length_is_c_tau(beauty, pdg):
    is_exponential(proper_flight(beauty, pdg), (C_TAU | RARE)[pdg], 150 if pdg in C_TAU else 10)


def test_hadronic_taus_of_z_bosons_live_as_long_as_taus():
    events = next_events(make_pythia((*TAU, *BARE[:3]), "taus"), 800, 3)
    is_exponential(proper_flight(events, 15), 0.08711, 150)


def test_hadrons_fly_along_their_momentum(beauty):
    rows, kind = flavour_ghosts(beauty)
    rows = rows[kind >= 4]
    _, flown = flight(beauty, rows)
    p = beauty.p4[rows, :3]
    cosine = np.sum(flown * p, axis=1) / np.sqrt(np.sum(flown**2, axis=1) * np.sum(p**2, axis=1))
    assert np.percentile(cosine, 1) > 1 - 1e-6
