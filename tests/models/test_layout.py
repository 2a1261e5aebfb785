from dataclasses import replace

import pytest
import torch

from jettag.models.layout import Layout

from .conftest import random_jets


def test_packing_loses_and_invents_nothing(jets):
    for layout in (Layout.packed(jets.mask), Layout.padded(jets.mask), Layout.padded(jets.mask, spare=1)):
        rectangles = layout.spread(layout.pack(jets.features))
        torch.testing.assert_close(layout.unpack(rectangles), jets.features, rtol=0, atol=0)


def test_groups_hold_each_jet_once_and_little_padding(jets):
    layout = Layout.packed(jets.mask)
    assert sorted(torch.cat([group.jets for group in layout.groups]).tolist()) == list(range(len(jets)))
    even = Layout.packed(torch.ones(300, 50, dtype=torch.bool))
    assert all(group.real.all() for group in even.groups)
    assert max(group.real.numel() for group in even.groups) <= 1024
    with torch.autocast("cpu", torch.bfloat16):
        fewer = Layout.packed(torch.ones(300, 50, dtype=torch.bool))
    assert 1024 < max(group.real.numel() for group in fewer.groups) <= 4096


def test_no_group_is_of_one_jet_or_of_one_slot():
    """A compiler would make other programs for them."""
    for lengths in ([50] * 21, [9] * 8 + [1], [1] * 9, [1, 1], [40] * 9 + [30] * 9 + [20] * 8 + [2], [0, 0, 0]):
        layout = Layout.packed(random_jets(lengths).mask)
        assert sum(len(group.real) for group in layout.groups) == len(lengths)
        assert min(size for group in layout.groups for size in group.real.shape) >= 2, lengths
    assert [tuple(group.real.shape) for group in Layout.packed(random_jets([7]).mask).groups] == [(1, 7)]


@pytest.mark.parametrize("kind", [Layout.packed, Layout.padded])
def test_every_unordered_pair_stands_once(jets, kind):
    layout = kind(jets.mask)
    real_pairs = sum(
        len(group.pair_i) if group.pair_is_real is None else int(group.pair_is_real.sum()) for group in layout.groups
    )
    assert real_pairs == sum(n * (n + 1) // 2 for n in jets.mask.sum(1).tolist())


def test_a_mask_with_holes_is_allowed(jets):
    holes = jets.mask.clone()
    holes[0, ::2] = False
    layout = Layout.packed(holes)
    expected = jets.features * holes[..., None]
    torch.testing.assert_close(layout.unpack(layout.spread(layout.pack(jets.features))), expected, rtol=0, atol=0)


def test_order_of_jets_comes_back(jets):
    layout = Layout.packed(jets.mask)
    numbers = torch.arange(len(jets), dtype=torch.float32)[:, None]
    sorted_numbers = torch.cat([group.jets for group in layout.groups])[:, None].float()
    assert torch.equal(layout.in_batch_order(sorted_numbers), numbers)


def test_packing_has_the_gradient_of_indexing(jets):
    x = jets.features.double().requires_grad_()
    for layout in (Layout.packed(jets.mask), Layout.padded(jets.mask), Layout.padded(jets.mask, spare=1)):
        (gradient,) = torch.autograd.grad(layout.unpack(layout.spread(layout.pack(x))).square().sum(), x)
        torch.testing.assert_close(gradient, 2 * x.detach() * jets.mask[..., None])


def test_nan_in_padding_is_dropped(jets):
    dirty = replace(jets, features=jets.features.masked_fill(~jets.mask[..., None], torch.nan))
    for layout in (Layout.packed(jets.mask), Layout.padded(jets.mask)):
        assert layout.pack(dirty.features).isfinite().all()


def test_random_jets_are_what_the_tests_think():
    assert random_jets([3, 1]).mask.tolist() == [[True, True, True], [True, False, False]]
