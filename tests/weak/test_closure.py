"""Two-sample distances: zero for the same distribution, a formula for shifted Gaussians."""

import numpy as np
import pytest
from scipy.stats import norm

from jettag.errors import DataError
from jettag.weak.closure import classifier_test, frechet_distance, kernel_distance


def samples(shift=0.0, n=1500, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 3)), random.normal(size=(n, 3)) + np.array([shift, 0, 0])


def test_the_same_distribution_is_the_same():
    first, second = samples()
    test = classifier_test(first, second, folds=3, iterations=30)
    assert abs(test.auc - 0.5) < 4 * test.sigma
    assert test.p_value > 1e-4
    value, error = frechet_distance(first, second)
    assert abs(value) < 0.02 + 3 * error
    value, error = kernel_distance(first, second)
    assert abs(value) < 0.1 + 3 * error


def test_a_shift_is_found_and_has_its_known_size():
    first, second = samples(shift=1.0, seed=1)
    # Two unit Gaussians one sigma apart: AUC is Phi(1 / sqrt 2), the squared distance of the means is 1.
    test = classifier_test(first, second, folds=3, iterations=30)
    assert test.auc == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.03)
    assert test.p_value < 1e-10
    assert frechet_distance(first, second)[0] == pytest.approx(1.0, abs=0.2)
    assert kernel_distance(first, second)[0] > 5 * abs(kernel_distance(*samples(seed=2))[0])


def test_too_few_events_are_one_line():
    with pytest.raises(DataError, match="too small for 5 folds"):
        classifier_test(np.zeros((9, 1)), np.zeros((100, 1)))
    with pytest.raises(DataError, match="too few for 3 features"):
        frechet_distance(*samples(n=14))
