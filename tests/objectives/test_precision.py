"""What mixed precision must not round: a comparison of jets, the nearest code or centre, what is to be predicted."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jettag.objectives.codebook import Codebook
from jettag.objectives.contrastive import condition, contrast
from jettag.objectives.observables import Observables
from jettag.objectives.tokens import KmeansTokens

from ..conftest import make_table


def compared(_):
    first, second = (F.normalize(torch.randn(64, 16), dim=1) for _ in range(2))
    return lambda: contrast(first, second, 0.1, everyone=False) | condition(first)


def nearest(_):
    book = Codebook(512, 16, cosine=True, decay=0.9)
    book.begin(F.normalize(torch.randn(512, 16), dim=1))
    latents = book.on_sphere(torch.randn(4000, 16))
    return lambda: {"code": book.nearest(latents)}


def tokens(table):
    found = KmeansTokens(table.feature_names, 512)
    found.fit(table.sample_features(10_000, 1), seed=1)
    return lambda: {"token": found(torch.from_numpy(table.features))}


def observables(table):
    head = Observables(("c2", "d2"), 4, 3)
    head.prepare(table, seed=0)
    for parameter in head.layers[2].parameters():
        torch.nn.init.zeros_(parameter)  # tells zero of every jet: the loss is that of what is to be told
    embedding, jets = torch.randn(len(table), 4), table.batch(np.arange(len(table)))
    return lambda: {"loss": head(embedding, jets)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("of", [compared, nearest, tokens, observables])
def test_it_is_the_same_in_mixed_precision(of, dtype):
    torch.manual_seed(0)
    ask = of(make_table(900))
    exact = ask()
    with torch.autocast("cpu", dtype):
        found = ask()
    for name, value in exact.items():
        assert torch.equal(found[name], value), name
