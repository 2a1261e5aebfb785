"""Which entries are dropped on the CPU."""

import math

import pytest
import torch

from jettag.models.dropout import Random, dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_dropout_keeps_the_mean_and_the_rate(p):
    """0.1 and 0.3 are no multiples of 1/256: a mask drops a little more or less, many masks as often as they say."""
    torch.manual_seed(1)
    x, masks = torch.ones(5003), 400
    zero = torch.stack([dropout(x, p) == 0 for _ in range(masks)]).double()
    assert dropout(x, p).max().item() == pytest.approx(1 / (1 - p))
    share = p * 256 - int(p * 256)  # of the masks that drop 1/256 more
    spread = math.sqrt((p * (1 - p) / len(x) + share * (1 - share) / 256**2) / masks)
    assert abs(zero.mean().item() - p) < 5 * spread
    rates = zero.mean(1)
    assert rates.max() - rates.min() < 1 / 256 + 8 * math.sqrt(p * (1 - p) / len(x))
    # Neighbouring entries, whose bytes are of one draw, are independent of one another, and so are masks.
    entries = zero[:, :5000].reshape(-1, 8)
    assert (torch.corrcoef(entries.T) - torch.eye(8)).abs().max() < 6 / math.sqrt(len(entries))
    assert (torch.corrcoef(zero[:50]) - torch.eye(50)).abs().max() < 6 / math.sqrt(len(x))


def test_masks_of_one_block_are_independent_and_of_their_own_rates():
    torch.manual_seed(2)
    x = torch.ones(100, 50)
    random = Random(x, 2 * x.numel())
    first, second = (dropout(x, p, random) == 0 for p in (0.2, 0.4))
    assert first.double().mean().item() == pytest.approx(0.2, abs=0.04)
    assert second.double().mean().item() == pytest.approx(0.4, abs=0.04)
    assert torch.corrcoef(torch.stack([first.flatten(), second.flatten()]).double())[0, 1].abs() < 0.07
    with pytest.raises(RuntimeError):
        dropout(x, 0.2, random)


def test_what_is_dropped_has_no_gradient():
    torch.manual_seed(3)
    x = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    y = dropout(x, 0.25)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], (y / x).detach())


def test_no_dropout_is_the_identity():
    x = torch.randn(5)
    assert dropout(x, 0.0) is x
