"""Probabilities: the temperature that was put in comes out, never moves the argmax, and doubt grows away from jets."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from jettag.errors import DataError
from jettag.weak.calibration import (
    calibration_error,
    effective_sample_size,
    fit_laplace,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)


def jets(n, seed, classes=3):
    """Logits whose softmax is the truth, and labels drawn from it."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (n, classes))
    drawn = softmax(logits, axis=1).cumsum(1)
    return logits, np.minimum((random.random((n, 1)) > drawn).sum(1), classes - 1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found_and_never_changes_the_argmax(temperature):
    logits, label = jets(20_000, 0)
    wrong = logits * temperature  # too sure where it is above 1
    found = fit_temperature(wrong, label)
    assert found == pytest.approx(temperature, rel=0.05)
    assert fit_temperature(log_softmax(wrong, axis=1), label) == pytest.approx(found, rel=1e-3)
    before, after = softmax(wrong, axis=1), softmax(wrong / found, axis=1)
    assert np.array_equal(before.argmax(1), after.argmax(1))
    assert negative_log_likelihood(after, label) <= negative_log_likelihood(before, label) + 1e-9
    assert calibration_error(after, label) < 0.015
    if temperature != 1:
        assert calibration_error(before, label) > 3 * calibration_error(after, label)


def test_the_calibration_error_by_hand():
    said = np.tile([0.8, 0.2], (1000, 1))
    label = (np.arange(1000) % 10 == 0).astype(int)  # 90 % are right where 80 % are promised
    assert calibration_error(said, label, bins=1) == pytest.approx(0.1)
    found = reliability(said, label, bins=1)
    assert (found.count.tolist(), found.accuracy[0]) == ([1000], pytest.approx(0.9))
    assert negative_log_likelihood(said, label) == pytest.approx(-0.9 * np.log(0.8) - 0.1 * np.log(0.2))


def test_laplace_doubts_where_there_were_no_jets():
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 600)
    embedding = random.normal(size=(600, 2)) + label[:, None] * [1.0, 0]
    logits = np.column_stack([np.zeros(600), embedding[:, 0] - 0.5])
    laplace = fit_laplace(embedding, logits, label, n_train=30)
    near, far = np.array([[3.0, 0.0]]), np.array([[3.0, 60.0]])
    said = np.array([[0.0, 2.5]])  # the same logits for both
    assert laplace(near, said)[0, 1] > laplace(far, said)[0, 1] > 0.5
    sure = fit_laplace(embedding, logits, label, n_train=10**7)
    assert sure(near, said) == pytest.approx(softmax(said, axis=1), abs=1e-3)
    assert np.array_equal(laplace(embedding, logits).argmax(1), logits.argmax(1))


def test_effective_sample_size_and_bad_input():
    assert effective_sample_size(np.full(50, 3.0)) == pytest.approx(50)
    assert effective_sample_size([1, 0, 0, 0]) == pytest.approx(1)
    with pytest.raises(DataError, match="negative"):
        effective_sample_size([1.0, -1.0])
    logits, label = jets(100, 2)
    with pytest.raises(DataError, match="one class"):
        fit_temperature(logits, np.zeros(100, int))
    with pytest.raises(DataError, match="too few"):
        fit_temperature(logits[:5], label[:5])
