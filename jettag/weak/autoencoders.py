"""Outliers of a background by what a bottleneck cannot rebuild: autoencoder, variational and normalised autoencoder.

Autoencoders of arXiv:1808.08979 and 1808.08992, the variational one after arXiv:2007.01850, and the normalised one of
arXiv:2206.14225, whose reconstruction error is an energy: it is raised where Langevin chains find it low without data.
Rows of numbers go in: features, embeddings, or the pixels of `jet_images`.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jettag.errors import DataError, DivergenceError, UsageError, nearest
from jettag.weak.checks import FloatArray, check_features

__all__ = ["AutoencoderSettings", "Outliers", "fit_autoencoder", "jet_images"]

KINDS = ("autoencoder", "vae", "nae")
PIXELS = 24  # a side of an image
REACH = 0.8  # half of a side, in eta and phi: the radius of most large jets
SMALLEST_WIDTH = 1e-6


@dataclass(frozen=True)
class AutoencoderSettings:
    """Network and training.

    Attributes:
        latent: width of the bottleneck; at most half of the inputs is used.
        hidden: widths from the input to the bottleneck.
        epochs: over the background.
        batch_size: events.
        learning_rate: of Adam.
        kl_weight: of the Kullback-Leibler term of the variational autoencoder against the error per input.
        nae_epochs: after those of the plain autoencoder.
        chain_steps: of Langevin's chains, in the bottleneck and then in the inputs.
        latent_step: of the chain in the bottleneck.
        input_step: of the chain in the inputs.
    """

    latent: int = 6
    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    kl_weight: float = 1e-2
    nae_epochs: int = 5
    chain_steps: int = 15
    latent_step: float = 0.1
    input_step: float = 0.02


class Outliers:
    """What scores events after the fit; a higher score is less like the background."""

    def __init__(self, network: "_Autoencoder", mean: npt.NDArray, width: npt.NDArray) -> None:
        self._network, self._mean, self._width = network, mean, width

    @torch.no_grad()
    def score(self, values: npt.NDArray) -> FloatArray:
        """(n,) mean squared error of the inputs in units of the background's spread."""
        x = torch.from_numpy(((values - self._mean) / self._width).astype(np.float32))
        error: FloatArray = torch.cat([self._network.energy(part) for part in torch.split(x, 8192)]).double().numpy()
        return error


