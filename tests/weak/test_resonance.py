"""The toy of the methods: a feature that follows the mass. CWoLa hunting fails on it, CATHODE does not."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, spearmanr

from jettag.errors import UsageError
from jettag.weak.flow import FlowSettings
from jettag.weak.resonance import ResonanceSettings, reweight, score_events
from jettag.weak.samples import Region, Sample
from jettag.weak.sculpting import sculpting
from jettag.weak.study import judge
from jettag.weak.windows import Window

WINDOW = Window(-0.2, 0.2, -1.0, 1.0)
FLOW = FlowSettings(transforms=2, hidden=24, bins=6, epochs=25, patience=6, batch_size=1024, learning_rate=1e-2)


def events(n, seed, *, signal=False, tilt=3.0):
    """Background whose first feature moves with the mass; signal in a corner of feature space, in the region."""
    random = np.random.default_rng(seed)
    mass = random.uniform(-0.2, 0.2, n) if signal else random.uniform(-1, 1, n)
    features = random.normal(size=(n, 2)) * (0.5 if signal else 1.0)
    features[:, 0] += tilt * mass + (1.5 if signal else 0.0)
    features[:, 1] += 2.0 if signal else 0.0
    return Sample(features.astype(np.float32), mass)


def join(*samples):
    return Sample(np.concatenate([one.features for one in samples]), np.concatenate([one.mass for one in samples]))


def inside(sample):
    return sample.select(WINDOW.inside(sample.mass))


@pytest.fixture(scope="module")
def toy():
    region = Region(
        WINDOW,
        join(events(15_000, 0), events(120, 1, signal=True)),
        background=inside(events(20_000, 2)),
        signal=events(3000, 3, signal=True),
        simulation=events(20_000, 4, tilt=2.0),
    )
    return region, inside(events(25_000, 5)), events(4000, 6, signal=True), ResonanceSettings(flow=FLOW, folds=2)


def gain(method, toy, seed=0):
    region, background, signal, settings = toy
    score = score_events(method, region, join(background, signal), settings, seed=seed)
    return judge(score[len(background) :], score[: len(background)])


def test_cwola_fails_where_a_feature_follows_the_mass_and_cathode_reaches_the_bound(toy):
    ideal = gain("iad", toy)
    assert gain("supervised", toy)["auc"] > ideal["auc"]
    bound, blind, cathode = ideal["max_sic"], *(gain(method, toy)["max_sic"] for method in ("cwola", "cathode"))
    assert bound > 3
    assert blind < 1.3  # the floor is 1
    assert cathode > 0.8 * bound
    for method in ("lacathode", "ranode", "salad", "feta", "curtains", "f4f"):
        assert gain(method, toy)["max_sic"] > 0.6 * bound, method


def test_anode_knows_densities_and_needs_no_feature_to_ignore_the_mass(toy):
    """Its ratio is between densities at one mass: about as good as that of the true densities, where CWoLa is blind."""
    _, background, signal, _ = toy

    def true_ratio(sample):
        x = sample.features - np.stack([3.0 * sample.mass, np.zeros(len(sample))], axis=1)
        return ((x**2) / 2 - ((x - [1.5, 2.0]) / 0.5) ** 2 / 2).sum(1)

    best = judge(true_ratio(signal), true_ratio(background))["max_sic"]
    assert gain("anode", toy)["max_sic"] > max(0.6 * best, 3 * gain("cwola", toy)["max_sic"])


def test_the_mean_of_scores_is_as_good_as_its_parts_and_trains_nothing_again(toy):
    region, background, signal, settings = toy
    settings = replace(settings, combined=("cathode", "f4f", "salad"))
    test = join(background, signal)
    parts = {method: score_events(method, region, test, settings, seed=0) for method in settings.combined}
    assert score_events("cathode", region, test, settings, seed=0) is parts["cathode"]
    mean = score_events("combined", region, test, settings, seed=0)
    assert np.allclose(mean, sum(parts.values()) / 3)
    gains = [judge(score[len(background) :], score[: len(background)])["max_sic"] for score in (mean, *parts.values())]
    assert gains[0] > np.median(gains[1:])
    with pytest.raises(UsageError, match="two methods"):
        score_events("combined", region, test, replace(settings, combined=("cathode",)), seed=0)


def test_lacathode_does_not_sculpt_where_the_others_do(toy):
    """Background of every mass, cut hard: the mass spectrum of what passes stays what it was."""
    region, _, _, settings = toy
    background = events(30_000, 7)
    found = {}
    for method in ("cathode", "lacathode"):
        score = score_events(method, region, background, settings, seed=0)
        half = np.arange(len(score)) < len(score) // 2
        passed = score[~half] > np.quantile(score[half], 0.95)
        found[method] = sculpting(background.mass[~half], passed)
    assert found["lacathode"].chi2_per_ndof < 1.7
    assert found["cathode"].chi2_per_ndof > 2 * found["lacathode"].chi2_per_ndof


def test_weights_of_salad_recover_a_known_ratio():
    """Two unit Gaussians half a sigma apart: the ratio is exp(x / 2 - 1 / 8)."""
    random = np.random.default_rng(8)
    simulation, data = random.normal(size=(20_000, 1)), random.normal(0.5, 1, (20_000, 1))
    x = np.linspace(-1.5, 1.5, 31)[:, None]
    weight = reweight(simulation, data, x, ResonanceSettings(folds=3), seed=0)
    true = np.exp(x[:, 0] / 2 - 1 / 8)
    assert np.abs(weight / (true / true.mean()) - 1).mean() < 0.1


def test_salad_tells_how_many_of_its_events_count(toy):
    region, background, signal, settings = toy
    score_events("salad", region, join(background, signal), settings, seed=0)
    assert 0.2 < settings.label_free("salad")["effective_share"] < 1
    itself = replace(region, simulation=events(20_000, 21))  # nothing to reweight
    score_events("salad", itself, join(background, signal), settings, seed=0)
    assert settings.label_free("salad")["effective_share"] > 0.9


def test_ranode_finds_nothing_where_nothing_is(toy):
    """A run without signal: no event is more like signal than another, although the side-bands' flow is not exact."""
    region, background, signal, settings = toy
    nothing = Region(WINDOW, events(15_000, 9), background=region.background)
    score = score_events("ranode", nothing, join(background, signal), settings, seed=0)
    assert np.ptp(score) == 0
    found = judge(score[len(background) :], score[: len(background)])
    assert (found["max_sic"], found["auc"]) == (1, 0.5)


