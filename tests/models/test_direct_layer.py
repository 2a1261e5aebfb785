"""The layer with its own gradient against PyTorch's layers one by one."""

import pytest
import torch

from jettag.models import direct_layer
from jettag.models.direct_layer import DirectLayer


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(direct_layer, "ROWS", 7)


def drawn(inputs, outputs, lengths):
    torch.manual_seed(0)
    shapes = [(outputs, inputs), (outputs,), (outputs,), (outputs,), *((length, inputs) for length in lengths)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (5, 3)])
def test_outputs_statistics_and_gradients_are_those_of_the_layers_one_by_one(inputs, outputs, activate):
    weight, bias, gain, offset, *pieces = parameters = drawn(inputs, outputs, [10, 21, 1])
    norm = torch.nn.BatchNorm1d(outputs, momentum=1.0).double()
    products = torch.nn.functional.linear(torch.cat(pieces), weight, bias)
    norm(products)
    expected = torch.nn.functional.batch_norm(products, None, None, gain, offset, True, eps=norm.eps)
    expected = torch.nn.functional.gelu(expected) if activate else expected
    mean, variance, count, *found = DirectLayer.apply(
        weight, bias, gain, offset, norm.eps, activate, [None] * len(pieces), *pieces
    )
    assert [len(piece) for piece in found] == [10, 21, 1]
    torch.testing.assert_close(torch.cat(found), expected)
    torch.testing.assert_close(mean, norm.running_mean)
    torch.testing.assert_close(variance * count / (count - 1), norm.running_var)
    wanted = torch.autograd.grad(expected.sin().sum(), parameters)
    gradients = torch.autograd.grad(torch.cat(found).sin().sum(), parameters)
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_rows_that_do_not_count_follow_the_others():
    """What they hold changes nothing elsewhere, and finite differences agree."""
    parameters = drawn(3, 4, [9, 8])
    real = [(torch.rand(len(piece), 1) < 0.6).double() for piece in parameters[4:]]

    def outputs(*parameters):
        return torch.cat(DirectLayer.apply(*parameters[:4], 1e-5, True, real, *parameters[4:])[3:])

    assert torch.autograd.gradcheck(outputs, parameters)
    others = [piece + 100 * (1 - counts) for piece, counts in zip(parameters[4:], real, strict=True)]
    counted = torch.cat(real)[:, 0] > 0
    assert 0 < counted.sum() < 17
    torch.testing.assert_close(outputs(*parameters)[counted], outputs(*parameters[:4], *others)[counted])


def test_a_gain_of_zero_has_a_gradient():
    parameters = drawn(3, 4, [12])
    with torch.no_grad():
        parameters[2][0] = 0
    *_, found = DirectLayer.apply(*parameters[:4], 1e-5, True, [None], *parameters[4:])
    gradients = torch.autograd.grad(found.sin().sum(), parameters)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert gradients[2][0] != 0
