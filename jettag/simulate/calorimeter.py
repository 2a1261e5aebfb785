"""Towers and energy flow: what is left in a tower beyond its tracks becomes a photon or a neutral hadron.

After the algorithm of Delphes' SimpleCalorimeter (arXiv:1307.6346 section 2.4), on all towers of a batch at once.
"""

from dataclasses import dataclass

import numpy as np

from jettag.simulate.cards import Calorimeter
from jettag.simulate.events import Floats, Ints

__all__ = ["Flow", "energy_flow", "log_normal"]

_STRIDE = 1024  # above the number of azimuthal steps of any tower row


@dataclass(frozen=True)
class Flow:
    """What a calorimeter makes of a batch.

    Args:
        scale: (K,) factor on the momentum of each track; 1 where its tower has a neutral excess, or it left no energy.
        event: (T,) event of each neutral tower.
        energy, eta, phi: (T,) of the neutral towers [GeV].
    """

    scale: Floats
    event: Ints
    energy: Floats
    eta: Floats
    phi: Floats


def log_normal(mean: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
    """A positive random number of that mean and standard deviation, (K,); zero where the mean is."""
    positive = mean > 0.0
    safe = np.where(positive, mean, 1.0)
    width = np.sqrt(np.log1p((sigma / safe) ** 2))
    return np.where(positive, safe * np.exp(width * rng.standard_normal(len(mean)) - 0.5 * width**2), 0.0)


def _tower(calorimeter: Calorimeter, event: Ints, eta: Floats, phi: Floats) -> Ints:
    """A number for each (event, tower), (K,); -1 beyond the calorimeter."""
    row = np.searchsorted(calorimeter.eta_edges, eta) - 1
    inside = (row >= 0) & (row < len(calorimeter.phi_bins))
    row = np.where(inside, row, 0)
    bins = calorimeter.phi_bins[row]
    column = np.minimum(((phi + np.pi) / (2.0 * np.pi) * bins).astype(np.int64), bins - 1)
    rows = len(calorimeter.phi_bins)
    return np.where(inside, (event * rows + row) * _STRIDE + column, -1)


def energy_flow(
    calorimeter: Calorimeter,
    *,
    hits: tuple[Ints, Floats, Floats, Floats],
    tracks: tuple[Ints, Floats, Floats, Floats],
    track_sigma: Floats,
    rng: np.random.Generator,
) -> Flow:
    """Measure the towers and take the tracks out of them.

    A tower's energy is smeared (log-normal), and zero where it is below threshold. What exceeds the energy of its
    tracks, significantly, is a neutral particle and the tracks stay. Otherwise the tracks share the mean of both
    measurements, weighted with their errors; tracks without an error of their own then follow the tower alone.

    Args:
        calorimeter: towers and resolution.
        hits: event, energy deposited [GeV], eta, phi of the particles that leave energy, (K,) each.
        tracks: the same of the tracks whose particles leave energy here.
        track_sigma: (K,) their absolute error [GeV].
        rng: the only source of randomness.
    """
    event, deposit, eta, phi = (np.concatenate(pair) for pair in zip(hits, tracks, strict=True))
    is_track = np.arange(len(event)) >= len(hits[0])
    number = _tower(calorimeter, event, eta, phi)
    known, tower = np.unique(number, return_inverse=True)
    count = len(known)
    true: Floats = np.bincount(tower[~is_track], deposit[~is_track], count).astype(np.float64)
    charged = np.bincount(tower[is_track], deposit[is_track], count)
    variance = np.bincount(tower[is_track], track_sigma**2, count)

    row, column = known // _STRIDE % len(calorimeter.phi_bins), known % _STRIDE
    low, high = calorimeter.eta_edges[row], calorimeter.eta_edges[row + 1]
    centre = np.abs(low + high) / 2.0
    energy = log_normal(true, calorimeter.resolution(centre, true), rng)
    sigma = calorimeter.resolution(centre, energy)
    energy[(energy < calorimeter.energy_min) | (energy < calorimeter.significance_min * sigma)] = 0.0

    excess = np.maximum(energy - charged, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        significance = excess / np.sqrt(variance + sigma**2)
    inside = known >= 0
    neutral = inside & (excess > calorimeter.energy_min) & (significance > calorimeter.significance_min)

    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(variance > 0.0, sigma**2 / (variance + sigma**2), 0.0)
        best = np.where(sigma > 0.0, weight * charged + (1.0 - weight) * energy, energy)
        scale = np.where(neutral | ~inside | (charged <= 0.0), 1.0, best / charged)

    spread = rng.random((2, count))[:, neutral]
    size = 2.0 * np.pi / calorimeter.phi_bins[row[neutral]]
    return Flow(
        scale=scale[tower[is_track]],
        event=known[neutral] // _STRIDE // len(calorimeter.phi_bins),
        energy=excess[neutral],
        eta=low[neutral] + spread[0] * (high - low)[neutral],
        phi=-np.pi + (column[neutral] + spread[1]) * size,
    )
