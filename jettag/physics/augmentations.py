"""The augmentations of JetCLR on four-momenta: pure functions of a batch and of numbers drawn before.

A constituent stands at (deta, dphi) from its jet's axis. Moving it changes its pseudorapidity and azimuth and keeps its
transverse momentum and its mass, so the energy follows; every feature and pair feature is then computed from the moved
four-momenta. Nothing is random here: what is drawn comes in, one row a jet, so that a batch gives the same views
however it is cut.

Reference:
    Dillon et al., Symmetries, safety, and self-supervision, arXiv:2108.04253. The published code also shifts padded
    entries and takes the jet's extent over them, and may split padded parents; here real constituents alone count.
"""

import torch
from torch import Tensor

from jettag.physics.kinematics import eta, mass2, phi, pt

__all__ = ["moved", "rotated", "smeared", "split", "translated"]


def moved(p4: Tensor, shift_eta: Tensor, shift_phi: Tensor) -> Tensor:
    """Four-momenta with pseudorapidity and azimuth shifted; transverse momentum and mass stay.

    Args:
        p4: (..., 4) in GeV; zeros stay zeros.
        shift_eta: (...).
        shift_phi: (...) in rad.
    """
    transverse, squared = pt(p4), mass2(p4).clamp(min=0)
    new_eta, new_phi = eta(p4) + shift_eta, phi(p4) + shift_phi
    pz = transverse * torch.sinh(new_eta)
    energy = (squared + (transverse * torch.cosh(new_eta)).square()).sqrt()
    return torch.stack([transverse * new_phi.cos(), transverse * new_phi.sin(), pz, energy], dim=-1)


def rotated(deta: Tensor, dphi: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Constituents turned about the jet axis by one angle a jet.

    Args:
        deta: (B, N) from the jet axis.
        dphi: (B, N) in rad.
        angle: (B,) in rad.
    """
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    return cos * deta - sin * dphi, sin * deta + cos * dphi


def translated(deta: Tensor, dphi: Tensor, mask: Tensor, share: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """The whole jet moved, by at most ``width`` times its own extent in each direction.

    Args:
        deta: (B, N) from the jet axis.
        dphi: (B, N) in rad.
        mask: (B, N) bool, True where a constituent is real.
        share: (B, 2) in [-1, 1], of the largest shift in each direction.
        width: largest shift over the extent (largest minus smallest coordinate of the real constituents, 0 where
            there are none).
    """
    shifts = []
    real = mask.any(1)
    for coordinate, part in zip((deta, dphi), share.unbind(1), strict=True):
        highest = coordinate.masked_fill(~mask, -torch.inf).amax(1)
        lowest = coordinate.masked_fill(~mask, torch.inf).amin(1)
        shifts.append((part * width * torch.where(real, highest - lowest, 0.0))[:, None])
    return deta + shifts[0], dphi + shifts[1]


def smeared(deta: Tensor, dphi: Tensor, transverse: Tensor, normal: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Soft smearing: each direction is shifted by a Gaussian of width ``strength`` / pT, at most 1.

    Args:
        deta: (B, N) from the jet axis.
        dphi: (B, N) in rad.
        transverse: (B, N) transverse momentum in GeV.
        normal: (B, N, 2) standard normal numbers.
        strength: in GeV, the scale Lambda_soft below which emissions do not count; also the floor under pT.
    """
    width = strength / transverse.clamp(min=strength)
    return deta + width * normal[..., 0], dphi + width * normal[..., 1]


def split(
    p4: Tensor, companions: Tensor, mask: Tensor, order: Tensor, share: Tensor, slots: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Collinear splitting: chosen constituents become two in the same direction, as many as there are free slots.

    A parent of four-momentum p leaves r p behind and (1 - r) p in a free slot, each parent once. A jet of n
    constituents splits min(n, slots - n) of them; a jet that fills its slots splits none.

    Args:
        p4: (B, N, 4) in GeV, real constituents first.
        companions: (B, N, K) what a child takes over from its parent unchanged.
        mask: (B, N) bool.
        order: (B, N) random numbers: the parents are the real constituents with the smallest.
        share: (B, N) the fractions r in [0, 1].
        slots: constituents a jet may have.

    Returns:
        ``p4`` (B, N', 4), ``companions`` (B, N', K) and ``mask`` (B, N'), N' at most ``slots`` and at least N.
    """
    batch, width = mask.shape
    count = mask.sum(1)
    num_splits = torch.minimum(count, (slots - count).clamp(min=0))
    new_width = max(min(2 * width, slots), width)
    rank = order.masked_fill(~mask, torch.inf).argsort(1)  # (B, N): the i-th to split stands in slot rank[:, i]
    splits = torch.arange(width, device=mask.device) < num_splits[:, None]
    keep = torch.zeros_like(share).scatter(1, rank, torch.where(splits, 1 - share.gather(1, rank), 0.0))
    child = p4.gather(1, rank[..., None].expand(-1, -1, 4)) * keep.gather(1, rank)[..., None]
    carried = companions.gather(1, rank[..., None].expand(-1, -1, companions.shape[-1]))
    # The i-th child goes to slot count + i; slots beyond the last split are written to an extra one and cut off.
    target = torch.where(splits, count[:, None] + torch.arange(width, device=mask.device), new_width)

    def spread(parents: Tensor, children: Tensor) -> Tensor:
        wide = parents.new_zeros(batch, new_width + 1, parents.shape[-1])
        wide[:, :width] = parents
        return wide.scatter(1, target[..., None].expand_as(children), children)[:, :new_width]

    real = torch.arange(new_width, device=mask.device) < (count + num_splits)[:, None]
    momenta = spread(p4 * (1 - keep)[..., None], child)
    return momenta * real[..., None], spread(companions, carried) * real[..., None], real