def test_a_network_stands_beside_the_trees_and_draws_no_template_again(toy):
    region, background, signal, settings = toy
    test = join(background, signal)
    trees = score_events("cathode", region, test, settings, seed=0)
    drawn = settings.template("cathode")
    settings.classifier = "network"
    try:
        network = score_events("cathode", region, test, settings, seed=0)
    finally:
        settings.classifier = "trees"
    assert settings.template("cathode") is drawn
    assert score_events("cathode", region, test, settings, seed=0) is trees
    gains = [judge(score[len(background) :], score[: len(background)])["max_sic"] for score in (trees, network)]
    assert gains[1] > 0.7 * gains[0]
    with pytest.raises(UsageError, match="network"):
        score_events("cathode", region, test, replace(settings, classifier="netwrk"), seed=0)


def test_what_is_missing_is_one_line(toy):
    region, background, _, settings = toy
    bare = Region(WINDOW, region.data)
    for method, said in (
        ("salad", "--simulation"),
        ("feta", "--simulation"),
        ("iad", "true background"),
        ("cathod", "cathode"),
    ):
        with pytest.raises(UsageError, match=said):
            score_events(method, bare, background, settings, seed=0)


def test_outlier_scores_are_those_of_a_gaussian(toy):
    """Of background alone, a Gaussian here: the squared distance is a chi2 of as many features."""
    _, _, _, settings = toy
    background = events(6000, 11, tilt=0.0)
    region = Region(WINDOW, background)
    test = events(3000, 12, tilt=0.0)
    distance = score_events("distance", region, test, settings, seed=0)
    assert kstest(distance, "chi2", args=(2,)).statistic < 0.04
    forest = score_events("isolation", region, test, settings, seed=0)
    assert spearmanr(forest, distance).statistic > 0.9
