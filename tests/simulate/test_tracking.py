"""Tracks of flavour samples: significances, losses, hits, fakes, association and material, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from jettag.simulate import tracking
from jettag.simulate.association import dense_core_loss, nearest_jet, shrinking_cone
from jettag.simulate.cards import FLAVOUR_DETECTORS
from jettag.simulate.clustering import Jets
from jettag.simulate.detector import eta_of, respond_tracks
from jettag.simulate.events import Events, Particles, charge_of
from jettag.simulate.material import LAYER_X0, PIPE_X0, interact
from jettag.simulate.truth import ORIGINS, extended_flavour
from tests.simulate.conftest import p4_of, particles_of
from tests.simulate.test_truth import a_decay_chain


def gun(count, seed=0, radius=0.0, pt=5.0):
    """As many events of one pion each, made at that radius on a straight line from the origin."""
    rng = np.random.default_rng(seed)
    phi, eta = rng.uniform(-np.pi, np.pi, count), rng.uniform(-1, 1, count)
    p4 = p4_of(pt, eta, phi, 0.13957)
    vertex = radius * np.stack([np.cos(phi), np.sin(phi), np.sinh(eta)], axis=1)
    pdg = rng.choice((211, -211), count)
    zero = np.zeros(count, dtype=np.int64)
    mass = np.full(count, 0.13957)
    events = Events(np.arange(count + 1), pdg, zero + 83, np.arange(count), zero, zero, p4, mass, vertex)
    rows = np.arange(count)
    return events, Particles(rows, rows, pdg, charge_of(pdg), p4, mass, vertex, np.full(count, np.nan))


def tracks_of(events, particles, detector="cms", seed=1):
    rng = np.random.default_rng(seed)
    seen = respond_tracks(particles, detector, rng, FLAVOUR_DETECTORS)
    return len(seen.event), tracking.find_tracks(seen, particles, events, detector, rng)


@pytest.mark.parametrize("detector", ["cms", "atlas"])
def test_prompt_significance_is_a_unit_gaussian_with_the_tails_that_were_put_in(detector):
    _, tracks = tracks_of(*gun(40_000), detector)
    true = tracks.origin != tracking.FAKE
    for value, error in ((tracks.d0, tracks.d0_error), (tracks.dz, tracks.dz_error)):
        significance = (value / error)[true]
        low, middle, high = np.percentile(significance, [15.87, 50, 84.13])
        # Three per cent of tails widen the core by one per cent, the spread of the errors by another.
        assert (high - low) / 2 == pytest.approx(1.015, abs=0.02)
        assert middle == pytest.approx(0.0, abs=0.03)
        # 0.97 of P(|x| > 4) = 6e-5, and 0.03 of P(|x| > 4/3) = 0.182; the beam spot has no tails of its own.
        assert np.mean(np.abs(significance) > 4) == pytest.approx(0.0055, abs=0.0018)


def test_displaced_tracks_are_lost_exponentially_and_miss_the_layers_they_were_born_behind():
    seen, tracks = tracks_of(*gun(20_000, radius=80.0, pt=50.0), "cms")
    true = tracks.take(np.flatnonzero(tracks.origin != tracking.FAKE))
    assert len(true.event) / seen == pytest.approx(np.exp(-80.0 / tracking.DISPLACED_LOSS), abs=0.015)
    assert not true.innermost_hits.any()
    assert true.pixel_hits.max() == 2  # 109 and 160 mm
    assert true.pixel_hits.mean() == pytest.approx(2 * tracking.PIXEL_HIT, abs=0.02)


def test_without_a_detector_every_helix_is_exact():
    events, particles = gun(200)
    seen, tracks = tracks_of(events, particles, "none")
    assert len(tracks.event) == seen == 200
    assert np.abs(tracks.d0).max() < 1e-9
    assert not tracks.d0_error.any()


def test_mirror_and_charge_conjugation_turn_the_sign_of_d0_and_nothing_else():
    events, particles = gun(300, radius=20.0)
    particles.vertex[:, 1] += 0.5  # off the line through the origin
    mirror = np.array([1.0, -1.0, 1.0])
    turned = replace(
        particles, p4=particles.p4 * [*mirror, 1.0], vertex=particles.vertex * mirror, charge=-particles.charge
    )
    (_, plain), (_, other) = tracks_of(events, particles, "none"), tracks_of(events, turned, "none")
    assert np.abs(plain.d0).max() > 0.1
    np.testing.assert_allclose(other.d0, -plain.d0, atol=1e-9)
    np.testing.assert_allclose(other.dz, plain.dz, atol=1e-9)


def test_one_hand_made_event_has_every_origin(monkeypatch):
    monkeypatch.setattr(tracking, "FAKE_FRACTION", 1.0)
    monkeypatch.setattr(tracking, "MAX_D0", 50.0)  # of K0S daughters born 30 mm away
    monkeypatch.setattr(tracking, "DISPLACED_LOSS", 1e6)
    events = a_decay_chain()
    final = np.flatnonzero((events.status > 0) & (charge_of(events.pdg) != 0))
    particles = particles_of(
        [*events.pdg[final], 211], np.concatenate([events.p4[final], p4_of(3.0, 0.1, 0.2, 0.14)]),
        vertex=np.concatenate([events.vertex[final], np.zeros((1, 3))]),
    )  # fmt: skip
    particles.row[:] = [*final, -1]
    names = set()
    for seed in range(5):  # a track in twenty is not found
        _, tracks = tracks_of(events, particles, seed=seed)
        names |= {ORIGINS[code] for code in tracks.origin}
    assert names == set(ORIGINS)


def test_the_cone_shrinks_as_athena_s_does():
    # 0.452, 0.369, 0.296, 0.250 and 0.239 at these pT [GeV], as published.
    np.testing.assert_allclose(
        shrinking_cone(np.array([20.0, 50, 100, 200, 500])), [0.452, 0.369, 0.296, 0.250, 0.239], atol=1e-3
    )


def jets_at(*phi, event=0):
    none = np.zeros(0, dtype=np.int64)
    p4 = np.concatenate([p4_of(50.0, 0.0, angle) for angle in phi])
    return Jets(np.full(len(phi), event), p4, np.zeros(len(phi) + 1, dtype=np.int64), none, none)


def test_a_track_goes_to_the_nearest_jet_of_its_own_event_across_pi():
    jets = jets_at(0.0, 0.5, np.pi)
    p4 = p4_of(5.0, 0.0, [0.2, 0.3, 1.5, -np.pi + 0.1, 0.0])
    event = np.array([0, 0, 0, 0, 1])
    found, distance = nearest_jet(event, p4, jets, np.full(3, 0.4))
    assert found.tolist() == [0, 1, -1, 2, -1]
    np.testing.assert_allclose(distance[[0, 1, 3]], [0.2, 0.2, 0.1])
    assert np.isinf(distance[[2, 4]]).all()


def test_tracks_are_lost_in_the_cores_of_hard_jets_only():
    rng = np.random.default_rng(0)
    many = np.ones(40_000)
    assert not dense_core_loss(0.0 * many, 200.0 * many, rng).any()
    assert dense_core_loss(0.0 * many, 1000.0 * many, rng).mean() == pytest.approx(0.15, abs=0.01)
    assert dense_core_loss(0.2 * many, 1000.0 * many, rng).mean() < 1e-3


@pytest.mark.parametrize(
    ("flavour", "of_b", "label"),
    [([5, 5], [0, 0], 55), ([5, 4], [0, 1], 5), ([5, 4], [0, 0], 54), ([4, 4], [0, 0], 44), ([4, 4], [1, 1], 4),
     ([4], [0], 4), ([15], [0], 15), ([15, 4], [0, 0], 4), ([], [], 0)],
)  # fmt: skip
def test_extended_labels_leave_out_charm_from_beauty(flavour, of_b, label):
    jet = np.zeros(len(flavour), dtype=np.int64)
    found = extended_flavour(2, jet, np.array(flavour, dtype=np.int64), np.array(of_b, dtype=bool))
    assert found.tolist() == [label, 0]


def test_photons_convert_as_often_as_their_radiation_lengths_say_and_share_their_energy():
    layers = (33.25, 50.5, 88.5, 122.5)
    photons = particles_of([22] * 20_000, p4_of(5.0, 0.0, np.linspace(-3, 3, 20_000)))
    photons.pdg[::2] = (
        111  # a neutral pion in the list would be a hadron; it is none that flies, but it tells them apart
    )
    made = interact(photons, layers, np.random.default_rng(0))
    electrons = np.flatnonzero(made.pdg == 11)
    expected = 1 - np.exp(-7 / 9 * (PIPE_X0 + LAYER_X0 * len(layers)))
    assert len(electrons) / 10_000 == pytest.approx(expected, abs=4 * np.sqrt(expected / 10_000))
    radius = np.hypot(*made.vertex[electrons, :2].T)
    assert set(np.round(radius, 2)) <= {25.0, 33.25, 50.5, 88.5, 122.5}
    np.testing.assert_allclose(made.p4.sum(axis=0)[:3], photons.p4.sum(axis=0)[:3], atol=1e-6)
    assert np.all(np.abs(eta_of(made.p4[electrons])) < 1e-9)
    assert made.charge[made.vertex[:, 0] ** 2 + made.vertex[:, 1] ** 2 == 0].sum() == 0


def test_material_conserves_charge_momentum_and_flavour_particle_by_particle():
    """Of every event of one photon or hadron; an interaction leaves the hadron and a pair of pions at one radius."""
    kinds = np.array([211, -211, 321, -321, 2212, -2212, 130, 2112, -2112, 22])
    shot = particles_of(np.repeat(kinds, 2000), p4_of(20.0, 1.0, np.linspace(-3, 3, 20_000)))
    shot = replace(shot, event=np.arange(20_000), row=np.arange(20_000), charge=charge_of(shot.pdg))
    made = interact(shot, (33.25, 50.5, 88.5, 122.5), np.random.default_rng(1))

    def total(of):
        return np.bincount(made.event, weights=of, minlength=20_000)

    np.testing.assert_array_equal(total(made.charge), shot.charge)
    np.testing.assert_array_equal(made.charge, charge_of(made.pdg))
    for axis in range(3):
        np.testing.assert_allclose(total(made.p4[:, axis]), shot.p4[:, axis], atol=1e-9)
    for kind in (2212, 2112, 321):  # pions and electrons come in pairs, so each other number stays
        net = total((made.pdg == kind).astype(float) - (made.pdg == -kind))
        np.testing.assert_array_equal(net, (shot.pdg == kind).astype(int) - (shot.pdg == -kind))
    prongs = total(np.ones(len(made.event)))
    assert set(prongs[shot.pdg == 22]) == {1, 2}
    assert set(prongs[shot.pdg != 22]) == {1, 3}
    expected = 1 - np.exp(-0.2 * np.cosh(1.0) * (PIPE_X0 + LAYER_X0 * 4))
    share = np.mean(prongs[shot.pdg != 22] == 3)
    assert share == pytest.approx(expected, abs=4 * np.sqrt(expected / 18_000))
    radius = np.hypot(*made.vertex[:, :2].T)
    np.testing.assert_allclose(total(radius**2) * prongs, total(radius) ** 2, rtol=1e-9)  # no spread within an event