class _Autoencoder(nn.Module):
    def __init__(self, inputs: int, settings: AutoencoderSettings, *, variational: bool) -> None:
        super().__init__()
        self.latent = max(min(settings.latent, inputs // 2), 1)
        self.variational = variational
        widths = [inputs, *settings.hidden]
        self.encoder = nn.Sequential(*_layers(widths), nn.Linear(widths[-1], self.latent * (2 if variational else 1)))
        self.decoder = nn.Sequential(*_layers([self.latent, *settings.hidden[::-1]]), nn.Linear(widths[1], inputs))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Means, and logarithms of the variances where it is variational: (n, L) each."""
        code: Tensor = self.encoder(x)
        if not self.variational:
            return code, None
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def energy(self, x: Tensor) -> Tensor:
        """(n,) error of the rebuilt inputs, at the mean of the bottleneck."""
        error: Tensor = (self.decoder(self.encode(x)[0]) - x).square().mean(1)
        return error


def _layers(widths: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.SiLU()]
    return layers


def fit_autoencoder(
    kind: str, values: npt.NDArray, *, settings: AutoencoderSettings | None = None, seed: int = 0
) -> Outliers:
    """Fit on background, or on data that is nearly all background; no label is used.

    Args:
        kind: ``autoencoder``, ``vae`` or ``nae``.
        values: (n, F).
        settings: of network and training.
        seed: of weights, batches and chains.

    Raises:
        UsageError: no such kind.
        DataError: too few events, or a value is not finite.
        DivergenceError: the loss is not finite.
    """
    if kind not in KINDS:
        raise UsageError(f"no autoencoder {kind!r}", do=nearest(kind, KINDS))
    chosen = settings or AutoencoderSettings()
    check_features(values, tuple(f"{place}" for place in range(values.shape[1])))
    if len(values) < 100:
        raise DataError(f"{len(values)} events are too few for an autoencoder, at least 100", do="give more events")
    mean, width = values.mean(0), values.std(0)
    width = np.where(width > SMALLEST_WIDTH, width, 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Autoencoder(values.shape[1], chosen, variational=kind == "vae")
        x = torch.from_numpy(((values - mean) / width).astype(np.float32))
        _fit(network, x, chosen)
        if kind == "nae":
            _normalise(network, x, chosen)
    return Outliers(network.eval(), mean, width)


def _fit(network: _Autoencoder, x: Tensor, settings: AutoencoderSettings) -> None:
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
    for _ in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(x)), settings.batch_size):
            code, log_variance = network.encode(x[rows])
            loss = x.new_zeros(())
            if log_variance is not None:
                divergence = 0.5 * (code.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
                loss = settings.kl_weight * divergence
                code = code + torch.exp(log_variance / 2) * torch.randn_like(code)
            loss = loss + (network.decoder(code) - x[rows]).square().mean()
            _step(loss, optimizer)
        schedule.step()


def _normalise(network: _Autoencoder, x: Tensor, settings: AutoencoderSettings) -> None:
    """Lower the energy of data and raise it where chains end, that began among the decoder's own outputs.

    The squares keep both energies from running away together.
    """
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate / 10)
    for _ in range(settings.nae_epochs):
        for rows in torch.split(torch.randperm(len(x)), settings.batch_size):
            negative = _chains(network, x[rows], settings)
            real, found = network.energy(x[rows]), network.energy(negative)
            loss = real.mean() - found.clamp_max(10 * real.detach().mean() + 1).mean()
            _step(loss + 0.1 * (real.square().mean() + found.square().mean()), optimizer)


def _chains(network: _Autoencoder, x: Tensor, settings: AutoencoderSettings) -> Tensor:
    """(n, F) where Langevin's chains end: in the bottleneck over the energy of what is decoded, then in the inputs."""
    with torch.no_grad():
        code = network.encode(x)[0]
        spread = code.std(0, keepdim=True).clamp_min(SMALLEST_WIDTH)
        code = code.mean(0) + spread * torch.randn_like(code)
    for step, of_code in ((settings.latent_step, True), (settings.input_step, False)):
        place = code if of_code else network.decoder(code).detach()
        scale = spread if of_code else torch.ones(1)
        for _ in range(settings.chain_steps):
            place = place.detach().requires_grad_(True)
            energy = network.energy(network.decoder(place) if of_code else place).sum()
            (slope,) = torch.autograd.grad(energy, place)
            move = slope * scale.square()
            # Half a unit of spread at most: a chain on a cliff would leave for good.
            move = move.clamp(-0.5 * scale.max(), 0.5 * scale.max())
            place = place - step * move + 0.1 * np.sqrt(2 * step) * scale * torch.randn_like(place)
        code = place.detach() if of_code else code
    return place.detach()


def _step(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    if not loss.isfinite():
        raise DivergenceError("the autoencoder's loss is not finite", do="check the inputs for outliers")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def jet_images(
    pt: npt.NDArray,
    eta: npt.NDArray,
    phi: npt.NDArray,
    offsets: npt.NDArray,
    *,
    pixels: int = PIXELS,
    reach: float = 0.8,
) -> npt.NDArray[np.float32]:
    """(J, pixels^2) images of pT shares, centred, turned to their principal axis and flipped (arXiv:1808.08992).

    The root of the share is taken, so that soft constituents are seen.

    Args:
        pt: (M,) of the constituents of all jets [GeV].
        eta: (M,).
        phi: (M,) relative to any axis of the jet, not wrapped.
        offsets: (J + 1,) where each jet begins.
        pixels: on a side.
        reach: half of the side.
    """
    jet = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    count = len(offsets) - 1

    def total(values: npt.NDArray) -> npt.NDArray:
        return np.bincount(jet, values, minlength=count)

    share = pt / np.maximum(total(pt), 1e-12)[jet]
    x, y = eta - total(share * eta)[jet], phi - total(share * phi)[jet]
    angle = 0.5 * np.arctan2(2 * total(share * x * y), total(share * (x**2 - y**2)))[jet]
    x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    # The half with more pT stands to the right and above.
    x, y = (values * np.where(total(share * np.sign(values)) < 0, -1, 1)[jet] for values in (x, y))
    places = [np.floor((values / reach + 1) / 2 * pixels).astype(np.int64) for values in (x, y)]
    seen = np.all([(place >= 0) & (place < pixels) for place in places], axis=0)
    pixel = (jet * pixels + places[1]) * pixels + places[0]
    image = np.bincount(pixel[seen], share[seen], minlength=count * pixels**2)
    return np.sqrt(image).reshape(count, pixels**2).astype(np.float32)
