import pytest
import torch

from jettag.models import pair_embedding
from jettag.models.layout import Layout
from jettag.models.pair_embedding import PairEmbedding
from jettag.physics.kinematics import pair_features

from .conftest import random_jets


def biases(embedding, layout, p4):
    """(b, H, n, n) of each group."""
    values = embedding(layout.spread(layout.pack(p4)), layout.groups)
    return [embedding.bias(value, group) for value, group in zip(values, layout.groups, strict=True)]


def test_bias_is_symmetric_hides_padding_and_is_the_plain_network():
    """Against the network written out: every ordered pair, PyTorch's own norms."""
    torch.manual_seed(0)
    jets = random_jets([6, 3, 5], dtype=torch.float64)
    embedding = PairEmbedding([8, 2]).double().train()
    layout = Layout.padded(jets.mask)
    (bias,) = biases(embedding, layout, jets.p4)
    real = jets.mask[:, :, None] & jets.mask[:, None, :]
    lower = real & torch.ones(6, 6, dtype=torch.bool).tril()
    features = pair_features(jets.p4[:, :, None], jets.p4[:, None])
    fresh = PairEmbedding([8, 2]).double().train()
    fresh.load_state_dict(embedding.state_dict())
    x = torch.nn.BatchNorm1d(4).double()(features[lower])
    for linear in fresh.linears:
        x = torch.nn.functional.gelu(torch.nn.BatchNorm1d(linear.out_features).double()(linear(x)))
    torch.testing.assert_close(bias.permute(0, 2, 3, 1)[lower], x)
    mutual = real[:, None].expand_as(bias)
    torch.testing.assert_close(bias[mutual], bias.transpose(2, 3)[mutual])
    hidden = (jets.mask[:, :, None] & ~jets.mask[:, None, :])[:, None].expand_as(bias)
    assert (bias[hidden] == -torch.inf).all()
    assert (bias > -torch.inf).any(-1).all(), "a row of only hidden keys is NaN after the softmax"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_moments_of_many_pairs_are_finite_in_half_precision(dtype):
    """Their sum of squares is above 65504, the largest number of fp16."""
    torch.manual_seed(0)
    jets = random_jets([60] * 40)
    layout = Layout.padded(jets.mask)
    exact, half = PairEmbedding([8, 2]).train(), PairEmbedding([8, 2]).train()
    half.load_state_dict(exact.state_dict())
    (expected,) = biases(exact, layout, jets.p4)
    with torch.autocast("cpu", dtype):
        (found,) = biases(half, layout, jets.p4)
    assert sum(len(group.pair_i) for group in layout.groups) > 65504
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("kind", [Layout.packed, Layout.padded])
def test_inference_in_chunks_is_the_network_at_once(kind, monkeypatch):
    monkeypatch.setattr(pair_embedding, "CHUNK", 7)
    torch.manual_seed(0)
    jets = random_jets([6, 3, 5], dtype=torch.float64)
    embedding = PairEmbedding([8, 2]).double().train()
    layout = kind(jets.mask)
    biases(embedding, layout, jets.p4)  # moves the running statistics
    embedding.eval()
    at_once = biases(embedding, layout, jets.p4)
    assert at_once[0].requires_grad
    with torch.inference_mode():
        for one, other in zip(at_once, biases(embedding, layout, jets.p4), strict=True):
            torch.testing.assert_close(other, one.detach(), rtol=1e-12, atol=1e-12)


def kept_bytes(embedding, num_jets):
    """What the graph of so many jets of 40 constituents keeps, and how many pairs they have."""
    jets = random_jets([40] * num_jets)
    layout = Layout.packed(jets.mask)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        embedding(layout.spread(layout.pack(jets.p4)), layout.groups)
    return sum(t.untyped_storage().nbytes() for t in kept.values()), sum(len(g.pair_i) for g in layout.groups)


def test_training_in_chunks_keeps_the_features_and_the_biases_of_a_pair():
    """Before and after their normalisation; not 64 numbers a layer. Pairs of one chunk: more cost a chunk's weights."""
    few, many = (kept_bytes(PairEmbedding([64, 64, 64, 8], recompute=True).train(), jets) for jets in (1, 2))
    assert many[0] - few[0] <= 4 * (4 + 4 + 8) * (many[1] - few[1])
