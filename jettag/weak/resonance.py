"""Methods that look for a resonance in one signal region, each from the same events to scores of others.

All but the two bounds see unlabelled events of the signal region and of the side-bands and nothing else; SALAD and FETA
see a simulation besides.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy.stats import gaussian_kde

from jettag.errors import DataError, UsageError, nearest
from jettag.weak.calibration import effective_sample_size
from jettag.weak.checks import FloatArray
from jettag.weak.classifiers import make_trees
from jettag.weak.flow import ConditionalFlow, FlowSettings, fit_flow
from jettag.weak.folds import Classifier, Selection, fit_folds
from jettag.weak.morphing import Mover, move_by_likelihood, move_by_transport, move_simulation
from jettag.weak.neural import make_neural
from jettag.weak.outliers import isolation_forest, mahalanobis
from jettag.weak.samples import Region, Sample
from jettag.weak.signal_flow import fit_signal_flow
from jettag.weak.study import label_free
from jettag.weak.windows import Window

__all__ = [
    "CLASSIFIERS",
    "COMBINABLE",
    "RESONANCE_METHODS",
    "ResonanceSettings",
    "reweight",
    "score_events",
]

CLASSIFIERS: dict[str, Callable[..., Classifier]] = {"trees": make_trees, "network": make_neural}
MOST_WEIGHT = 20.0  # of a reweighted event, in units of the mean: beyond it one event would be a sample of its own


@dataclass
class ResonanceSettings:
    """How methods are trained, and the flows of a region, which several of them share.

    Attributes:
        flow: network and training of the flows.
        folds: of each ensemble of classifiers.
        oversampling: events drawn from a flow for each event of the signal region's data.
        classifier: of `CLASSIFIERS`.
        selection: what ends its trainings, but for those with labels and those of weights, which their loss ends.
        combined: methods whose mean score is the method ``combined``, of `COMBINABLE`.
        free: by method and classifier, what is known without a true label of the events scored last.
        last: the same of the classifier that was trained last.
    """

    flow: FlowSettings = field(default_factory=FlowSettings)
    folds: int = 5
    oversampling: int = 4
    classifier: str = "trees"
    selection: Selection = "argos"
    combined: tuple[str, ...] = ()
    _fitted: "tuple[Region, int, ConditionalFlow] | None" = field(default=None, init=False)
    _templates: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict, init=False)
    free: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict, init=False)
    last: dict[str, float] = field(default_factory=dict, init=False)
    _scored: "tuple[Region, Sample, int, dict[tuple[str, str], FloatArray]] | None" = field(default=None, init=False)

    def outside(self, region: Region, seed: int) -> ConditionalFlow:
        """The flow of the side-bands; the last one is kept, for methods that follow each other share it."""
        if self._fitted is None or self._fitted[0] is not region or self._fitted[1] != seed:
            flow = fit_flow(region.beside.features, region.beside.mass, settings=self.flow, seed=seed)
            self._fitted = region, seed, flow
        return self._fitted[2]

    def maker(self, selection: Selection | None = None) -> Callable[[int], Classifier]:
        """What makes a fresh classifier of a seed; ``selection`` goes before the settings' own.

        Raises:
            UsageError: there is no such one.
        """
        if self.classifier not in CLASSIFIERS:
            raise UsageError(f"no classifier {self.classifier!r}", do=nearest(self.classifier, CLASSIFIERS))
        chosen = selection or self.selection
        return partial(CLASSIFIERS[self.classifier], selection=chosen)

    def scores(self, region: Region, test: Sample, seed: int) -> dict[tuple[str, str], FloatArray]:
        """Scores of the same events by method and classifier, as far as known; the last events' are kept."""
        known = self._scored
        if known is None or known[0] is not region or known[1] is not test or known[2] != seed:
            self._scored = known = region, test, seed, {}
            self._templates, self.free = {}, {}
        return known[3]

    def label_free(self, method: str) -> dict[str, float]:
        """ARGOS and AUC of a method's out-of-fold scores, effective share of SALAD's weights; none untrained."""
        return self.free.get((method, self.classifier), {})

    def template(self, method: str) -> npt.NDArray[np.float32] | None:
        """(n, F) background that a method drew for the events scored last; None where it draws none."""
        return self._templates.get(method)

    def keep(self, method: str, drawn: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Remember a template, which another classifier of the same events may take, and give it back."""
        self._templates[method] = drawn
        return drawn


def score_events(method: str, region: Region, test: Sample, settings: ResonanceSettings, *, seed: int) -> FloatArray:
    """(t,) scores of events that train nothing; higher is more like signal.

    Args:
        method: one of `RESONANCE_METHODS`.
        region: what there is to learn from.
        test: at any mass.
        settings: how to train.
        seed: of everything drawn.

    Raises:
        UsageError: no such method, or it needs what is not given.
        DataError: too few events.
    """
    if method not in RESONANCE_METHODS:
        raise UsageError(f"no method {method!r}", do=nearest(method, RESONANCE_METHODS))
    known = settings.scores(region, test, seed)
    key = method, settings.classifier
    if key not in known:
        settings.last = {}
        known[key] = _METHODS[method](region, test, settings, seed)
        settings.free[key] = settings.last
    return known[key]


def _classify(
    data: npt.NDArray,
    template: npt.NDArray,
    test: npt.NDArray,
    settings: ResonanceSettings,
    seed: int,
    template_weight: npt.NDArray | None = None,
    selection: Selection | None = None,
) -> FloatArray:
    """Tell data from a template, both weighing the same, and score events of neither."""
    label = np.repeat([1, 0], [len(data), len(template)])
    weight = None
    if template_weight is not None:
        weight = np.concatenate([np.ones(len(data)), template_weight / template_weight.mean()])
    features = np.concatenate([data, template])
    make = settings.maker(selection)
    scores = fit_folds(make, features, label, test, folds=settings.folds, seed=seed, weight=weight)
    settings.last = label_free(scores, label, weight)
    return scores.test


def _cwola(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    beside = region.beside
    weight = region.window.weights(beside.mass)
    # The two side-bands weigh the same, however many events are in them.
    return _classify(region.inside.features, beside.features, test.features, settings, seed, weight)


def _cathode(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    return _template("cathode", lambda: settings.outside(region, seed).sample, region, test, settings, seed)


def _lacathode(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    inside = region.inside
    flow = settings.outside(region, seed)
    random = np.random.default_rng([seed, 7])
    normal = random.standard_normal((settings.oversampling * len(inside), inside.features.shape[1]), dtype=np.float32)
    data, judged = (flow.latent(events.features, events.mass) for events in (inside, test))
    return _classify(data, normal, judged, settings, seed)


def _anode(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    inside = region.inside
    own = fit_flow(inside.features, inside.mass, settings=settings.flow, seed=seed)
    outside = settings.outside(region, seed)
    return own.log_prob(test.features, test.mass) - outside.log_prob(test.features, test.mass)


def _ranode(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    inside = region.inside
    outside = settings.outside(region, seed)
    signal = fit_signal_flow(
        inside.features, inside.mass, outside, settings=settings.flow, folds=settings.folds, seed=seed
    )
    return signal.log_ratio(test.features, test.mass)


def _salad(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    if region.simulation is None:
        raise UsageError("salad reweights a simulation", do="give one with --simulation")
    beside, simulation = region.beside, region.simulation
    near = simulation.select(region.window.beside(simulation.mass))
    inner = simulation.select(region.window.inside(simulation.mass))
    weight = reweight(near.with_mass(), beside.with_mass(), inner.with_mass(), settings, seed=seed)
    score = _classify(region.inside.features, inner.features, test.features, settings, seed, weight)
    settings.last["effective_share"] = effective_sample_size(weight) / len(weight)
    return score


def _template(
    method: str, fit: Callable[[], Mover], region: Region, test: Sample, settings: ResonanceSettings, seed: int
) -> FloatArray:
    """Tell the data from what is drawn at its masses."""
    inside = region.inside
    drawn = settings.template(method)
    if drawn is None:
        mass = _masses(inside.mass, settings.oversampling * len(inside), region.window, seed)
        drawn = settings.keep(method, fit()(mass, seed))
    return _classify(inside.features, drawn, test.features, settings, seed)


def _feta(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    if region.simulation is None:
        raise UsageError("feta moves a simulation", do="give one with --simulation")
    beside, simulation = region.beside, region.simulation

    def fit() -> Mover:
        return move_simulation(
            simulation.features, simulation.mass, beside.features, beside.mass, settings=settings.flow, seed=seed
        )

    return _template("feta", fit, region, test, settings, seed)


def _curtains(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    beside = region.beside

    def fit() -> Mover:
        return move_by_transport(beside.features, beside.mass, settings=settings.flow, seed=seed)

    return _template("curtains", fit, region, test, settings, seed)


def _f4f(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    beside = region.beside

    def fit() -> Mover:
        outside = settings.outside(region, seed)
        return move_by_likelihood(beside.features, beside.mass, outside, settings=settings.flow, seed=seed)

    return _template("f4f", fit, region, test, settings, seed)


def _combined(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    if len(settings.combined) < 2:
        raise UsageError("combined is the mean of two methods or more", do=f"name some of {', '.join(COMBINABLE)}")
    each = [score_events(method, region, test, settings, seed=seed) for method in settings.combined]
    settings.last = {}  # that of the methods behind it
    mean: FloatArray = np.mean(each, axis=0)
    return mean


def _iad(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    if region.background is None:
        raise UsageError("the idealised detector needs true background of the signal region")
    return _classify(region.inside.features, region.background.features, test.features, settings, seed)


def _supervised(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:
    if region.background is None or region.signal is None:
        raise UsageError("the supervised ceiling needs true signal and background of the signal region")
    signal, background = region.signal.features, region.background.features
    return _classify(signal, background, test.features, settings, seed, selection="loss")


def _isolation(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:  # noqa: ARG001
    return isolation_forest(region.beside.features, seed)(test.features)


def _distance(region: Region, test: Sample, settings: ResonanceSettings, seed: int) -> FloatArray:  # noqa: ARG001
    return mahalanobis(region.beside.features)(test.features)


def reweight(
    simulation: npt.NDArray,
    data: npt.NDArray,
    events: npt.NDArray,
    settings: ResonanceSettings,
    *,
    seed: int,
) -> FloatArray:
    """(n,) weights, mean 1, that turn simulated events into data: g / (1 - g) of a classifier, clipped.

    SALAD (arXiv:2001.05001): learnt where data is background, applied elsewhere, the mass among the features. Its
    loss ends the training, never ARGOS: a ratio needs probabilities, not an order.

    Args:
        simulation: (s, F) where the ratio is learnt.
        data: (d, F) there.
        events: (n, F) simulated, to be weighted.
        settings: classifier and folds.
        seed: of both.
    """
    score = np.clip(_classify(data, simulation, events, settings, seed, selection="loss"), 1e-6, 1 - 1e-6)
    weight = score / (1 - score)
    weight = np.minimum(weight, MOST_WEIGHT * weight.mean())
    result: FloatArray = weight / weight.mean()
    return result


def _masses(mass: npt.NDArray, count: int, window: Window, seed: int) -> FloatArray:
    """Masses of the signal region's data, smeared by a kernel density estimate that stays inside."""
    if len(mass) < 2:
        raise DataError(f"{len(mass)} events in the signal region", do="give more events or a wider --window")
    estimate = gaussian_kde(mass)
    random = np.random.default_rng([seed, 8])
    found = np.empty(0)
    while len(found) < count:
        drawn = estimate.resample(count, seed=random)[0]
        found = np.concatenate([found, drawn[window.inside(drawn)]])
    return found[:count]


Method = Callable[[Region, Sample, ResonanceSettings, int], FloatArray]
_METHODS: dict[str, Method] = {
    "cwola": _cwola,
    "cathode": _cathode,
    "lacathode": _lacathode,
    "anode": _anode,
    "ranode": _ranode,
    "salad": _salad,
    "feta": _feta,
    "curtains": _curtains,
    "f4f": _f4f,
    "combined": _combined,
    "isolation": _isolation,
    "distance": _distance,
    "iad": _iad,
    "supervised": _supervised,
}
# Their scores are probabilities of the same classifier for data against a template, on one scale.
COMBINABLE = ("cathode", "feta", "curtains", "f4f", "salad")
RESONANCE_METHODS: dict[str, str] = {
    "cwola": "signal region against side-bands",
    "cathode": "against samples of a flow fitted in the side-bands (arXiv:2109.00546)",
    "lacathode": "the same in the flow's latent space (arXiv:2210.14924)",
    "anode": "ratio of two flows, inside and outside (arXiv:2001.04990)",
    "ranode": "a flow of the signal alone over the fixed background (arXiv:2312.11629)",
    "salad": "against a simulation reweighted in the side-bands (arXiv:2001.05001)",
    "feta": "against a simulation moved onto data by a flow (arXiv:2212.11285)",
    "curtains": "against side-bands moved to the region by transport (arXiv:2203.09470)",
    "f4f": "against side-bands moved to the region by a flow for flows (arXiv:2305.04646)",
    "combined": "mean of the scores of the other methods that tell data from a template (arXiv:2307.11157)",
    "isolation": "outliers of the side-bands: isolation forest",
    "distance": "outliers of the side-bands: Mahalanobis distance",
    "iad": "against true background of the signal region: the bound",
    "supervised": "true signal against true background: the ceiling",
}
