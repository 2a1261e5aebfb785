import math

import pytest
import torch

from jettag.physics.augmentations import moved, rotated, smeared, split, translated
from jettag.physics.kinematics import eta, mass2, phi, pt


def jets(batch=20, width=9, seed=0, dtype=torch.float64):
    """(pT, deta, dphi) pictures with padding, and their four-momenta about jets at eta 0.7, phi 3."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(width) < torch.randint(1, width + 1, (batch, 1), generator=g)
    deta, dphi = 0.3 * torch.randn(2, batch, width, generator=g, dtype=dtype)
    transverse = 1 + 50 * torch.rand(batch, width, generator=g, dtype=dtype)
    mass = 0.14 * torch.ones_like(transverse)
    y, azimuth = 0.7 + deta, 3.0 + dphi
    pz = transverse * y.sinh()
    energy = (transverse**2 + pz**2 + mass**2).sqrt()
    p4 = torch.stack([transverse * azimuth.cos(), transverse * azimuth.sin(), pz, energy], -1)
    return p4 * mask[..., None], deta * mask, dphi * mask, mask, transverse * mask


def picture_mass2(transverse, deta, dphi):
    """sum_ij pT_i pT_j delta_ij^2: the mass of the (pT, deta, dphi) picture for small angles, by a double loop."""
    total = torch.zeros(len(transverse), dtype=transverse.dtype)
    for i in range(transverse.shape[1]):
        for j in range(transverse.shape[1]):
            distance2 = (deta[:, i] - deta[:, j]) ** 2 + (dphi[:, i] - dphi[:, j]) ** 2
            total += transverse[:, i] * transverse[:, j] * distance2
    return total


def test_rotation_and_translation_leave_the_picture_s_mass():
    _, deta, dphi, mask, transverse = jets()
    before = picture_mass2(transverse, deta, dphi)
    turned = rotated(deta, dphi, torch.rand(20, dtype=torch.float64) * 2 * math.pi)
    assert not torch.allclose(turned[0], deta)
    torch.testing.assert_close(picture_mass2(transverse, *turned), before)
    share = torch.rand(20, 2, dtype=torch.float64) * 2 - 1
    shifted = translated(deta, dphi, mask, share, 1.0)
    torch.testing.assert_close(picture_mass2(transverse, *shifted), before)


def test_a_translation_is_a_share_of_the_extent_of_real_constituents():
    deta = torch.tensor([[0.1, 0.5, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False, False]])
    shifted, _ = translated(deta, torch.zeros(1, 4), mask, torch.tensor([[0.5, 0.3]]), 2.0)
    torch.testing.assert_close(shifted[mask] - deta[mask], torch.full((2,), 0.5 * 2.0 * 0.4))


def test_a_quarter_turn_takes_eta_to_phi():
    deta, dphi = rotated(torch.tensor([[0.2]]), torch.tensor([[0.0]]), torch.tensor([math.pi / 2]))
    torch.testing.assert_close((deta, dphi), (torch.tensor([[0.0]]), torch.tensor([[0.2]])), atol=1e-7, rtol=0)


def test_moving_keeps_transverse_momentum_and_mass():
    p4, _, _, mask, transverse = jets()
    g = torch.Generator().manual_seed(3)
    shift_eta, shift_phi = torch.randn(2, *mask.shape, generator=g, dtype=torch.float64)
    after = moved(p4, shift_eta, shift_phi)
    torch.testing.assert_close(pt(after), transverse)
    torch.testing.assert_close(mass2(after)[mask], mass2(p4)[mask], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close((eta(after) - eta(p4))[mask], shift_eta[mask])
    turned = torch.remainder(phi(after) - phi(p4) - shift_phi + math.pi, 2 * math.pi) - math.pi
    assert turned[mask].abs().max() < 1e-9
    assert (after[~mask] == 0).all()


def test_smearing_vanishes_as_momentum_grows():
    normal = torch.randn(2000, 3, 2, generator=torch.Generator().manual_seed(1))
    transverse = torch.tensor([0.01, 1.0, 100.0]).expand(2000, 3)
    deta, dphi = smeared(torch.zeros(2000, 3), torch.zeros(2000, 3), transverse, normal, 0.1)
    for shift in (deta, dphi):
        width = shift.std(0)
        torch.testing.assert_close(width, torch.tensor([1.0, 0.1, 0.001]), rtol=0.06, atol=0)


@pytest.mark.parametrize("slots", [9, 12, 18, 40])
def test_splitting_conserves_four_momentum_and_fills_free_slots(slots):
    p4, _, _, mask, _ = jets()
    g = torch.Generator().manual_seed(2)
    order, share = torch.rand(2, *mask.shape, generator=g, dtype=torch.float64)
    names = torch.arange(mask.numel(), dtype=torch.float64).view(*mask.shape, 1) + 1
    after, carried, real = split(p4, names, mask, order, share, slots)
    torch.testing.assert_close(after.sum(1), p4.sum(1))
    for jet in range(len(mask)):
        n = int(mask[jet].sum())
        assert int(real[jet].sum()) == n + max(min(n, slots - n), 0)
        assert real[jet, : int(real[jet].sum())].all()
        # Each constituent and its child, found by the name both carry, add up to what it was, in one direction.
        for i in range(n):
            family = after[jet][carried[jet, :, 0] == names[jet, i, 0]]
            assert len(family) <= 2
            torch.testing.assert_close(family.sum(0), p4[jet, i])
            torch.testing.assert_close(eta(family), eta(p4[jet, i]).expand(len(family)))
    assert (after[~real] == 0).all()
    assert (carried[~real] == 0).all()
