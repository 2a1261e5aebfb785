import pytest
import torch

from jettag.data.jets import Jets


def random_jets(counts, num_features=17, width=None, seed=0, dtype=torch.float32):
    """Jets with these numbers of constituents: falling pT around an axis, masses above zero."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.as_tensor(counts)
    b, n = len(counts), width or int(counts.max())

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    pt, eta, phi = torch.exp(1.5 + 1.2 * normal(b, n)), 0.3 * normal(b, n) + normal(b, 1), 0.3 * normal(b, n)
    px, py, pz = pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()
    energy = (px**2 + py**2 + pz**2 + 0.0195).sqrt()  # pion mass squared
    mask = torch.arange(n) < counts[:, None]
    return Jets(
        features=(normal(b, n, num_features) * mask[..., None]).to(dtype),
        p4=(torch.stack([px, py, pz, energy], -1) * mask[..., None]).to(dtype),
        mask=mask,
        label=torch.randint(0, 5, (b,), generator=generator),
    )


@pytest.fixture
def jets():
    """Twenty jets of very different length, one of them a single constituent."""
    return random_jets([30, 1, 2, 17, 40, 33, 5, 28, 25, 26, 31, 22, 40, 12, 9, 38, 3, 19, 21, 27])
