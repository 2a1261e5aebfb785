"""What is hidden: how many, never padding, never all, and of each pattern its own law."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.data.jets import Jets
from jettag.objectives.masks import PATTERNS, draw_hidden
from jettag.physics.kinematics import delta_r, pt


def make_jets(counts, seed=0, padding=3):
    """Jets with momenta drawn at random; padding is zero."""
    rng = np.random.default_rng(seed)
    shape = (len(counts), max(counts) + padding)
    size, eta, phi = rng.exponential(20, shape) + 0.5, rng.normal(0, 0.2, shape), rng.normal(0, 0.2, shape)
    mask = np.arange(shape[1]) < np.array(counts)[:, None]
    p4 = np.stack([size * np.cos(phi), size * np.sin(phi), size * np.sinh(eta), size * np.cosh(eta)], -1)
    p4 = torch.from_numpy((p4 * mask[..., None]).astype(np.float32))
    return Jets(features=p4.clone(), p4=p4, mask=torch.from_numpy(mask))


def generator(seed):
    return torch.Generator().manual_seed(seed)


counts = st.lists(st.integers(1, 40), min_size=1, max_size=8)


@given(counts=counts, fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9), pattern=st.sampled_from(sorted(PATTERNS)))
@settings(max_examples=150, deadline=None)
def test_some_real_constituents_are_hidden_and_never_all(counts, fraction, seed, pattern):
    jets = make_jets(counts, seed)
    hidden = draw_hidden(jets, fraction, generator(seed), pattern=pattern)
    assert not (hidden & ~jets.mask).any()
    for row, n in zip(hidden, counts, strict=True):
        most = min(max(int(np.round(np.float32(n) * np.float32(fraction))), 1), n - 1)
        number = int(row.sum())
        if pattern in ("radius", "pt_fraction"):
            assert min(1, n - 1) <= number <= (most if pattern == "radius" else n - 1)
        else:
            assert number == most


@given(counts=counts, fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_hidden_pt_is_no_more_than_the_fraction(counts, fraction, seed):
    jets = make_jets(counts, seed)
    hidden = draw_hidden(jets, fraction, generator(seed), pattern="pt_fraction")
    share = (pt(jets.p4) * hidden).sum(1) / pt(jets.p4).sum(1)
    assert ((share <= fraction * (1 + 1e-5)) | (hidden.sum(1) == 1)).all()


@given(counts=counts, seed=st.integers(0, 9), pattern=st.sampled_from(["nearest", "radius"]))
@settings(max_examples=60, deadline=None)
def test_a_blob_is_a_centre_and_what_is_nearest_to_it(counts, seed, pattern):
    """Of some hidden constituent no visible one is nearer than a hidden one; within the radius in its pattern."""
    jets = make_jets(counts, seed)
    hidden = draw_hidden(jets, 0.4, generator(seed), pattern=pattern, radius=0.15)
    for p4, mask, row in zip(jets.p4, jets.mask, hidden, strict=True):
        if not row.any():
            continue
        inside, outside = p4[row].double(), p4[mask & ~row].double()
        far = torch.stack([delta_r(inside, centre).max() for centre in inside])
        near = torch.stack([delta_r(outside, centre).min() for centre in inside])
        fits = far <= near + 1e-6
        if pattern == "radius":
            fits &= far <= 0.15 + 1e-6
        assert fits.any()


def test_the_hardest_are_the_leading_ones():
    jets = make_jets([10, 5, 1])
    hidden = draw_hidden(jets, 0.4, pattern="hardest")
    for p4, mask, row, number in zip(jets.p4, jets.mask, hidden, [4, 2, 0], strict=True):
        assert set(row.nonzero().flatten().tolist()) == set((pt(p4) * mask).argsort(descending=True)[:number].tolist())


def test_the_draw_follows_its_generator_and_random_favours_no_slot():
    jets = make_jets([10] * 4000, padding=0)
    first = draw_hidden(jets, 0.3, generator(1))
    assert torch.equal(first, draw_hidden(jets, 0.3, generator(1)))
    # Each slot is hidden with probability 0.3: binomial, 4000 draws, five standard deviations.
    assert (first.float().mean(0) - 0.3).abs().max() < 5 * (0.3 * 0.7 / 4000) ** 0.5


def test_pt_weighted_hides_in_proportion_to_pt():
    """One of three with pT 1, 2 and 5: hidden with probability 1/8, 2/8 and 5/8; five standard deviations."""
    p4 = torch.tensor([[1.0, 0, 0, 1], [2, 0, 0, 2], [5, 0, 0, 5]]).expand(8000, -1, -1)
    jets = Jets(features=p4, p4=p4, mask=torch.ones(8000, 3, dtype=torch.bool))
    found = draw_hidden(jets, 0.3, generator(2), pattern="pt_weighted").float().mean(0)
    expected = torch.tensor([1.0, 2, 5]) / 8
    assert ((found - expected).abs() < 5 * (expected * (1 - expected) / 8000).sqrt()).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_two_constituents_hide_one(pattern):
    assert draw_hidden(make_jets([2] * 20), 0.9, generator(0), pattern=pattern).sum(1).tolist() == [1] * 20
