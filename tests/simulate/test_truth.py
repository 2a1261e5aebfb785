import numpy as np
import pytest

from jettag.simulate.clustering import Jets
from jettag.simulate.truth import (
    ORIGINS,
    flavour_ghosts,
    hadron_flavour,
    jet_flavour,
    match,
    track_origin,
    track_vertex,
)
from tests.simulate.conftest import events_of, p4_of

O = np.zeros(3)  # noqa: E741 - the origin


def along(pt, eta=0.0, phi=0.0, mass=0.0):
    return p4_of(pt, eta, phi, mass)[0]


def a_decay_chain():
    """B- -> D0 pi-, D0 -> K- pi+; K0S -> pi pi; prompt pi; tau -> pi nu; prompt D+ -> pi; J/psi -> mu mu."""
    rows = [
        (90, -11, 0, 0, 0, along(1.0), O),
        (-521, -83, 0, 2, 3, along(60.0, mass=5.28), O),
        (421, -91, 1, 4, 5, along(40.0, mass=1.86), [1.0, 0, 0]),
        (-211, 91, 1, 0, 0, along(20.0), [1.0, 0, 0]),
        (-321, 91, 2, 0, 0, along(25.0), [2.0, 0, 0]),
        (211, 91, 2, 0, 0, along(15.0), [2.0, 0, 0]),
        (310, -83, 0, 7, 8, along(10.0, mass=0.5), O),
        (211, 91, 6, 0, 0, along(5.0), [30.0, 0, 0]),
        (-211, 91, 6, 0, 0, along(5.0), [30.0, 0, 0]),
        (211, 83, 0, 0, 0, along(3.0), O),
        (15, -23, 0, 11, 12, along(30.0, mass=1.78), O),
        (-211, 91, 10, 0, 0, along(20.0), [0.5, 0, 0]),
        (16, 91, 10, 0, 0, along(10.0), [0.5, 0, 0]),
        (411, -83, 0, 14, 14, along(30.0, mass=1.87), O),
        (211, 91, 13, 0, 0, along(30.0), [0.7, 0, 0]),
        (443, -83, 0, 16, 17, along(20.0, mass=3.1), O),
        (13, 91, 15, 0, 0, along(10.0), O),
        (-13, 91, 15, 0, 0, along(10.0), O),
    ]
    return events_of(rows)


def test_origins_of_a_hand_made_event():
    rows = np.array([3, 4, 5, 7, 8, 9, 11, 14, 16, -1])
    names = [ORIGINS[code] for code in track_origin(a_decay_chain(), rows)]
    assert names == [
        "FromB", "FromBC", "FromBC", "OtherSecondary", "OtherSecondary",
        "Primary", "FromTau", "FromC", "Primary", "Pileup",
    ]  # fmt: skip


def test_heavy_flavour_comes_before_strangeness():
    # B -> K0S -> pi: the pion is FromB, not OtherSecondary.
    rows = [
        (90, -11, 0, 0, 0, along(1.0), O),
        (511, -83, 0, 2, 2, along(50.0, mass=5.28), O),
        (310, -91, 1, 3, 3, along(20.0, mass=0.5), O),
        (211, 91, 2, 0, 0, along(20.0), O),
    ]
    assert ORIGINS[track_origin(events_of(rows), np.array([3]))[0]] == "FromB"


@pytest.mark.parametrize(
    ("pdg", "flavour"),
    [(511, 5), (-521, 5), (531, 5), (541, 5), (5122, 5), (411, 4), (-421, 4), (4122, 4), (10411, 4), (443, 0), (553, 0),
     (100443, 0), (211, 2), (321, 3), (3122, 3), (2212, 2), (22, 0), (5, 0), (21, 0), (2101, 0), (15, 0)],
)  # fmt: skip
def test_flavour_of_hadrons(pdg, flavour):
    found = hadron_flavour(np.array([pdg]))[0]
    assert (found if found >= 4 else 0) == (flavour if flavour >= 4 else 0)


def test_ghosts_are_the_last_heavy_hadrons_and_hadronic_taus():
    events = a_decay_chain()
    rows, kinds = flavour_ghosts(events)
    assert dict(zip(rows.tolist(), kinds.tolist(), strict=True)) == {1: 5, 2: 4, 10: 15, 13: 4}
    excited = events_of(
        [
            (90, -11, 0, 0, 0, along(1.0), O),
            (513, -83, 0, 2, 3, along(50.0, mass=5.33), O),
            (511, -91, 1, 4, 4, along(49.0, mass=5.28), O),
            (22, 91, 1, 0, 0, along(1.0), O),
            (211, 91, 2, 0, 0, along(49.0), O),
        ]
    )
    assert flavour_ghosts(excited)[0].tolist() == [2]


def test_flavour_takes_b_before_c_before_tau():
    assert jet_flavour(4, np.array([0, 0, 1, 1, 2, -1]), np.array([4, 5, 15, 4, 15, 5])).tolist() == [5, 4, 15, 0]


