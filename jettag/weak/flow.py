"""One conditional normalising flow, p(x | m), on which all in-situ backgrounds stand. Needs the [flows] extra (zuko).

Features are shifted to (0, 1), through the logit, and standardised, as in CATHODE (arXiv:2109.00546); the flow is a
neural spline flow (arXiv:1906.04032), trained until the loss on a held-out part no longer falls.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jettag.errors import DataError, DivergenceError, ResourceError
from jettag.weak.checks import FloatArray, check_features

__all__ = ["ConditionalFlow", "FlowSettings", "Scaling", "fit_flow", "make_network", "split_rows", "train"]

MARGIN = 0.02  # of the range beyond the outermost events, on each side
EDGE = 1e-4  # closest to 0 and 1 that a scaled feature comes
CLIP = 10.0  # of the gradient norm
FEWEST = 100  # events that train


@dataclass(frozen=True)
class FlowSettings:
    """The network and its training; the reference's (15 affine layers of 128, 100 epochs) takes hours on two cores.

    Attributes:
        transforms: splines one after the other.
        hidden: width of the two hidden layers of each.
        bins: of a spline.
        epochs: at most.
        patience: epochs without a lower validation loss.
        batch_size: events.
        learning_rate: of Adam.
        val_fraction: held out.
    """

    transforms: int = 3
    hidden: int = 64
    bins: int = 8
    epochs: int = 40
    patience: int = 8
    batch_size: int = 1024
    learning_rate: float = 2e-3
    val_fraction: float = 0.2


@dataclass(frozen=True)
class Scaling:
    """Features to and from where the flow lives; the mass standardised."""

    low: FloatArray
    high: FloatArray
    mean: FloatArray
    width: FloatArray
    mass_mean: float
    mass_width: float

    @classmethod
    def fit(cls, features: npt.NDArray, mass: npt.NDArray) -> "Scaling":
        """From the events that are fitted.

        Raises:
            DataError: a feature is constant.
        """
        low, high = features.min(0).astype(np.float64), features.max(0).astype(np.float64)
        constant = np.flatnonzero(high <= low)
        if len(constant):
            raise DataError(f"feature {constant[0]} is constant", do="leave it out of --features")
        margin = MARGIN * (high - low)
        scaled = cls(low - margin, high + margin, np.zeros(len(low)), np.ones(len(low)), 0.0, 1.0)
        logit = scaled._logit(features)
        return cls(
            scaled.low, scaled.high, logit.mean(0), logit.std(0), float(mass.mean()), float(max(mass.std(), 1e-12))
        )

    def _logit(self, features: npt.NDArray) -> FloatArray:
        share = np.clip((features - self.low) / (self.high - self.low), EDGE, 1 - EDGE)
        logit: FloatArray = np.log(share / (1 - share))
        return logit

    def forward(self, features: npt.NDArray) -> Tensor:
        """(n, F) where flows live."""
        return torch.from_numpy(((self._logit(features) - self.mean) / self.width).astype(np.float32))

    def log_derivative(self, features: npt.NDArray) -> FloatArray:
        """(n,) log of the Jacobian of `forward`."""
        share = np.clip((features - self.low) / (self.high - self.low), EDGE, 1 - EDGE)
        each = -np.log(share * (1 - share)) - np.log(self.high - self.low) - np.log(self.width)
        total: FloatArray = each.sum(1)
        return total

    def inverse(self, values: Tensor) -> npt.NDArray[np.float32]:
        """(n, F) in the features' own units."""
        logit = values.double().numpy() * self.width + self.mean
        share = 1 / (1 + np.exp(-logit))
        return np.asarray(self.low + share * (self.high - self.low), dtype=np.float32)

    def context(self, mass: npt.NDArray) -> Tensor:
        """(n, 1) standardised masses."""
        return torch.from_numpy(((mass - self.mass_mean) / self.mass_width).astype(np.float32))[:, None]


