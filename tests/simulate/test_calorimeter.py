import numpy as np
import pytest

from jettag.simulate.calorimeter import energy_flow, log_normal
from jettag.simulate.cards import DETECTORS, Calorimeter

NOTHING = (np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
EXACT = Calorimeter(np.array([-1.0, 0.0, 1.0]), np.array([4, 4]), lambda eta, energy: 0.0 * energy, 0.5, 2.0)


def hits(energy, eta, phi, event=0):
    energy, eta, phi, event = np.broadcast_arrays(*(np.atleast_1d(x) for x in (energy, eta, phi, event)))
    return event.astype(np.int64), energy.astype(float), eta.astype(float), phi.astype(float)


def flow(calorimeter, particles, tracks=NOTHING, sigma=0.0, seed=1):
    return energy_flow(
        calorimeter,
        hits=particles,
        tracks=tracks,
        track_sigma=np.full(len(tracks[0]), sigma),
        rng=np.random.default_rng(seed),
    )


def test_log_normal_has_the_mean_and_spread_asked_for():
    values = log_normal(np.full(200_000, 7.0), np.full(200_000, 2.0), np.random.default_rng(0))
    assert values.mean() == pytest.approx(7.0, abs=5 * 2 / 200_000**0.5)
    assert values.std() == pytest.approx(2.0, rel=0.02)
    assert values.min() > 0


def test_a_perfect_calorimeter_sees_each_tower_of_each_event_once():
    particles = hits([3.0, 4.0, 5.0, 6.0], [0.5, 0.6, 0.5, -0.5], [0.1, 0.2, 2.0, 0.1], [0, 0, 0, 1])
    found = flow(EXACT, particles)
    assert sorted(zip(found.event, found.energy, strict=True)) == [(0, 5.0), (0, 7.0), (1, 6.0)]
    seven = found.energy == 7.0
    assert 0 < found.eta[seven][0] < 1
    assert 0 < found.phi[seven][0] < np.pi / 2


def test_what_tracks_account_for_makes_no_neutral_particle():
    found = flow(EXACT, hits(10.0, 0.5, 0.1), hits(10.0, 0.5, 0.1))
    assert len(found.energy) == 0
    assert found.scale == pytest.approx([1.0])


def test_the_excess_beyond_the_tracks_is_the_neutral_particle():
    found = flow(EXACT, hits([10.0, 4.0], 0.5, 0.1), hits(10.0, 0.5, 0.1))
    assert found.energy == pytest.approx([4.0])
    assert found.scale == pytest.approx([1.0])


def test_without_an_excess_the_weighted_mean_decides():
    # Tower 6 +- 1 (fixed), track 8 +- 1: the mean is 7, whichever way one writes it.
    fixed = Calorimeter(np.array([-1.0, 1.0]), np.array([1]), lambda eta, energy: np.full_like(energy, 1e-9), 0.5, 2.0)
    found = flow(fixed, hits(6.0, 0.5, 0.1), hits(8.0, 0.5, 0.1), sigma=1e-9)
    assert found.scale * 8.0 == pytest.approx([7.0])


def test_a_track_without_an_error_follows_its_tower_and_vanishes_below_its_threshold():
    assert flow(EXACT, hits(6.0, 0.5, 0.1), hits(8.0, 0.5, 0.1)).scale * 8.0 == pytest.approx([6.0])
    assert flow(EXACT, hits(0.4, 0.5, 0.1), hits(0.4, 0.5, 0.1)).scale == pytest.approx([0.0])


def test_beyond_the_towers_nothing_is_seen_and_tracks_stay():
    found = flow(EXACT, hits(10.0, 3.0, 0.1), hits(5.0, 3.0, 0.1))
    assert len(found.energy) == 0
    assert found.scale == pytest.approx([1.0])


@pytest.mark.parametrize("name", ["cms", "atlas"])
@pytest.mark.parametrize("part", ["ecal", "hcal"])
def test_neutral_energy_is_measured_without_bias_within_the_resolution(name, part):
    calorimeter = getattr(DETECTORS[name], part)
    rng = np.random.default_rng(3)
    count, energy = 4000, 60.0
    eta = rng.uniform(-1.4, 1.4, count)
    found = flow(calorimeter, hits(energy, eta, rng.uniform(-3, 3, count), np.arange(count)))
    assert len(found.energy) == count
    sigma = calorimeter.resolution(np.abs(eta), np.full(count, energy))
    assert found.energy.mean() == pytest.approx(energy, abs=5 * sigma.mean() / count**0.5)
    assert found.energy.std() == pytest.approx(sigma.mean(), rel=0.1)
    order = np.argsort(found.event)
    row = np.searchsorted(calorimeter.eta_edges, eta)
    widest = np.diff(calorimeter.eta_edges)[row - 1]
    assert np.all(np.abs(found.eta[order] - eta) <= widest)


@pytest.mark.parametrize("name", ["cms", "atlas"])
def test_grids_cover_the_calorimeter_without_gaps(name):
    for calorimeter in (DETECTORS[name].ecal, DETECTORS[name].hcal):
        assert len(calorimeter.eta_edges) == len(calorimeter.phi_bins) + 1
        assert np.all(np.diff(calorimeter.eta_edges) > 1e-6)
        assert calorimeter.eta_edges[0] <= -4.9
        assert calorimeter.eta_edges[-1] >= 4.9
        assert set(calorimeter.phi_bins) <= {18, 36, 72, 360}