def test_vertices_are_numbered_as_they_come():
    position = np.array(
        [O, [1, 0, 0], [1, 0, 0.05], [2, 0, 0], [0, 0, 0.05], [9, 9, 9], [5, 0, 0], [1, 0, 0]], dtype=float
    )
    jet = np.array([0, 0, 0, 0, 0, 0, 0, 1])
    charged = np.array([True] * 5 + [False] + [True] * 2)
    pile_up = np.array([False] * 6 + [True, False])
    assert track_vertex(position, jet, charged, pile_up).tolist() == [0, 1, 1, 2, 0, -1, -2, 1]


def top(q_phi):
    """A hadronic top along x: b at phi 0, quarks at `q_phi`."""
    rows = [
        (90, -11, 0, 0, 0, along(1.0), O),
        (6, -22, 0, 2, 2, along(600.0, mass=173.0), O),
        (6, -62, 1, 3, 4, along(590.0, mass=173.0), O),
        (24, -22, 2, 5, 5, along(300.0, mass=80.0), O),
        (5, -23, 2, 0, 0, along(290.0), O),
        (24, -62, 3, 6, 7, along(300.0, mass=80.0), O),
        (2, -23, 5, 0, 0, along(150.0, phi=q_phi[0]), O),
        (-1, -23, 5, 0, 0, along(150.0, phi=q_phi[1]), O),
    ]
    return events_of(rows)


def jets_along(*phis):
    none = np.zeros(0, dtype=np.int64)
    p4 = np.array([along(600.0, phi=phi) for phi in phis])
    return Jets(np.zeros(len(phis), dtype=np.int64), p4, np.zeros(len(phis) + 1, dtype=np.int64), none, none)


@pytest.mark.parametrize(
    ("q_phi", "whole"), [((0.3, -0.3), True), ((0.79, 0.0), True), ((0.81, 0.0), False), ((0.3, 2.0), False)]
)
def test_every_decay_quark_must_be_in_the_jet(q_phi, whole):
    assert match(top(q_phi), jets_along(0.0), 6, 0.8).tolist() == [2 if whole else -1]


def test_neutrinos_need_not_be_in_the_jet():
    events = top((0.3, 2.0))
    events.pdg[6], events.pdg[7] = -11, 12
    assert match(events, jets_along(0.0, 3.0), 6, 0.8).tolist() == [2, -1]
    events.pdg[6], events.pdg[7] = 12, -11
    assert match(events, jets_along(0.0), 6, 0.8).tolist() == [-1]


def test_jets_of_no_resonance_name_the_hardest_parton_nearby():
    rows = [
        (90, -11, 0, 0, 0, along(1.0), O),
        (21, -23, 0, 0, 0, along(500.0, phi=0.1), O),
        (1, -23, 0, 0, 0, along(505.0, phi=0.3), O),
    ]
    assert match(events_of(rows), jets_along(0.0, 3.0), 0, 0.8).tolist() == [2, -1]


def test_real_events_have_their_higgs_matched_and_only_whole(batch):
    # The same rule again, one event and one quark at a time.
    final = {}
    for row in np.flatnonzero(batch.pdg == 25):
        if batch.pdg[batch.first_daughter[row]] != 25:
            final[int(batch.event[row])] = row
    assert len(final) == 100
    rows = np.array([final[event] for event in range(100)])
    jets = Jets(np.arange(100), batch.p4[rows], np.zeros(101, dtype=np.int64), np.zeros(0, int), np.zeros(0, int))
    found = match(batch, jets, 25, 0.4)
    for event, row in final.items():
        higgs = batch.p4[row]
        inside = []
        for quark in (batch.first_daughter[row], batch.last_daughter[row]):
            p = batch.p4[quark]
            assert abs(batch.pdg[quark]) == 5
            d_phi = np.angle(np.exp(1j * (np.arctan2(p[1], p[0]) - np.arctan2(higgs[1], higgs[0]))))
            d_eta = np.arcsinh(p[2] / np.hypot(*p[:2])) - np.arcsinh(higgs[2] / np.hypot(*higgs[:2]))
            inside.append(np.hypot(d_eta, d_phi) < 0.4)
        assert (found[event] == row) == all(inside)
    assert 5 < np.count_nonzero(found < 0) < 95


def test_lifetimes_of_b_hadrons_in_real_events_are_those_of_the_review(batch):
    # <Lxy m / pT> = c tau = 0.45 to 0.50 mm for the mixture of b hadrons.
    rows, kinds = flavour_ghosts(batch)
    b = rows[kinds == 5]
    p4, flown = batch.p4[b], batch.vertex[batch.first_daughter[b]] - batch.vertex[b]
    proper = np.hypot(flown[:, 0], flown[:, 1]) * batch.mass[b] / np.hypot(p4[:, 0], p4[:, 1])
    assert len(b) > 150
    assert proper.mean() == pytest.approx(0.47, abs=5 * 0.47 / len(b) ** 0.5)
