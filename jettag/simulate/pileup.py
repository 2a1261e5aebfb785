"""Pile-up overlay: inelastic collisions from a library of Pythia events, at their own place along the beam."""

from typing import Any

import numpy as np

from jettag.simulate.events import Floats, Particles, make_pythia, next_events, visible

__all__ = ["Z_SPREAD", "PileUp", "overlay"]

LIBRARY = 2000  # events, made once a worker from the run's seed; each use gets its own azimuth, side and place
Z_SPREAD = 53.0  # of the collisions along the beam [mm], Delphes' pile-up cards
MAX_ETA = 5.0
TRACK_PT, TRACK_ETA = 0.4, 2.6  # below [GeV], and beyond, no track is selected
# Diffraction without its own hard scatters: Pythia starts in 0.4 s and not in 5; within |eta| < 2.5 the scalar pT of a
# collision changes by 2 % (33.4 against 34.1 GeV).
SETTINGS = ("SoftQCD:inelastic = on", "Diffraction:mMinPert = 20000")


class PileUp:
    """A library of minimum-bias events that depends on the seed alone.

    Args:
        seed: 1 to 900,000,000.
        tracks: keep only what can leave a track in a flavour sample.
    """

    def __init__(self, seed: int, *, tracks: bool = False) -> None:
        pythia = make_pythia(SETTINGS, "pile-up")
        self.particles = visible(next_events(pythia, LIBRARY, seed))
        eta = np.abs(np.arcsinh(self.particles.p4[:, 2] / np.maximum(np.hypot(*self.particles.p4[:, :2].T), 1e-9)))
        pt = np.hypot(*self.particles.p4[:, :2].T)
        kept = (self.particles.charge != 0) & (pt > TRACK_PT) & (eta < TRACK_ETA) if tracks else eta < MAX_ETA
        rows = np.flatnonzero(kept)
        self.rows = rows
        self.begin = np.searchsorted(self.particles.event[rows], np.arange(LIBRARY + 1))


def overlay(
    hard: Particles,
    events: int,
    mean: float,
    library: PileUp,
    rng: np.random.Generator,
    *,
    beam_spot: float = 0.0,
) -> Particles:
    """Add Poisson(mean) collisions to each event; the hard scatter stays at the origin.

    Args:
        hard: the particles of the hard scatter, E events.
        events: E.
        mean: collisions an event.
        library: where they come from.
        rng: the only source of randomness.
        beam_spot: spread of the hard scatter itself along the beam [mm].
    """
    collisions = rng.poisson(mean, events)
    total = int(collisions.sum())
    chosen = rng.integers(0, LIBRARY, total)
    angle = rng.uniform(-np.pi, np.pi, total)
    side = rng.choice((-1.0, 1.0), total)
    z = rng.normal(0.0, Z_SPREAD, total)
    if beam_spot:
        z -= np.repeat(rng.normal(0.0, beam_spot, events), collisions)
    size = library.begin[chosen + 1] - library.begin[chosen]
    source = np.repeat(np.arange(total), size)
    within = np.arange(len(source)) - np.repeat(np.cumsum(size) - size, size)
    rows = library.rows[np.repeat(library.begin[chosen], size) + within]

    taken = library.particles
    cosine, sine = np.cos(angle)[source], np.sin(angle)[source]

    def turned(vector: Floats) -> Floats:
        x, y = vector[rows, 0], vector[rows, 1]
        return np.stack([cosine * x - sine * y, sine * x + cosine * y, side[source] * vector[rows, 2]], axis=1)

    vertex = turned(taken.vertex)
    vertex[:, 2] += z[source]
    event = np.repeat(np.arange(events), collisions)[source]
    extra = {
        "event": event,
        "row": np.full(len(rows), -1),
        "pdg": taken.pdg[rows],
        "charge": taken.charge[rows],
        "p4": np.concatenate([turned(taken.p4), taken.p4[rows, 3:]], axis=1),
        "mass": taken.mass[rows],
        "vertex": vertex,
        "pile_up_z": z[source],
    }
    both = {name: np.concatenate([getattr(hard, name), value]) for name, value in extra.items()}
    order = np.argsort(both["event"], kind="stable")
    columns: dict[str, Any] = {name: value[order] for name, value in both.items()}
    return Particles(**columns)
