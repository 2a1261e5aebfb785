"""Four-vector kernels on tensors, and the pair features of the Particle Transformer: pure functions.

A four-vector ``p4`` is (px, py, pz, energy) in GeV along the last axis; z is the beam. Angles are in rad.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "NUM_PAIR_FEATURES",
    "boost_z",
    "delta_phi",
    "delta_r",
    "eta",
    "indexed_pair_features",
    "mass2",
    "pair_coordinates",
    "pair_features",
    "phi",
    "pt",
    "rapidity",
    "rotate_z",
]

NUM_PAIR_FEATURES = 4
PAIR_EPS = 1e-8  # floor under every logarithm of a pair feature, as published (arXiv:2202.03772, weaver-core)


def pt(p4: Tensor) -> Tensor:
    """Transverse momentum in GeV; (..., 4) -> (...)."""
    return torch.hypot(p4[..., 0], p4[..., 1])


def phi(p4: Tensor) -> Tensor:
    """Azimuth in (-pi, pi]; (..., 4) -> (...)."""
    return torch.atan2(p4[..., 1], p4[..., 0])


def eta(p4: Tensor) -> Tensor:
    """Pseudorapidity asinh(pz / pT); (..., 4) -> (...). Infinite along the beam, 0 for a vanishing momentum."""
    transverse, pz = pt(p4), p4[..., 2]
    return torch.where((transverse == 0) & (pz == 0), 0.0, torch.asinh(pz / transverse))


def rapidity(p4: Tensor) -> Tensor:
    """Rapidity ln((E + pz) / (E - pz)) / 2; (..., 4) -> (...).

    Written as sign(pz) log1p(2|pz| / (E - |pz|)) / 2, which loses nothing for pz < 0 or |pz| << E.
    """
    pz, energy = p4[..., 2], p4[..., 3]
    size = pz.abs()
    return 0.5 * pz.sign() * torch.log1p(2 * size / (energy - size).clamp(min=1e-20))


def mass2(p4: Tensor) -> Tensor:
    """Invariant mass squared in GeV^2, as (E - |p|)(E + |p|); (..., 4) -> (...).

    The product keeps the digits that E^2 - |p|^2 cancels. Negative for space-like vectors.
    """
    momentum = torch.linalg.vector_norm(p4[..., :3], dim=-1)
    squared: Tensor = (p4[..., 3] - momentum) * (p4[..., 3] + momentum)
    return squared


def delta_phi(phi_a: Tensor, phi_b: Tensor) -> Tensor:
    """Signed azimuth difference phi_a - phi_b in (-pi, pi]; any broadcastable shapes."""
    difference = phi_a - phi_b
    wrapped = difference - 2 * math.pi * torch.round(difference / (2 * math.pi))
    return torch.where(wrapped <= -math.pi, wrapped + 2 * math.pi, wrapped)


def delta_r(p4_a: Tensor, p4_b: Tensor) -> Tensor:
    """Distance hypot(eta_a - eta_b, delta_phi) of two four-vectors; (..., 4) twice -> (...)."""
    return torch.hypot(eta(p4_a) - eta(p4_b), delta_phi(phi(p4_a), phi(p4_b)))


def boost_z(p4: Tensor, shift: Tensor | float) -> Tensor:
    """The four-vectors boosted along the beam such that every rapidity grows by ``shift``.

    Args:
        p4: (..., 4) in GeV.
        shift: rapidity of the boost, one number or broadcastable to (...).
    """
    shift = torch.as_tensor(shift, dtype=p4.dtype, device=p4.device)
    px, py, pz, energy = p4.unbind(-1)
    cosh, sinh = torch.cosh(shift), torch.sinh(shift)
    return _stack(px, py, cosh * pz + sinh * energy, cosh * energy + sinh * pz)


def rotate_z(p4: Tensor, angle: Tensor | float) -> Tensor:
    """The four-vectors rotated about the beam such that every azimuth grows by ``angle``.

    Args:
        p4: (..., 4) in GeV.
        angle: in rad, one number or broadcastable to (...).
    """
    angle = torch.as_tensor(angle, dtype=p4.dtype, device=p4.device)
    px, py, pz, energy = p4.unbind(-1)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return _stack(cos * px - sin * py, sin * px + cos * py, pz, energy)


def pair_features(p4_i: Tensor, p4_j: Tensor) -> Tensor:
    """The four pair features of the Particle Transformer: ln kT, ln z, ln Delta, ln m^2 (arXiv:2202.03772, eq. 3).

    Delta is the distance in (rapidity, azimuth), kT = min(pT) Delta, z = min(pT) / (pT_i + pT_j), m^2 the pair's
    mass squared in GeV^2; each is floored at 1e-8 before its logarithm, also for i = j. The order is that of the
    published code, not of the paper. Rounding is part of the definition: neighbouring constituents lie a few float32
    steps apart in azimuth and mass, so these expressions keep the published order of operations instead of the more
    exact `rapidity`, `delta_phi` and `mass2` above, and published weights see what they were trained on.

    Args:
        p4_i: (..., 4) in GeV.
        p4_j: (..., 4) in GeV, broadcastable against ``p4_i``.

    Returns:
        (..., 4), symmetric in i and j, finite for any finite input; at least float32 whatever the input.
    """
    return _of_pairs(_published_coordinates(p4_i), _published_coordinates(p4_j))


def pair_coordinates(p4: Tensor) -> Tensor:
    """(m, 4) in GeV -> (7, m), what `indexed_pair_features` needs of each constituent; at least float32."""
    return torch.stack(_published_coordinates(p4))


def indexed_pair_features(coordinates: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """`pair_features` of constituents ``i`` and ``j`` of a list, each of which has its logarithm and angle taken once.

    Args:
        coordinates: (7, m) from `pair_coordinates`.
        i: (P,) positions in the list.
        j: (P,) likewise.

    Returns:
        (P, 4).
    """
    return _of_pairs(coordinates.index_select(1, i).unbind(0), coordinates.index_select(1, j).unbind(0))


def _of_pairs(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """`pair_features` from `_published_coordinates` of both constituents."""
    (pt_i, y_i, phi_i, *p4_i), (pt_j, y_j, phi_j, *p4_j) = first, second
    wrapped = torch.remainder(phi_i - phi_j + math.pi, 2 * math.pi) - math.pi
    delta = ((y_i - y_j).square() + wrapped.square()).sqrt()
    softer = torch.minimum(pt_i, pt_j)
    px, py, pz, energy = (one + other for one, other in zip(p4_i, p4_j, strict=True))
    values = (
        softer * delta,
        softer / (pt_i + pt_j).clamp(min=PAIR_EPS),
        delta,
        energy.square() - (px.square() + py.square() + pz.square()),
    )
    return torch.stack(values, dim=-1).clamp(min=PAIR_EPS).log()


def _stack(px: Tensor, py: Tensor, pz: Tensor, energy: Tensor) -> Tensor:
    """(..., 4) of components that may still broadcast against one another."""
    zero = torch.zeros_like(px + pz)
    return torch.stack([component + zero for component in (px, py, pz, energy)], dim=-1)


def _at_least_float32(p4: Tensor) -> Tensor:
    return p4.to(torch.promote_types(p4.dtype, torch.float32))


def _published_coordinates(p4: Tensor) -> tuple[Tensor, ...]:
    """Transverse momentum, rapidity and azimuth with the rounding of weaver-core, px, py, pz, energy; GeV, rad."""
    p4 = _at_least_float32(p4)
    px, py, pz, energy = p4.unbind(-1)
    ratio = 1 + 2 * pz / (energy - pz).clamp(min=1e-20)
    # Rounding can push (E + pz) / (E - pz) below zero for a constituent along -z, where weaver-core returns NaN.
    y = 0.5 * ratio.clamp(min=torch.finfo(p4.dtype).eps).log()
    return (px.square() + py.square()).sqrt(), y, torch.atan2(py, px), px, py, pz, energy
