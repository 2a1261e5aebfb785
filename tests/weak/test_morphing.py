"""Moved events: the distribution at the mass asked for, from events of other masses or of a wrong simulation."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from jettag.errors import DataError
from jettag.weak.flow import FlowSettings, fit_flow
from jettag.weak.morphing import (
    _energy_distance,
    move_by_likelihood,
    move_by_transport,
    move_simulation,
    sinkhorn_distance,
)

SMALL = FlowSettings(transforms=1, hidden=16, bins=6, epochs=20, patience=20, batch_size=256, learning_rate=1e-2)


def events(n, seed, *, width=0.5):
    """Two features, the mean of the first is the mass, between 0.3 and 1 on both sides of zero."""
    random = np.random.default_rng(seed)
    mass = random.uniform(0.3, 1, n) * random.choice([-1, 1], n)
    features = random.normal(size=(n, 2)) * [width, 1.0]
    features[:, 0] += mass
    return features.astype(np.float32), mass


@pytest.mark.parametrize("how", ["simulation", "likelihood", "transport"])
def test_events_arrive_where_nothing_was_trained(how):
    """In the gap about zero the first feature has mean zero and width one half; the moved events must too."""
    data = events(4000, 0)
    if how == "simulation":
        random = np.random.default_rng(1)
        everywhere = random.uniform(-1, 1, 6000)
        simulated = np.column_stack([everywhere + 0.3 + 0.7 * random.normal(size=6000), random.normal(size=6000)])
        draw = move_simulation(simulated.astype(np.float32), everywhere, *data, settings=SMALL)
    elif how == "likelihood":
        draw = move_by_likelihood(*data, fit_flow(*data, settings=SMALL), settings=SMALL)
    else:
        draw = move_by_transport(*data, settings=SMALL)
    mass = np.random.default_rng(2).uniform(-0.2, 0.2, 4000)
    moved = draw(mass, 3)
    assert np.array_equal(moved, draw(mass, 3))
    assert (moved[:, 0] - mass).mean() == pytest.approx(0, abs=0.08)
    assert (moved[:, 0] - mass).std() == pytest.approx(0.5, abs=0.05)
    assert np.corrcoef(moved[:, 0], mass)[0, 1] == pytest.approx(0.22, abs=0.1)  # var(mass) = 0.4^2 / 12
    assert moved[:, 1].std() == pytest.approx(1, abs=0.05)


def test_sinkhorn_is_nearly_the_best_assignment():
    random = np.random.default_rng(4)
    first, second = random.normal(size=(60, 2)), random.normal(1, 1, (60, 2))
    cost = ((first[:, None] - second) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(cost)
    found = sinkhorn_distance(torch.tensor(first), torch.tensor(second), steps=500, blur=0.005)
    assert float(found) == pytest.approx(cost[rows, columns].mean(), rel=0.03)


def test_no_batch_of_transport_gains_by_shrinking():
    """The mean distance of batches of one distribution is least where the moved ones are as wide as the others."""
    random = torch.Generator().manual_seed(5)
    draws = torch.randn(40, 4, 128, 4, generator=random, dtype=torch.float64)
    means = {
        width: torch.stack([_energy_distance(batch[:2] * width, batch[2:]) for batch in draws]).mean()
        for width in (0.8, 0.9, 1.0, 1.1, 1.2)
    }
    assert min(means, key=means.get) == 1.0
    plain = {width: sinkhorn_distance(draws[0, 0] * width, draws[0, 2]) for width in (0.8, 1.0)}
    assert plain[0.8] < plain[1.0]


def test_too_few_events_are_one_line():
    with pytest.raises(DataError, match="too few"):
        move_by_transport(*(part[:40] for part in events(100, 0)), settings=SMALL)
