import math

import pytest

from jettag.evaluation.label_saving import labels_needed

# Rejection grows as the square root of the labels: four times the labels for twice the rejection.
CURVE = [(n, 3.0 * math.sqrt(n)) for n in (100, 1000, 10000)]


@pytest.mark.parametrize("labels", [100, 150, 1000, 4321, 10000])
def test_the_labels_of_a_power_law_are_found_between_its_points(labels):
    needed, bound = labels_needed(CURVE, 3.0 * math.sqrt(labels))
    assert needed == pytest.approx(labels)
    assert bound == ""


def test_beyond_the_curve_there_are_only_bounds():
    assert labels_needed(CURVE, 1e6) == (10000.0, ">")
    assert labels_needed(CURVE, 1.0) == (100.0, "<")
