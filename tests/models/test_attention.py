import math

import pytest
import torch

from jettag.models.attention import ClassBlock, attend, gelu


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


def test_class_attention_is_the_textbook_formula_with_all_gradients():
    """Keys and values written out, where the block projects the query instead."""
    torch.manual_seed(0)
    options = {"mlp_ratio": 2, "drop": 0.0, "attention_drop": 0.0, "drop_path": 0.0}
    block = ClassBlock(8, 2, **options).double()
    with torch.no_grad():
        for value in block.parameters():
            value.add_(0.3 * torch.randn_like(value))
    token, x = torch.randn(3, 1, 8, dtype=torch.float64), torch.randn(3, 5, 8, dtype=torch.float64)
    hidden = torch.zeros(3, 1, 1, 6, dtype=torch.float64)
    hidden[0, ..., -2:] = -math.inf

    seen = block.norm_in(torch.cat([token, x], 1))
    weight, bias = block.qkv.weight.chunk(3), block.qkv.bias.chunk(3)
    query, key, value = (
        (source @ w.T + b).view(3, -1, 2, 4).transpose(1, 2)
        for source, w, b in zip((token, seen, seen), weight, bias, strict=True)
    )
    weights = (query @ key.transpose(2, 3) / 2 + hidden).softmax(-1)
    after = token + block._project((weights @ value).transpose(1, 2).flatten(2))
    expected = block.residual_scale * after + block._mlp(after)
    found = block(token, x, hidden)
    torch.testing.assert_close(found, expected)
    parameters = list(block.parameters())
    for a, b in zip(
        torch.autograd.grad(found.sin().sum(), parameters),
        torch.autograd.grad(expected.sin().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_gelu_works_in_place_only_where_no_gradient_needs_its_input():
    x = torch.randn(50)
    expected = torch.nn.functional.gelu(x)
    kept = x.clone().requires_grad_()
    assert torch.equal(gelu(kept), expected)
    assert torch.equal(kept, x)
    assert torch.equal(gelu(x), expected)
    assert torch.equal(x, expected)


@pytest.mark.parametrize("shape", [(3, 2, 5, 7), (3, 1, 1, 7)])
@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_the_gradient_of_attention_is_that_of_finite_differences(shape, drop):
    *inputs, _ = heads()
    bias = torch.randn(shape, dtype=torch.float64)
    bias[..., -1] = -math.inf
    inputs = [x.requires_grad_() for x in (*inputs, bias)]

    def seeded(*inputs):
        torch.manual_seed(2)
        return attend(*inputs, drop)

    finite = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(seeded, (*inputs[:3], finite))
    gradients = torch.autograd.grad(attend(*inputs, drop).square().sum(), inputs)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[1][:, :, -1] == 0).all(), "a hidden key has no gradient"
