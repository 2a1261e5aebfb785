import numpy as np
import pytest

from jettag.simulate.substructure import n_subjettiness, soft_drop_mass
from tests.simulate.conftest import p4_of

pytest.importorskip("fastjet")
R = 0.8


def jet(*constituents):
    """(K, 4) from (pT, eta, phi) each."""
    return np.concatenate([p4_of(*c) for c in constituents])


def of(*jets):
    return np.concatenate(jets), np.concatenate([[0], np.cumsum([len(j) for j in jets])])


def mass(p4):
    total = p4.sum(axis=0)
    return np.sqrt(total[3] ** 2 - np.sum(total[:3] ** 2))


def test_soft_drop_keeps_a_hard_pair_and_removes_a_soft_one():
    hard = jet((300.0, 0.0, 0.0), (200.0, 0.3, 0.2))
    soft = jet((460.0, 0.0, 0.0), (40.0, 0.5, 0.1))  # z = 0.08 < 0.1
    kept, gone = soft_drop_mass(*of(hard, soft), radius=R)
    assert kept == pytest.approx(mass(hard), rel=1e-6)
    assert gone == pytest.approx(0.0, abs=1e-2)


def test_soft_drop_removes_only_the_wide_soft_branch():
    # C/A undoes the widest step first: the soft particle goes, the hard pair stops the declustering.
    pair = jet((300.0, 0.0, 0.0), (200.0, 0.2, 0.0))
    assert soft_drop_mass(*of(np.concatenate([pair, jet((20.0, -0.6, 0.3))])), radius=R) == pytest.approx(
        [mass(pair)], rel=1e-6
    )


def test_soft_drop_with_beta_is_gentler_at_small_angles():
    # z = 0.09 at dR = 0.2: below 0.1, but above 0.1 (0.2 / 0.8)^1 = 0.025.
    pair = jet((455.0, 0.0, 0.0), (45.0, 0.2, 0.0))
    assert soft_drop_mass(*of(pair), radius=R)[0] == pytest.approx(0.0, abs=1e-2)
    assert soft_drop_mass(*of(pair), radius=R, beta=1.0)[0] == pytest.approx(mass(pair), rel=1e-6)


def test_soft_drop_agrees_with_the_contrib_code_of_the_wheel():
    import awkward as ak
    import fastjet

    from jettag.simulate.clustering import momenta

    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 40, 30)
    jets = [p4_of(rng.exponential(10, n) + 0.5, rng.normal(0, 0.3, n), rng.normal(0, 0.3, n), 0.14) for n in sizes]
    p4, offsets = of(*jets)
    sequence = fastjet.ClusterSequence(momenta(p4, offsets), fastjet.JetDefinition(fastjet.cambridge_algorithm, 10.0))
    for beta in (0.0, 1.0):
        groomed = sequence.exclusive_jets_softdrop_grooming(njets=1, beta=beta, symmetry_cut=0.1, R0=R)
        expected = ak.to_numpy(ak.flatten(groomed.msoftdrop, axis=None))
        found = soft_drop_mass(p4, offsets, radius=R, beta=beta)
        many = sizes > 1
        assert found[many] == pytest.approx(np.maximum(expected[many], 0.0), rel=1e-6, abs=1e-3)


def test_one_constituent_has_no_soft_drop_mass_and_no_substructure():
    p4, offsets = of(jet((500.0, 0.0, 0.0)))
    assert soft_drop_mass(p4, offsets, radius=R)[0] == pytest.approx(0.0, abs=1e-2)
    assert not n_subjettiness(p4, offsets, radius=R).any()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_tau_n_vanishes_with_n_constituents_and_not_before(count):
    parts = [(200.0, 0.0, 0.0), (150.0, 0.5, 0.0), (100.0, 0.0, 0.5), (80.0, -0.4, -0.4)][:count]
    tau = n_subjettiness(*of(jet(*parts)), radius=R)[0]
    assert np.all(tau[count - 1 :] == 0)
    assert np.all(tau[: count - 1] > 1e-3)


def test_tau_of_a_pair_around_its_axes_is_the_hand_made_sum():
    # Two collimated pairs: with two axes each sits at its pair's pT-weighted centre (to first order in the opening).
    small = 0.02
    parts = [(100.0, 0.0, 0.0), (100.0, small, 0.0), (50.0, 0.0, 0.6), (50.0, small, 0.6)]
    tau = n_subjettiness(*of(jet(*parts)), radius=R)[0]
    assert tau[1] == pytest.approx(300.0 * (small / 2) / (300.0 * R), rel=0.02)


def test_tau_falls_with_n_and_does_not_depend_on_the_scale_of_momentum():
    rng = np.random.default_rng(0)
    p4 = p4_of(rng.exponential(10, 40) + 0.5, rng.normal(0, 0.3, 40), rng.normal(0, 0.3, 40))
    tau = n_subjettiness(*of(p4, 7.0 * p4), radius=R)
    assert np.all(np.diff(tau, axis=1) < 0)
    assert tau[1] == pytest.approx(tau[0], rel=1e-6)


def test_no_jets_have_no_substructure():
    empty = np.zeros((0, 4)), np.array([0])
    assert soft_drop_mass(*empty, radius=R).shape == (0,)
    assert n_subjettiness(*empty, radius=R).shape == (0, 4)
