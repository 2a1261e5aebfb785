"""Distance correlation against its formula for Gaussians, and a network that does not follow the mass."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from jettag.errors import UsageError
from jettag.weak.disco import distance_correlation, make_disco
from jettag.weak.sculpting import sculpting


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_of_two_gaussians_it_is_the_known_function_of_their_correlation(rho):
    """Theorem 7 of Szekely, Rizzo, Bakirov (2007)."""
    random = np.random.default_rng(0)
    x = random.normal(size=1500)
    y = rho * x + np.sqrt(1 - rho**2) * random.normal(size=1500)
    top = rho * np.arcsin(rho) + np.sqrt(1 - rho**2) - rho * np.arcsin(rho / 2) - np.sqrt(4 - rho**2) + 1
    known = top / (1 + np.pi / 3 - np.sqrt(3))
    assert float(distance_correlation(torch.tensor(x), torch.tensor(y))) == pytest.approx(known, abs=0.03)


def test_the_penalty_takes_the_mass_out():
    random = np.random.default_rng(1)

    def sample(n):
        label = random.integers(0, 2, n)
        mass = random.normal(size=n)
        told = np.column_stack([mass + label + 0.3 * random.normal(size=n), label + random.normal(size=n)])
        return np.column_stack([told, mass]), label

    train, test = sample(4000), sample(8000)
    mass, is_background = test[0][:, -1], test[1] == 0
    found = {}
    for strength in (0.0, 3.0):
        score = make_disco(strength, epochs=30)(0).fit(*train).predict_proba(test[0])[:, 1]
        passed = score[is_background] > np.median(score[is_background])
        found[strength] = sculpting(mass[is_background], passed).jsd_nats, roc_auc_score(test[1], score)
    assert found[3.0][0] < 0.2 * found[0.0][0]
    assert 0.7 < found[3.0][1] < found[0.0][1]
    with pytest.raises(UsageError, match="at least zero"):
        make_disco(-1.0)
