import math

import pytest
import torch

from jettag.models.attention import attend, dropout


def heads(b=3, h=2, q=5, n=7, d=4):
    torch.manual_seed(0)
    shapes = [(b, h, q, d), (b, h, n, d), (b, h, n, d), (b, h, q, n)]
    return [torch.randn(*shape, dtype=torch.float64) for shape in shapes]


def test_attend_is_the_textbook_formula_with_and_without_gradient():
    query, key, value, bias = heads()
    bias[:, :, :, -2:] = -math.inf
    logits = torch.einsum("bhqd,bhnd->bhqn", query, key) / math.sqrt(4) + bias
    weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
    expected = torch.einsum("bhqn,bhnd->bhqd", weights, value)
    torch.testing.assert_close(attend(query, key, value, bias, 0.0), expected)
    query.requires_grad_()
    torch.testing.assert_close(attend(query, key, value, bias, 0.0), expected)


def test_hidden_keys_do_not_matter():
    query, key, value, bias = heads()
    bias[..., -1] = -math.inf
    before = attend(query, key, value, bias, 0.0)
    key[:, :, -1], value[:, :, -1] = 1e3, -1e3
    assert torch.equal(attend(query, key, value, bias, 0.0), before)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_the_rate(p):
    torch.manual_seed(1)
    x = torch.ones(200_003)
    y = dropout(x, p)
    dropped = (y == 0).double().mean().item()
    spread = math.sqrt(p * (1 - p) / len(x))
    assert abs(dropped - p) < 5 * spread + 2**-16
    assert y.max().item() == pytest.approx(1 / (1 - p), rel=1e-4)
    # Entries that share one 64-bit draw are independent of one another.
    zero = (y[:200_000] == 0).view(-1, 4).double()
    assert (torch.corrcoef(zero.T) - torch.eye(4)).abs().max() < 5 / math.sqrt(50_000)


def test_no_dropout_is_the_identity():
    x = torch.randn(5)
    assert dropout(x, 0.0) is x
