"""Batch normalisation: PyTorch's, of the rows that count, and the same bits in every order."""

import pytest
import torch

from jettag.models.batch_norm import RealBatchNorm


def test_real_batch_norm_is_batch_norm_of_the_real_rows():
    torch.manual_seed(0)
    x = torch.randn(40, 3, dtype=torch.float64) * 3 + 1
    real = torch.rand(40) < 0.6
    ours, theirs = RealBatchNorm(3).double(), torch.nn.BatchNorm1d(3).double()
    torch.testing.assert_close(ours(x, real)[real], theirs(x[real]))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert ours.num_batches_tracked == 1
    torch.testing.assert_close(ours.eval()(x, real)[real], theirs.eval()(x[real]))


def test_a_single_row_is_left_to_the_running_statistics():
    norm = RealBatchNorm(3)
    x = torch.randn(1, 3)
    torch.testing.assert_close(norm(x), x, rtol=1e-4, atol=1e-4)
    assert norm.running_var.tolist() == [1, 1, 1]


def rows(number, seed=0, spread=1.0):
    return 1 + spread * torch.randn(number, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scaled", [True, False])
def test_gradients_are_those_of_its_definition(scaled):
    torch.manual_seed(0)
    norm = RealBatchNorm(3).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, is_real = rows(8).double().requires_grad_(), torch.arange(8) % 3 > 0
    assert torch.autograd.gradcheck(lambda x: norm(x, is_real, scaled=scaled), x)
    assert torch.autograd.gradcheck(lambda x: norm(x, scaled=scaled), x)


def test_rows_that_differ_little_have_the_same_bits_in_every_order():
    """As many processes have them. Their sum in single precision is known to 1e-7, here a hundredth of their width."""
    x, order = rows(999, spread=1e-5), torch.randperm(999, generator=torch.Generator().manual_seed(1))
    pull = rows(999, seed=2)
    found = []
    for turn in (torch.arange(999), order):
        one = x[turn].requires_grad_()
        standard = RealBatchNorm(3)(one)
        standard.backward(pull[turn])
        found.append((standard.detach(), one.grad))
    for straight, turned in zip(*found, strict=True):
        assert torch.equal(straight[order], turned)


def test_what_half_precision_gave_is_normalised_in_single():
    x = rows(99, spread=0.1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = RealBatchNorm(3)(x)
    assert torch.equal(found, RealBatchNorm(3)(x.float()))
