"""Charged particles in the solenoid: where they reach the calorimeter, and their impact parameters at the perigee.

The field points along +z, so a positive particle turns clockwise seen from +z. With the signed radius
r = 1000 pT / (0.299792458 q B) [mm], momentum azimuth phi and production point (x, y), the circle's centre is
(x + r sin phi, y - r cos phi) and after a transverse path s the azimuth is phi - s / r.
"""

import numpy as np

from jettag.simulate.events import Floats, Ints

__all__ = ["to_calorimeter", "to_perigee"]

LIGHT = 0.299792458  # GeV per tesla and metre


def _centre(p4: Floats, charge: Ints, vertex: Floats, field: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Signed radius, centre x and y [mm], azimuth of the momentum."""
    pt = np.hypot(p4[:, 0], p4[:, 1])
    radius = 1000.0 * pt / (LIGHT * charge * field)
    # sin(phi) = py / pT: no trigonometric function where a ratio does.
    return (
        radius,
        vertex[:, 0] + radius * p4[:, 1] / pt,
        vertex[:, 1] - radius * p4[:, 0] / pt,
        np.arctan2(p4[:, 1], p4[:, 0]),
    )


def to_perigee(p4: Floats, charge: Ints, vertex: Floats, field: float) -> tuple[Floats, Floats, Floats]:
    """Impact parameters and direction at the closest approach to the beam line.

    Args:
        p4: (P, 4) at production [GeV], pT above zero.
        charge: (P,) [e], not zero.
        vertex: (P, 3) [mm] from the primary vertex.
        field: [T], not zero.

    Returns:
        d0 [mm] in the sign of Delphes and JetClass, (x py - y px) / pT, which is minus the ATLAS and CMS one;
        dz [mm]; azimuth of the momentum there. (P,) each.
    """
    radius, x, y, phi = _centre(p4, charge, vertex, field)
    sign = np.sign(radius)
    d0 = sign * (np.hypot(x, y) - np.abs(radius))
    phi_perigee = np.arctan2(sign * x, -sign * y)
    turned = np.remainder(phi - phi_perigee + np.pi, 2.0 * np.pi) - np.pi
    dz = vertex[:, 2] + radius * turned * p4[:, 2] / np.hypot(p4[:, 0], p4[:, 1])
    return d0, dz, phi_perigee


def to_calorimeter(
    p4: Floats, charge: Ints, vertex: Floats, *, field: float, cylinder_radius: float, half_length: float
) -> tuple[Floats, Floats, Floats]:
    """Where particles leave the tracking volume, a cylinder around the beam.

    Args:
        p4: (P, 4) [GeV], pT above zero.
        charge: (P,) [e].
        vertex: (P, 3) [mm], inside the cylinder.
        field: [T].
        cylinder_radius: [mm].
        half_length: of the cylinder [mm].

    Returns:
        x, y, z [mm], (P,) each.
    """
    pt = np.hypot(p4[:, 0], p4[:, 1])
    slope = p4[:, 2] / pt
    with np.errstate(divide="ignore"):
        to_endcap = np.where(slope != 0.0, (np.sign(slope) * half_length - vertex[:, 2]) / slope, np.inf)
    path = np.empty(len(pt))
    x, y = vertex[:, 0].copy(), vertex[:, 1].copy()

    straight = (charge == 0) | (field == 0.0)
    ux, uy = p4[straight, 0] / pt[straight], p4[straight, 1] / pt[straight]
    along = x[straight] * ux + y[straight] * uy
    inside = cylinder_radius**2 - x[straight] ** 2 - y[straight] ** 2
    path[straight] = np.minimum(-along + np.sqrt(along**2 + np.maximum(inside, 0.0)), to_endcap[straight])
    x[straight] += path[straight] * ux
    y[straight] += path[straight] * uy

    bent = ~straight
    radius, xc, yc, phi = _centre(p4[bent], charge[bent], vertex[bent], field)
    distance = np.hypot(xc, yc)
    # |position|^2 = distance^2 + r^2 - 2 r distance sin(phi(s) - phi_centre) = cylinder_radius^2
    with np.errstate(divide="ignore", invalid="ignore"):
        sine = (distance**2 + radius**2 - cylinder_radius**2) / (2.0 * radius * distance)
    reaches = np.abs(sine) <= 1.0
    base = np.arctan2(yc, xc)
    angle = np.arcsin(np.clip(np.where(reaches, sine, 0.0), -1.0, 1.0))
    turn = np.sign(radius)
    first = np.remainder(turn * (phi - base - angle), 2.0 * np.pi)
    second = np.remainder(turn * (phi - base - np.pi + angle), 2.0 * np.pi)
    to_barrel = np.where(reaches, np.abs(radius) * np.minimum(first, second), np.inf)
    path[bent] = np.minimum(to_barrel, to_endcap[bent])
    # A curling particle without longitudinal momentum goes nowhere: it stays.
    path[~np.isfinite(path)] = 0.0
    end = phi - path[bent] / radius
    x[bent], y[bent] = xc - radius * np.sin(end), yc + radius * np.cos(end)
    return x, y, vertex[:, 2] + path * slope
