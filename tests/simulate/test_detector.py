import numpy as np
import pytest

from jettag.simulate.detector import respond
from jettag.simulate.events import charge_of, visible
from tests.simulate.conftest import p4_of, particles_of

PION, KAON, PHOTON, ELECTRON, MUON, KLONG, NEUTRON = 211, 321, 22, 11, 13, 130, 2112


def alone(pdg, pt, count=20_000, eta=0.3, vertex=None, mass=0.0):
    """One such particle in each of many events."""
    rng = np.random.default_rng(5)
    p4 = p4_of(np.full(count, pt), eta, rng.uniform(-np.pi, np.pi, count), mass)
    return particles_of(np.full(count, pdg), p4, vertex, event=np.arange(count))


def test_charges_of_the_final_state():
    pdg = np.array([11, -11, 13, -13, 211, -211, 321, -321, 2212, -2212, 22, 130, 2112, -2112])
    assert charge_of(pdg).tolist() == [-1, 1, -1, 1, 1, -1, 1, -1, 1, -1, 0, 0, 0, 0]


def test_without_a_detector_every_visible_momentum_is_kept(batch):
    particles = visible(batch)
    found = respond(particles, "none", np.random.default_rng(0))
    eta = np.arcsinh(particles.p4[:, 2] / np.hypot(particles.p4[:, 0], particles.p4[:, 1]))
    assert found.p4.sum(axis=0) == pytest.approx(particles.p4[np.abs(eta) < 5].sum(axis=0), rel=1e-12)
    neutrinos = np.isin(np.abs(batch.pdg), (12, 14, 16)) & (batch.status > 0)
    assert len(particles.pdg) + neutrinos.sum() == (batch.status > 0).sum()
    assert not found.d0_error.any()


def test_pythia_conserves_momentum_through_our_columns(batch):
    final = batch.status > 0
    total = np.zeros((100, 4))
    np.add.at(total, batch.event[final], batch.p4[final])
    assert total[:, 3] == pytest.approx(np.full(100, 13_000.0), rel=1e-6)
    assert np.abs(total[:, :3]).max() < 0.01


@pytest.mark.parametrize("detector", ["cms", "atlas"])
@pytest.mark.parametrize(("pdg", "pt", "expected"), [(PION, 20.0, 0.95), (ELECTRON, 20.0, 0.95), (MUON, 20.0, 0.99)])
def test_track_efficiency_is_the_cards(detector, pdg, pt, expected):
    found = respond(alone(pdg, pt), detector, np.random.default_rng(1))
    seen = np.count_nonzero(found.charge) / 20_000
    # Losing a 20 GeV pion in a tower below threshold is a percent effect on top.
    assert seen == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("detector", ["cms", "atlas"])
@pytest.mark.parametrize("pt", [0.8, 3.0, 30.0])
def test_prompt_impact_parameters_are_a_unit_gaussian_in_their_error(detector, pt):
    found = respond(alone(MUON, pt), detector, np.random.default_rng(2))
    for value, error in ((found.d0, found.d0_error), (found.dz, found.dz_error)):
        assert np.all(error > 0)
        pull = value / error
        assert pull.mean() == pytest.approx(0.0, abs=5 / len(pull) ** 0.5)
        assert pull.std() == pytest.approx(1.0, abs=5 / (2 * len(pull)) ** 0.5)


def test_displaced_tracks_show_their_displacement_with_the_sign_of_jetclass():
    # Made at x = 2 mm flying along +y: (x py - y px) / pT = +2 mm, minus the ATLAS and CMS sign.
    count = 500
    p4 = p4_of(np.full(count, 50.0), 0.2, np.pi / 2, 0.14)
    vertex = np.tile([2.0, 0.0, 0.0], (count, 1))
    found = respond(particles_of(np.full(count, PION), p4, vertex, np.arange(count)), "cms", np.random.default_rng(0))
    assert np.median(found.d0[found.charge != 0]) == pytest.approx(2.0, abs=0.01)


def test_muons_of_the_atlas_card_are_smeared_and_those_of_the_jetclass_card_exact():
    for detector, width in (("cms", 0.0), ("atlas", np.hypot(0.01, 1e-4 * 40.0))):
        found = respond(alone(MUON, 40.0, mass=0.10566), detector, np.random.default_rng(4))
        ratio = np.hypot(found.p4[:, 0], found.p4[:, 1]) / 40.0
        assert ratio.std() == pytest.approx(width, rel=0.05, abs=1e-9)
        mass = np.sqrt(found.p4[:, 3] ** 2 - np.sum(found.p4[:, :3] ** 2, axis=1))
        assert mass == pytest.approx(np.full(len(mass), 0.10566), abs=1e-4)


@pytest.mark.parametrize(("pdg", "named"), [(PHOTON, 22), (KLONG, 0), (NEUTRON, 0)])
def test_neutral_particles_become_towers_of_their_kind_without_impact_parameters(pdg, named):
    found = respond(alone(pdg, 80.0, count=2000), "cms", np.random.default_rng(0))
    assert set(found.pdg) == {named}
    assert set(found.particle) == {-1}
    for column in (found.charge, found.d0, found.d0_error, found.dz, found.dz_error):
        assert not column.any()


@pytest.mark.parametrize("detector", ["cms", "atlas"])
def test_energy_of_a_lone_hadron_is_kept_on_average(detector):
    # Found as a track, as a tower, or as both: the sum is the energy within the calorimeter's resolution.
    particles = alone(PION, 100.0, eta=0.3, mass=0.1396)
    found = respond(particles, detector, np.random.default_rng(0))
    assert found.p4[:, 3].sum() / particles.p4[:, 3].sum() == pytest.approx(1.03, abs=0.05)


def test_a_hadron_without_a_track_is_a_neutral_hadron():
    found = respond(alone(PION, 100.0, eta=2.8), "cms", np.random.default_rng(0))
    assert set(found.pdg) == {0}


def test_particles_made_outside_the_tracker_are_lost():
    vertex = np.tile([1500.0, 0.0, 0.0], (50, 1))
    assert len(respond(alone(PHOTON, 50.0, 50, vertex=vertex), "cms", np.random.default_rng(0)).event) == 0


def test_the_same_seed_gives_the_same_response(batch):
    first, second = (respond(visible(batch), "cms", np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(first.p4, second.p4)
    assert np.array_equal(first.d0, second.d0)
    assert np.all(np.diff(first.event) >= 0)
