"""Backgrounds of the signal region by moving events to its mass, or a simulation onto data. Needs zuko.

One invertible map T of features, a conditional spline flow, is trained in the side-bands in three ways:
FETA (arXiv:2212.11285) moves a simulation, whose density is a flow, onto data of the same mass; CURTAINs
(arXiv:2203.09470) moves data from one mass to another until a Sinkhorn distance is small; flows for flows
(arXiv:2211.02487, 2305.04646) does the latter by the likelihood of the flow of the side-bands.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jettag.errors import DataError
from jettag.weak.checks import FloatArray
from jettag.weak.flow import ConditionalFlow, FlowSettings, Scaling, fit_flow, make_network, split_rows, train

__all__ = ["move_by_likelihood", "move_by_transport", "move_simulation", "sinkhorn_distance"]

SINKHORN_STEPS = 20
BLUR = 0.05  # entropic regularisation, in units of the mean squared distance
FEWEST = 100  # events to learn a map from
NEIGHBOURS = 256  # events of about one mass that are one side of a transport

# (n, F) features drawn at each of (n,) masses, with a seed
Mover = Callable[[npt.NDArray, int], npt.NDArray[np.float32]]


def move_simulation(
    simulation: npt.NDArray,
    simulation_mass: npt.NDArray,
    data: npt.NDArray,
    data_mass: npt.NDArray,
    *,
    settings: FlowSettings,
    seed: int = 0,
) -> Mover:
    """FETA: T takes data to the simulation's density, learnt in the side-bands; its inverse takes simulation to data.

    Args:
        simulation: (s, F) at all masses, without signal.
        simulation_mass: (s,).
        data: (n, F) of the side-bands.
        data_mass: (n,).
        settings: of both flows.
        seed: of both trainings.

    Returns:
        What draws background at given masses: simulation from its flow, moved onto data.

    Raises:
        DataError: too few events, or a constant feature.
        ResourceError: zuko is not installed.
    """
    scaling = Scaling.fit(np.concatenate([simulation, data]), np.concatenate([simulation_mass, data_mass]))
    base = _frozen(fit_flow(simulation, simulation_mass, settings=settings, seed=seed, scaling=scaling))
    x, context = scaling.forward(data), scaling.context(data_mass)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = make_network(x.shape[1], settings)

        def loss(rows: Tensor) -> Tensor:
            return _surprise(network(context[rows]).transform, x[rows], base, context[rows])

        train(list(network.parameters()), [network], loss, split_rows(len(x), settings), settings)

    @torch.no_grad()
    def draw(mass: npt.NDArray, at_seed: int) -> npt.NDArray[np.float32]:
        wanted = scaling.context(mass)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(at_seed)
            simulated = base(wanted).sample()
        return scaling.inverse(network(wanted).transform.inv(simulated))

    return draw


def move_by_likelihood(
    data: npt.NDArray, mass: npt.NDArray, background: ConditionalFlow, *, settings: FlowSettings, seed: int = 0
) -> Mover:
    """Flows for flows: T takes an event to any other mass, where the flow of the side-bands finds it likely.

    Args:
        data: (n, F) of the side-bands.
        mass: (n,).
        background: the flow of the same events.
        settings: of the map.
        seed: of its training.

    Returns:
        What draws background at given masses: events of the side-bands, moved there.
    """
    scaling = background.scaling
    base = _frozen(background)
    x, context = scaling.forward(data), scaling.context(mass)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = make_network(x.shape[1], settings, context=2)

        def loss(rows: Tensor) -> Tensor:
            wanted = context[torch.randint(len(context), (len(rows),))]
            transform = network(torch.cat([context[rows], wanted], dim=1)).transform
            return _surprise(transform, x[rows], base, wanted)

        train(list(network.parameters()), [network], loss, split_rows(len(x), settings), settings)
    return _events_moved(network, scaling, data, mass)


def move_by_transport(
    data: npt.NDArray, mass: npt.NDArray, *, settings: FlowSettings, seed: int = 0, neighbours: int = NEIGHBOURS
) -> Mover:
    """CURTAINs: T takes events of about one mass to another until they lie on the events found there.

    Both masses are drawn in the side-bands; the distance is Sinkhorn's between the moved events and those at the
    target, less that within either. The reference moves one whole side-band onto the other.

    Args:
        data: (n, F) of the side-bands.
        mass: (n,).
        settings: of the map.
        seed: of its training.
        neighbours: events of each of the two batches that are moved at a step, and of the two that they meet.

    Returns:
        What draws background at given masses: events of the side-bands, moved there.

    Raises:
        DataError: too few events.
    """
    if len(data) < FEWEST:
        raise DataError(f"{len(data)} events are too few for a map", do="give more events, or wider regions")
    scaling = Scaling.fit(data, mass)
    order = np.argsort(mass, kind="stable")
    x, context = scaling.forward(data[order]), scaling.context(mass[order])
    size = min(neighbours, len(x) // 8)
    width = 2 * size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = make_network(x.shape[1], settings, context=2)
        steps = settings.epochs * -(-len(x) // size)
        optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            first, second = (int(torch.randint(len(x) - width + 1, ())) for _ in range(2))
            # The targets' masses are dealt out at random: at one source mass they are those of the target sample.
            source, target = torch.randperm(width) + first, torch.randperm(width) + second
            moved = network(torch.cat([context[source], context[target]], dim=1)).transform(x[source])
            value = _energy_distance(torch.split(moved, size), torch.split(x[target], size))
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)  # of the reference
            optimizer.step()
            schedule.step()
    return _events_moved(network.eval(), scaling, data, mass)


def _energy_distance(moved: Sequence[Tensor], found: Sequence[Tensor]) -> Tensor:
    """() how far apart the distributions of two batches of each are, up to a constant (arXiv:1803.05573).

    A batch that is drawn in towards its mean lies nearer, on average, to a finite sample of the very distribution that
    it was drawn from; what two batches are apart by themselves takes that back.
    """
    crossed = sinkhorn_distance(moved[0], found[1]) + sinkhorn_distance(moved[1], found[0])
    return (crossed - sinkhorn_distance(moved[0], moved[1])) / 2


def sinkhorn_distance(first: Tensor, second: Tensor, *, steps: int = SINKHORN_STEPS, blur: float = BLUR) -> Tensor:
    """() mean squared distance under the entropic optimal transport of two samples of equal weights.

    The plan is held fixed in the gradient, which is then that of the distance at its optimum.

    Args:
        first: (n, F).
        second: (m, F).
        steps: of Sinkhorn's iteration, in the logarithm.
        blur: regularisation, in units of the mean squared distance.
    """
    cost = torch.cdist(first, second).square()
    with torch.no_grad():
        kernel = -cost / (blur * cost.mean().clamp_min(1e-12))
        over_first, over_second = -np.log(len(first)), -np.log(len(second))
        rows, columns = torch.zeros(len(first)), torch.zeros(len(second))
        for _ in range(steps):
            rows = over_first - torch.logsumexp(kernel + columns, dim=1)
            columns = over_second - torch.logsumexp(kernel + rows[:, None], dim=0)
        plan = torch.exp(kernel + rows[:, None] + columns)
    return (plan * cost).sum()


def _frozen(flow: ConditionalFlow) -> Any:
    for parameter in flow.network.parameters():
        parameter.requires_grad_(False)
    return flow.network


def _surprise(transform: Any, x: Tensor, base: Any, context: Tensor) -> Tensor:
    """() mean of -log p of events whose image under the transform has the density of ``base`` at ``context``."""
    image, log_derivative = transform.call_and_ladj(x)
    mean: Tensor = -(base(context).log_prob(image) + log_derivative).mean()
    return mean


def _events_moved(network: Any, scaling: Scaling, data: npt.NDArray, mass: npt.NDArray) -> Mover:
    """Draw events of the side-bands and move each to the mass that is asked for."""

    @torch.no_grad()
    def draw(wanted: FloatArray, at_seed: int) -> npt.NDArray[np.float32]:
        rows = np.random.default_rng([at_seed, 12]).integers(0, len(data), len(wanted))
        masses = torch.cat([scaling.context(mass[rows]), scaling.context(wanted)], dim=1)
        return scaling.inverse(network(masses).transform(scaling.forward(data[rows])))

    return draw
