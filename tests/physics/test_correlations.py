"""Energy correlations: the published sums term by term, and what must not change them."""

import itertools

import numpy as np
import pytest
import torch
import vector

from jettag.physics.correlations import energy_correlations
from jettag.physics.kinematics import boost_z, rotate_z

N = 7


@pytest.fixture
def jets():
    generator = torch.Generator().manual_seed(3)
    momentum = torch.randn(5, N, 3, generator=generator, dtype=torch.float64) + torch.tensor([3.0, 0.0, 0.0])
    energy = (momentum.square().sum(-1) + 0.02).sqrt()
    mask = torch.arange(N) < torch.tensor([7, 5, 3, 2, 1])[:, None]
    return torch.cat([momentum, energy[..., None]], -1), mask


def by_sums(p4, beta):
    """Sums over pairs and triples, angles from vector."""
    px, py, pz, energy = p4.numpy().T
    parts = vector.array({"px": px, "py": py, "pz": pz, "E": energy})
    share = parts.pt / parts.pt.sum()

    def apart(i, j):
        return np.hypot(parts[i].rapidity - parts[j].rapidity, parts[i].deltaphi(parts[j])) ** beta

    pairs, triples = (itertools.combinations(range(len(parts)), size) for size in (2, 3))
    two = sum(share[i] * share[j] * apart(i, j) for i, j in pairs)
    three = sum(share[i] * share[j] * share[k] * apart(i, j) * apart(j, k) * apart(i, k) for i, j, k in triples)
    return float(two), float(three)


@pytest.mark.parametrize("beta", [1.0, 2.0, 0.5])
def test_they_are_the_published_sums(jets, beta):
    p4, mask = jets
    two, three = energy_correlations(p4, mask, beta=beta)
    expected = [by_sums(p4[row][mask[row]], beta) for row in range(len(p4))]
    np.testing.assert_allclose(torch.stack([two, three], 1), expected, rtol=1e-9, atol=1e-15)
    assert three[3] == 0.0  # two constituents
    assert two[4] == 0.0


def test_order_padding_boosts_and_rotations_do_not_matter(jets):
    p4, mask = jets
    expected = torch.stack(energy_correlations(p4, mask))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    wider = torch.nn.functional.pad(p4, (0, 0, 0, 2)), torch.nn.functional.pad(mask, (0, 2))
    for changed in (
        (p4[:, order], mask[:, order]),
        wider,
        (boost_z(p4, 0.8), mask),
        (rotate_z(p4, 2.5), mask),
        (p4 * 3.0, mask),
    ):
        torch.testing.assert_close(torch.stack(energy_correlations(*changed)), expected, rtol=1e-9, atol=1e-14)


def test_splitting_a_constituent_along_itself_changes_nothing(jets):
    """Collinear safety."""
    p4, mask = jets
    p4, mask = p4[:1], mask[:1]
    split = torch.cat([p4[:, :1] * 0.3, p4[:, :1] * 0.7, p4[:, 1:]], 1)
    found = energy_correlations(split, torch.ones(1, N + 1, dtype=torch.bool))
    torch.testing.assert_close(torch.stack(found), torch.stack(energy_correlations(p4, mask)), rtol=1e-9, atol=0)