class ConditionalFlow:
    """p(x | m) of fitted events.

    Args:
        network: a zuko flow in the scaled features, conditioned on the scaled mass.
        scaling: of features and mass.
    """

    def __init__(self, network: Any, scaling: Scaling) -> None:
        self.network, self.scaling = network, scaling

    @torch.no_grad()
    def log_prob(self, features: npt.NDArray, mass: npt.NDArray) -> FloatArray:
        """(n,) log density in the features' own units."""
        inside = self.network(self.scaling.context(mass)).log_prob(self.scaling.forward(features))
        density: FloatArray = inside.double().numpy() + self.scaling.log_derivative(features)
        return density

    @torch.no_grad()
    def latent(self, features: npt.NDArray, mass: npt.NDArray) -> npt.NDArray[np.float32]:
        """(n, F) where the features of the fitted events are standard normal at every mass."""
        transform = self.network(self.scaling.context(mass)).transform
        return np.asarray(transform(self.scaling.forward(features)).numpy())

    @torch.no_grad()
    def sample(self, mass: npt.NDArray, seed: int) -> npt.NDArray[np.float32]:
        """(n, F) drawn at each mass."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.scaling.inverse(self.network(self.scaling.context(mass)).sample())


def make_network(width: int, settings: FlowSettings, *, context: int = 1) -> nn.Module:
    """An untrained neural spline flow of ``width`` features, conditioned on ``context`` numbers.

    Raises:
        ResourceError: zuko is not installed.
    """
    try:
        from zuko.flows import NSF
    except ImportError:
        raise ResourceError("flows need zuko", do='pip install "jettag[flows]"') from None
    flow: nn.Module = NSF(
        features=width,
        context=context,
        transforms=settings.transforms,
        bins=settings.bins,
        hidden_features=[settings.hidden] * 2,
    )
    return flow


def fit_flow(
    features: npt.NDArray,
    mass: npt.NDArray,
    *,
    settings: FlowSettings | None = None,
    seed: int = 0,
    scaling: Scaling | None = None,
) -> ConditionalFlow:
    """Fit p(x | m) by maximum likelihood.

    Args:
        features: (n, F).
        mass: (n,).
        settings: of network and training.
        seed: of weights, batches and the held-out part.
        scaling: of features and mass; that of these events where not given.

    Raises:
        DataError: a feature is NaN or constant, or there are too few events.
        DivergenceError: the loss is not finite.
        ResourceError: zuko is not installed.
    """
    chosen = settings or FlowSettings()
    check_features(features, tuple(f"{place}" for place in range(features.shape[1])))
    scaling = scaling or Scaling.fit(features, mass)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(features.shape[1], chosen)

        def loss(rows: Tensor) -> Tensor:
            mean: Tensor = -network(context[rows]).log_prob(x[rows]).mean()
            return mean

        x, context = scaling.forward(features), scaling.context(mass)
        train(list(network.parameters()), [network], loss, split_rows(len(x), chosen), chosen)
    return ConditionalFlow(network.eval(), scaling)


def split_rows(count: int, settings: FlowSettings) -> tuple[Tensor, Tensor]:
    """Rows that train and rows held out, drawn at random."""
    order = torch.randperm(count)
    held = max(int(settings.val_fraction * count), 1)
    return order[held:], order[:held]


def train(
    parameters: list[nn.Parameter] | list[dict[str, Any]],
    modules: list[nn.Module],
    loss: Callable[[Tensor], Tensor],
    rows: tuple[Tensor, Tensor],
    settings: FlowSettings,
    *,
    judge: Callable[[Tensor], Tensor] | None = None,
) -> float:
    """Minimise until patience ends; the parameters of the lowest validation loss stay, and it is returned.

    Args:
        parameters: that move, or groups of them with learning rates.
        modules: that hold them.
        loss: of the events at these rows.
        rows: that train, and that are held out.
        settings: of the training.
        judge: loss of the events held out, if it is another one.

    Raises:
        DataError: too few events.
        DivergenceError: the loss is not finite.
    """
    train, val = rows
    if len(train) < FEWEST:
        what = f"{len(train) + len(val)} events are too few for a flow"
        raise DataError(what, do="give more events, or wider regions")
    optimizer = torch.optim.Adam(parameters, settings.learning_rate)
    steps = settings.epochs * -(-len(train) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, stale = float("inf"), 0
    kept = [copy.deepcopy(module.state_dict()) for module in modules]
    for _ in range(settings.epochs):
        for chosen in torch.split(train[torch.randperm(len(train))], settings.batch_size):
            value = loss(chosen)
            if not value.isfinite():
                raise DivergenceError("the flow's loss is not finite", do="check the features for outliers")
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], CLIP)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            found = float((judge or loss)(val))
        if found < best:
            best, stale = found, 0
            kept = [copy.deepcopy(module.state_dict()) for module in modules]
        else:
            stale += 1
            if stale >= settings.patience:
                break
    for module, state in zip(modules, kept, strict=True):
        module.load_state_dict(state)
    return best
