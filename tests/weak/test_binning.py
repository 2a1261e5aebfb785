"""Trees whose bins come from one sort are those of scikit-learn, to the bit."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting import binning

from jettag.weak.classifiers import make_trees


@pytest.mark.parametrize("weighted", [False, True])
def test_trees_are_those_of_the_library(weighted):
    random = np.random.default_rng(5)
    label = random.integers(0, 4, 1500) == 0
    features = random.normal(size=(1500, 4)).astype(np.float32)
    features[:, 0] += label
    features[:, 1] = np.round(features[:, 1], 1)  # fewer values than bins
    features[::7, 2] = np.nan
    features[:, 3] = np.round(features[:, 3], 2)  # quantiles that fall together
    weight = random.choice([0.0, 0.5, 1.0, 3.0], 1500) if weighted else None
    ours = make_trees(3)
    theirs = HistGradientBoostingClassifier(**ours.get_params())
    before = dict(vars(binning))
    for trees in (ours, theirs):
        trees.fit(features, label, sample_weight=weight)
    assert dict(vars(binning)) == before
    for mine, other in zip(ours._bin_mapper.bin_thresholds_, theirs._bin_mapper.bin_thresholds_, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(ours.predict_proba(features), theirs.predict_proba(features))
