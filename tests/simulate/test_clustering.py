import numpy as np
import pytest

from jettag.simulate.clustering import find_jets
from tests.simulate.conftest import p4_of

pytest.importorskip("fastjet")
CUTS = {"radius": 0.8, "pt_min": 50.0, "pt_max": 1000.0, "eta_max": 2.0}
NO_GHOSTS = {"ghost_event": np.zeros(0, dtype=np.int64), "ghost_p4": np.zeros((0, 4))}


def sprays(count, seed=0):
    """Two back-to-back sprays in each event."""
    rng = np.random.default_rng(seed)
    event = np.repeat(np.arange(count), 60)
    axis = np.where(np.arange(60 * count) % 2, 0.0, np.pi)
    p4 = p4_of(
        rng.exponential(8, 60 * count) + 0.2, rng.normal(0, 0.2, 60 * count), axis + rng.normal(0, 0.2, 60 * count)
    )
    return event, p4


def test_constituents_sum_to_their_jet_and_come_hardest_first():
    event, p4 = sprays(10)
    jets = find_jets(event, p4, events=10, **CUTS, **NO_GHOSTS)
    assert len(jets.event) >= 20
    assert np.all(np.diff(jets.event) >= 0)
    for number, (begin, end) in enumerate(zip(jets.offsets[:-1], jets.offsets[1:], strict=True)):
        rows = jets.constituents[begin:end]
        assert set(event[rows]) == {jets.event[number]}
        assert p4[rows].sum(axis=0) == pytest.approx(jets.p4[number], rel=1e-9, abs=1e-9)
        assert np.all(np.diff(np.hypot(p4[rows, 0], p4[rows, 1])) <= 0)
    pt = np.hypot(jets.p4[:, 0], jets.p4[:, 1])
    assert np.all(np.diff(pt)[np.diff(jets.event) == 0] <= 0)


def test_no_particle_is_in_two_jets():
    event, p4 = sprays(10)
    jets = find_jets(event, p4, events=10, **CUTS, **NO_GHOSTS)
    assert len(set(jets.constituents)) == len(jets.constituents)


def test_far_particles_do_not_join_and_near_ones_do():
    p4 = p4_of([200.0, 10.0, 10.0], [0.0, 0.0, 0.0], [0.0, 0.7, 0.9])
    jets = find_jets(np.zeros(3, dtype=np.int64), p4, events=1, **CUTS, **NO_GHOSTS)
    assert jets.constituents.tolist() == [0, 1]


def test_cuts_are_on_the_jets():
    p4 = p4_of([200.0, 200.0, 40.0, 1200.0], [0.0, 2.1, 0.0, 0.0], [0.0, 1.5, 3.0, -1.5])
    jets = find_jets(np.zeros(4, dtype=np.int64), p4, events=1, **CUTS, **NO_GHOSTS)
    assert jets.constituents.tolist() == [0]


def test_ghosts_follow_their_jet_and_change_nothing():
    event, p4 = sprays(5)
    ghost_event = np.array([0, 0, 1, 4])
    ghost_p4 = p4_of([30.0] * 4, [0.0, 0.0, 0.0, 4.5], [0.0, np.pi, 0.1, 1.5])
    plain = find_jets(event, p4, events=5, **CUTS, **NO_GHOSTS)
    haunted = find_jets(event, p4, events=5, **CUTS, ghost_event=ghost_event, ghost_p4=ghost_p4)
    assert np.array_equal(plain.constituents, haunted.constituents)
    assert haunted.p4 == pytest.approx(plain.p4, rel=1e-12)
    assert haunted.ghost_jet[3] == -1
    for ghost in range(3):
        axis = haunted.p4[haunted.ghost_jet[ghost]]
        assert haunted.event[haunted.ghost_jet[ghost]] == ghost_event[ghost]
        assert np.cos(np.arctan2(axis[1], axis[0]) - np.arctan2(ghost_p4[ghost, 1], ghost_p4[ghost, 0])) > 0.9


def test_events_without_particles_give_no_jets():
    jets = find_jets(np.zeros(0, dtype=np.int64), np.zeros((0, 4)), events=3, **CUTS, **NO_GHOSTS)
    assert len(jets.event) == 0
    assert jets.offsets.tolist() == [0]
