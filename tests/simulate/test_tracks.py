import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from jettag.simulate.tracks import LIGHT, to_calorimeter, to_perigee
from tests.simulate.conftest import p4_of

FIELD = 3.8


def sample(count, seed=0):
    rng = np.random.default_rng(seed)
    p4 = p4_of(rng.exponential(5.0, count) + 0.3, rng.normal(0, 1.2, count), rng.uniform(-np.pi, np.pi, count), 0.14)
    return p4, rng.choice([-1, 1], count), rng.normal(0, [3.0, 3.0, 30.0], (count, 3))


def helix(p4, charge, vertex, path, field=FIELD):
    """Position and azimuth after a transverse path, integrated from dphi/ds = -0.2998 q B / pT in small steps."""
    pt = np.hypot(p4[0], p4[1])
    steps = 4000
    s = np.linspace(0.0, path, steps + 1)
    phi = np.arctan2(p4[1], p4[0]) - charge * LIGHT * field / (1000.0 * pt) * (s[:-1] + s[1:]) / 2
    ds = path / steps
    return vertex + np.array([np.sum(np.cos(phi)) * ds, np.sum(np.sin(phi)) * ds, path * p4[2] / pt])


@pytest.mark.parametrize("seed", range(6))
def test_perigee_is_the_closest_point_of_the_integrated_helix(seed):
    p4, charge, vertex = (x[0] for x in sample(1, seed))
    d0, dz, phi = (x[0] for x in to_perigee(p4[None], charge[None], vertex[None], FIELD))
    closest = minimize_scalar(
        lambda s: np.hypot(*helix(p4, charge, vertex, s)[:2]),
        bounds=(-60, 60),
        method="bounded",
        options={"xatol": 1e-9},
    )
    point = helix(p4, charge, vertex, closest.x)
    assert abs(d0) == pytest.approx(np.hypot(*point[:2]), abs=1e-5)
    assert dz == pytest.approx(point[2], abs=1e-3)
    # Delphes' sign: (x py - y px) / pT at the perigee.
    assert d0 == pytest.approx(point[0] * np.sin(phi) - point[1] * np.cos(phi), abs=1e-4)


def test_a_stiff_track_has_the_impact_parameter_of_its_straight_line():
    p4, charge, vertex = sample(200)
    p4 = p4 * 1e5
    d0, dz, _ = to_perigee(p4, charge, vertex, FIELD)
    pt = np.hypot(p4[:, 0], p4[:, 1])
    along = (vertex[:, 0] * p4[:, 0] + vertex[:, 1] * p4[:, 1]) / pt
    assert d0 == pytest.approx((vertex[:, 0] * p4[:, 1] - vertex[:, 1] * p4[:, 0]) / pt, abs=1e-4)
    assert dz == pytest.approx(vertex[:, 2] - along * p4[:, 2] / pt, abs=1e-4)


def test_mirror_and_charge_conjugation_flip_d0_and_nothing_else():
    p4, charge, vertex = sample(500)
    mirror = np.array([1.0, -1.0, 1.0])
    d0, dz, phi = to_perigee(p4, charge, vertex, FIELD)
    d0_m, dz_m, phi_m = to_perigee(p4 * [*mirror, 1.0], -charge, vertex * mirror, FIELD)
    assert d0_m == pytest.approx(-d0, abs=1e-9)
    assert dz_m == pytest.approx(dz, abs=1e-9)
    assert phi_m == pytest.approx(-phi, abs=1e-12)


def test_rotation_about_the_beam_changes_no_impact_parameter():
    p4, charge, vertex = sample(500)
    c, s = np.cos(1.1), np.sin(1.1)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    turned = np.concatenate([p4[:, :3] @ turn.T, p4[:, 3:]], axis=1)
    before, after = to_perigee(p4, charge, vertex, FIELD), to_perigee(turned, charge, vertex @ turn.T, FIELD)
    assert after[0] == pytest.approx(before[0], abs=1e-9)
    assert after[1] == pytest.approx(before[1], abs=1e-9)


def test_particles_leave_on_the_surface_of_the_cylinder():
    p4, charge, vertex = sample(2000)
    charge[::5] = 0
    x, y, z = to_calorimeter(p4, charge, vertex, field=FIELD, cylinder_radius=1290.0, half_length=3000.0)
    radius = np.hypot(x, y)
    barrel = np.isclose(radius, 1290.0) & (np.abs(z) <= 3000.0 + 1e-6)
    endcap = np.isclose(np.abs(z), 3000.0) & (radius <= 1290.0 + 1e-6)
    assert np.all(barrel | endcap)
    assert barrel.any()
    assert endcap.any()


@pytest.mark.parametrize("seed", range(4))
def test_the_first_crossing_is_where_the_integrated_helix_leaves(seed):
    p4, charge, vertex = (x[0] for x in sample(1, seed + 20))
    x, y, z = (
        v[0]
        for v in to_calorimeter(
            p4[None], charge[None], vertex[None], field=FIELD, cylinder_radius=1290.0, half_length=3000.0
        )
    )
    path = (z - vertex[2]) * np.hypot(p4[0], p4[1]) / p4[2]
    assert path > 0
    assert helix(p4, charge, vertex, path) == pytest.approx([x, y, z], abs=0.05)
    inside = [helix(p4, charge, vertex, path * f) for f in np.linspace(0.01, 0.99, 40)]
    assert max(np.hypot(p[0], p[1]) for p in inside) < 1290.0
