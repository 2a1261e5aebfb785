"""What a compiler is shown has the numbers and gradients of the layers that it stands for."""

import pytest
import torch
from torch import nn

from jettag.models.dropout import Kept
from jettag.models.traced import dropped, linear, linear_of_normed, normed, scaled_sum


@pytest.fixture(autouse=True)
def looking(monkeypatch):
    monkeypatch.setattr("jettag.models.traced.is_traced", lambda _: True)


@pytest.fixture
def layers():
    torch.manual_seed(4)
    norm, layer = nn.LayerNorm(6).double(), nn.Linear(6, 6).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, layer


def gradients(function, *inputs):
    """The outcome, and the gradients of a sum in which every entry has a weight of its own."""
    outcome = function()
    weights = torch.arange(outcome.numel(), dtype=torch.float64).cos().view(outcome.shape)
    return outcome, *torch.autograd.grad((outcome * weights).sum(), inputs)


def assert_same(stands, layer, *inputs):
    for found, expected in zip(gradients(stands, *inputs), gradients(layer, *inputs), strict=True):
        torch.testing.assert_close(found, expected)


def test_linear_layers_and_norms_are_those_of_pytorch(layers):
    norm, layer = layers
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    weights = (*norm.parameters(), *layer.parameters())
    assert_same(lambda: linear(x, layer.weight, layer.bias), lambda: layer(x), x, *layer.parameters())
    assert_same(lambda: normed(norm, x), lambda: norm(x), x, *norm.parameters())
    assert_same(lambda: linear_of_normed(norm, layer, x), lambda: layer(norm(x)), x, *weights)


def test_the_sum_of_two_branches_is_addcmul():
    torch.manual_seed(5)
    x, y = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True).unbind()
    scale = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert_same(lambda: scaled_sum(x, scale, y), lambda: torch.addcmul(x, scale, y), x, scale, y)


def test_mixed_precision_rounds_products_and_neither_norms_nor_parameters(layers):
    norm, layer = (module.float() for module in layers)
    x = torch.randn(3, 4, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        product, standard = linear_of_normed(norm, layer, x), normed(norm, x)
        (product.float().sum() + standard.sum()).backward()
        of_half = normed(norm, product), norm(product)
    assert (product.dtype, standard.dtype) == (torch.bfloat16, torch.float32)
    assert of_half[0].dtype == of_half[1].dtype == torch.bfloat16
    parameters = [*norm.parameters(), *layer.parameters()]
    found = [x.grad, *(p.grad for p in parameters)]
    expected = torch.autograd.grad(layer(norm(x)).sum() + norm(x).sum(), [x, *parameters])
    for own, exact in zip(found, expected, strict=True):
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, exact, rtol=0.03, atol=0.03 * exact.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_byte_decides_as_a_comparison_would(dtype):
    draws = torch.arange(256, dtype=torch.uint8).view(8, 32)
    x = torch.full((8, 32), 3.0, dtype=dtype, requires_grad=True)
    for number in range(256):
        level = torch.tensor(number, dtype=torch.uint8)
        found = dropped(x, draws, level, level.clone(), 2.0)
        expected = Kept(draws, number, 2.0).thinned(x.detach())
        assert torch.equal(found, expected)
        assert torch.equal(torch.autograd.grad(found.sum(), x)[0], expected / 3)
