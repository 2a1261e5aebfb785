import math

import numpy as np
import pytest
import torch
import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.physics import kinematics

finite = st.floats(-4, 4)


def sample(n=200, seed=1):
    """Massive four-vectors of jets and their constituents, float64, (n, 4)."""
    generator = torch.Generator().manual_seed(seed)
    momentum = 20 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    mass = torch.rand(n, generator=generator, dtype=torch.float64) * 3 + 1e-3
    return torch.cat([momentum, (momentum.square().sum(1) + mass**2).sqrt()[:, None]], 1), mass


def as_vector(p4):
    px, py, pz, energy = p4.numpy().T
    return vector.array({"px": px, "py": py, "pz": pz, "E": energy})


def close(ours, expected, tolerance=1e-10):
    np.testing.assert_allclose(ours.numpy(), np.asarray(expected), rtol=tolerance, atol=tolerance)


def test_agrees_with_vector():
    (p4, _), (other, _) = sample(), sample(seed=2)
    theirs, others = as_vector(p4), as_vector(other)
    close(kinematics.pt(p4), theirs.pt)
    close(kinematics.phi(p4), theirs.phi)
    close(kinematics.eta(p4), theirs.eta)
    close(kinematics.rapidity(p4), theirs.rapidity)
    close(kinematics.delta_r(p4, other), theirs.deltaR(others))
    close(kinematics.boost_z(p4, 0.7), np.stack([getattr(theirs.boostZ(beta=math.tanh(0.7)), k) for k in "xyzt"], 1))
    close(kinematics.rotate_z(p4, 0.7), np.stack([getattr(theirs.rotateZ(0.7), k) for k in "xyzt"], 1))


def test_mass2_keeps_digits_that_the_textbook_formula_loses():
    momentum = torch.tensor([300.0, 400.0, 0.0], dtype=torch.float64)
    energy = math.sqrt(500.0**2 + 0.13957**2)
    p4 = torch.cat([momentum, torch.tensor([energy], dtype=torch.float64)])
    assert kinematics.mass2(p4).item() == pytest.approx(0.13957**2, rel=1e-8)
    p4, mass = sample()
    close(kinematics.mass2(p4), mass**2, 1e-7)


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_delta_phi_is_the_same_angle_in_its_range(a, b):
    difference = kinematics.delta_phi(*torch.tensor([a, b], dtype=torch.float64)).item()
    assert -math.pi < difference <= math.pi
    assert math.cos(difference) == pytest.approx(math.cos(a - b), abs=1e-12)
    assert math.sin(difference) == pytest.approx(math.sin(a - b), abs=1e-12)


@pytest.mark.parametrize("turns", [-3, -1, 1, 3])
def test_delta_phi_of_opposite_directions_is_plus_pi(turns):
    pi = torch.tensor(math.pi, dtype=torch.float64)
    assert kinematics.delta_phi(turns * pi, 0 * pi).item() == pytest.approx(math.pi)


def test_rapidity_far_along_the_beam_is_symmetric():
    p4 = torch.tensor([0.1, 0.0, 1000.0, math.sqrt(1000.0**2 + 0.1**2)], dtype=torch.float64)
    mirrored = p4 * torch.tensor([1, 1, -1, 1])
    assert kinematics.rapidity(p4) == -kinematics.rapidity(mirrored)
    # massless: rapidity = pseudorapidity = asinh(pz / pT)
    assert kinematics.rapidity(p4).item() == pytest.approx(math.asinh(1e4), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(finite)
def test_a_boost_adds_to_rapidity_and_leaves_the_rest(shift):
    (p4, _), (other, _) = sample(20), sample(20, seed=2)
    moved = kinematics.boost_z(p4, shift)
    close(kinematics.rapidity(moved), kinematics.rapidity(p4) + shift, 1e-8)
    close(kinematics.pt(moved), kinematics.pt(p4))
    close(kinematics.pair_features(moved, kinematics.boost_z(other, shift)), kinematics.pair_features(p4, other), 1e-6)


@settings(max_examples=30, deadline=None)
@given(finite)
def test_a_rotation_about_the_beam_leaves_pairs_alone(angle):
    (p4, _), (other, _) = sample(20), sample(20, seed=2)
    rotated, rotated_other = kinematics.rotate_z(p4, angle), kinematics.rotate_z(other, angle)
    close(kinematics.pair_features(rotated, rotated_other), kinematics.pair_features(p4, other), 1e-8)
    close(kinematics.delta_r(rotated, rotated_other), kinematics.delta_r(p4, other), 1e-8)
    turned = kinematics.delta_phi(kinematics.phi(rotated), kinematics.phi(p4))
    close(torch.cos(turned), np.full(20, math.cos(angle)))


def test_pair_features_by_hand():
    # Two massless constituents at rapidity 0: pT 3 at azimuth 0 and pT 1 at azimuth 0.2.
    angle = 0.2
    a = torch.tensor([3.0, 0.0, 0.0, 3.0], dtype=torch.float64)
    b = torch.tensor([math.cos(angle), math.sin(angle), 0.0, 1.0], dtype=torch.float64)
    expected = [
        math.log(1 * angle),
        math.log(1 / 4),
        math.log(angle),
        math.log(2 * 3 * 1 * (1 - math.cos(angle))),
    ]
    close(kinematics.pair_features(a, b), expected, 1e-9)


def test_pair_features_against_vector():
    (p4, _), (other, _) = sample(), sample(seed=2)
    a, b = as_vector(p4), as_vector(other)
    delta = np.hypot(a.rapidity - b.rapidity, a.deltaphi(b))
    softer = np.minimum(a.pt, b.pt)
    expected = np.stack([softer * delta, softer / (a.pt + b.pt), delta, (a + b).mass2], 1)
    close(kinematics.pair_features(p4, other), np.log(expected), 1e-8)
    close(kinematics.pair_features(other, p4), np.log(expected), 1e-8)


def test_pair_features_are_finite_where_physics_is_not():
    odd = torch.tensor(
        [[0, 0, 0, 0], [0, 0, 5, 5], [0, 0, -5, 5], [1, 0, -900, 900.0004], [1, 1, 0, 1], [1e-3, 0, -1e4, 1e4]],
        dtype=torch.float32,
    )
    values = kinematics.pair_features(odd[:, None], odd[None])
    assert values.isfinite().all()
    same = kinematics.pair_features(odd[4], odd[4])
    assert same[2].item() == pytest.approx(math.log(1e-8)), "a constituent is no distance from itself"


def test_pair_features_are_at_least_float32():
    p4, _ = sample(5)
    assert kinematics.pair_features(p4.bfloat16(), p4.bfloat16()).dtype == torch.float32
    assert kinematics.pair_features(p4, p4).dtype == torch.float64


def test_eta_at_the_limits():
    p4 = torch.tensor([[0, 0, 2, 2], [0, 0, -2, 2], [0, 0, 0, 1]], dtype=torch.float64)
    assert kinematics.eta(p4).tolist() == [math.inf, -math.inf, 0.0]


def test_pairs_of_a_list_are_those_of_its_constituents():
    random = torch.Generator().manual_seed(3)
    p4 = sample(40)[0].float()
    i, j = torch.randint(40, (2, 300), generator=random)
    found = kinematics.indexed_pair_features(kinematics.pair_coordinates(p4), i, j)
    assert torch.equal(found, kinematics.pair_features(p4[i], p4[j]))
    assert torch.isfinite(found).all()
