"""Tracks of flavour samples: what a tracker adds to smeared helices.

Impact parameters are relative to a beam spot (d0) and to a reconstructed primary vertex (dz), with tails; displaced
particles cross fewer layers; some tracks are fakes; hits are counted; a selection like ATLAS's for flavour tagging is
applied. Numbers without a named source are chosen so that fractions and multiplicities come out as in ATLAS's open
simulation, see the tests.
"""

from dataclasses import dataclass

import numpy as np

from jettag.simulate.detector import Candidates, eta_of
from jettag.simulate.events import Bools, Events, Floats, Ints, Particles
from jettag.simulate.truth import track_origin

__all__ = ["LAYERS", "Tracks", "find_tracks", "join"]

# Radii of the pixel layers [mm], and hits in the strip layers beyond them.
LAYERS = {
    "atlas": ((33.25, 50.5, 88.5, 122.5), 8),
    "cms": ((29.0, 68.0, 109.0, 160.0), 10),
    "none": ((33.25, 50.5, 88.5, 122.5), 8),
}
PIXEL_HIT, STRIP_HIT = 0.97, 0.99  # probability of a hit in a layer that is crossed
MIN_HITS = 8
BEAM_SPOT = 0.010  # transverse spread of collisions [mm]
VERTEX_Z = 0.030  # error of the primary vertex along the beam [mm]
TAIL_FRACTION, TAIL_WIDTH = 0.03, 3.0  # tracks of worse resolution than their error says, and by how much
ERROR_SPREAD = 0.05  # of the reported errors about the true ones
DISPLACED_LOSS = 100.0  # production radius at which a fraction 1/e of tracks is still found [mm]
FAKE_FRACTION = 0.006  # of the tracks; they are everywhere in the windows of the selection
FAKE_SPREAD = 0.1  # in eta and phi about the track whose hits a fake borrows
# ATLAS's selection for flavour tagging: pT [GeV], |eta|, |d0| [mm], |z0 sin(theta)| [mm].
MIN_PT, MAX_ETA, MAX_D0, MAX_Z0 = 0.5, 2.5, 3.5, 5.0
FAKE, FAKE_VERTEX, PILE_UP_VERTEX = 1, -2, -2


@dataclass(frozen=True)
class Tracks:
    """Selected tracks, grouped by event.

    Args:
        event, pdg, charge: (T,).
        p4: (T, 4) at the perigee [GeV].
        d0, dz: (T,) to beam spot and primary vertex [mm], d0 in JetClass's sign; d0_error, dz_error: reported [mm].
        origin: (T,) index into `ORIGINS`.
        position: (T, 3) production point [mm] from the true primary vertex.
        pixel_hits, innermost_hits, strip_hits: (T,).
    """

    event: Ints
    pdg: Ints
    charge: Ints
    p4: Floats
    d0: Floats
    d0_error: Floats
    dz: Floats
    dz_error: Floats
    origin: Ints
    position: Floats
    pixel_hits: Ints
    innermost_hits: Ints
    strip_hits: Ints

    def take(self, rows: Ints) -> "Tracks":
        """Those rows, in that order."""
        return Tracks(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def join(parts: list[Tracks]) -> Tracks:
    """All tracks of the parts, grouped by event."""
    names = Tracks.__dataclass_fields__
    every = Tracks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
    return every.take(np.argsort(every.event, kind="stable"))


def find_tracks(
    measured: Candidates,
    particles: Particles,
    events: Events,
    detector: str,
    rng: np.random.Generator,
) -> Tracks:
    """Tracks of one batch, from the charged ones of what was measured.

    Args:
        measured: hard scatter or pile-up; what is neutral is left out.
        particles: that `measured.particle` counts.
        events: that `particles.row` counts.
        detector: `atlas`, `cms`, or `none`: the true helices, every one of them found.
        rng: the only source of randomness.
    """
    found = measured.take(np.flatnonzero((measured.charge != 0) & (measured.particle >= 0)))
    source = found.particle
    row, position = particles.row[source], particles.vertex[source]
    secondary = (row >= 0) & np.any(position != events.vertex[row], axis=1)
    radii, strips = LAYERS[detector]
    radius = np.hypot(position[:, 0], position[:, 1])
    crossed = radius[:, None] < np.array(radii)
    pixel = crossed if detector == "none" else crossed & (rng.random(crossed.shape) < PIXEL_HIT)
    tracks = Tracks(
        event=found.event,
        pdg=found.pdg,
        charge=found.charge,
        p4=found.p4,
        d0=found.d0,
        d0_error=found.d0_error,
        dz=found.dz,
        dz_error=found.dz_error,
        origin=track_origin(events, row, secondary),
        position=position,
        pixel_hits=pixel.sum(axis=1),
        innermost_hits=pixel[:, 0].astype(np.int64),
        strip_hits=np.full(len(row), strips) if detector == "none" else rng.binomial(strips, STRIP_HIT, len(row)),
    )
    if detector != "none":
        lost = rng.random(len(row)) > np.exp(-radius / DISPLACED_LOSS)
        tracks = tracks.take(np.flatnonzero(~lost & (tracks.pixel_hits + tracks.strip_hits >= MIN_HITS)))
        tracks = _smeared(tracks, len(events.offsets) - 1, rng)
        tracks = join([tracks, _fakes(tracks, rng)])
    return tracks.take(np.flatnonzero(_selected(tracks)))


def _smeared(tracks: Tracks, events: int, rng: np.random.Generator) -> Tracks:
    """Tails, the beam spot and the vertex, and errors that are known to five per cent."""
    count = len(tracks.event)
    worse = np.where(rng.random(count) < TAIL_FRACTION, np.sqrt(TAIL_WIDTH**2 - 1.0), 0.0)
    # Collisions happen beside the axis that d0 is measured to, and the vertex that dz is measured to is displaced.
    moved = rng.normal(0.0, [BEAM_SPOT, BEAM_SPOT, VERTEX_Z], (events, 3))[tracks.event]
    pt = np.hypot(tracks.p4[:, 0], tracks.p4[:, 1])
    cosine, sine, slope = tracks.p4[:, 0] / pt, tracks.p4[:, 1] / pt, tracks.p4[:, 2] / pt
    d0 = tracks.d0 + moved[:, 0] * sine - moved[:, 1] * cosine
    dz = tracks.dz + moved[:, 2] - (moved[:, 0] * cosine + moved[:, 1] * sine) * slope
    spread = 1.0 + ERROR_SPREAD * np.clip(rng.standard_normal((2, count)), -4.0, 4.0)
    values = {name: getattr(tracks, name) for name in tracks.__dataclass_fields__}
    values |= {
        "d0": d0 + rng.normal(0.0, 1.0, count) * worse * tracks.d0_error,
        "dz": dz + rng.normal(0.0, 1.0, count) * worse * tracks.dz_error,
        "d0_error": spread[0] * np.hypot(tracks.d0_error, BEAM_SPOT),
        "dz_error": spread[1] * np.hypot(tracks.dz_error, np.hypot(VERTEX_Z, BEAM_SPOT * slope)),
    }
    return Tracks(**values)


def _fakes(tracks: Tracks, rng: np.random.Generator) -> Tracks:
    """Chance combinations of the hits of true tracks: near them, of any impact parameter."""
    model = tracks.take(np.flatnonzero(rng.random(len(tracks.event)) < FAKE_FRACTION))
    count = len(model.event)
    pt = np.hypot(model.p4[:, 0], model.p4[:, 1])
    eta = eta_of(model.p4) + rng.normal(0.0, FAKE_SPREAD, count)
    phi = np.arctan2(model.p4[:, 1], model.p4[:, 0]) + rng.normal(0.0, FAKE_SPREAD, count)
    p = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], axis=1)
    mass2 = np.maximum(model.p4[:, 3] ** 2 - np.sum(model.p4[:, :3] ** 2, axis=1), 0.0)
    values = {name: getattr(model, name) for name in model.__dataclass_fields__}
    values |= {
        "p4": np.concatenate([p, np.sqrt(np.sum(p**2, axis=1) + mass2)[:, None]], axis=1),
        "charge": rng.choice((-1, 1), count) * np.abs(model.charge),
        "d0": rng.uniform(-MAX_D0, MAX_D0, count),
        "dz": rng.uniform(-MAX_Z0, MAX_Z0, count) * np.cosh(eta),
        "origin": np.full(count, FAKE),
        "innermost_hits": rng.integers(0, 2, count),
    }
    return Tracks(**values)


def _selected(tracks: Tracks) -> Bools:
    pt, eta = np.hypot(tracks.p4[:, 0], tracks.p4[:, 1]), eta_of(tracks.p4)
    near = (np.abs(tracks.d0) < MAX_D0) & (np.abs(tracks.dz) / np.cosh(eta) < MAX_Z0)
    return (pt > MIN_PT) & (np.abs(eta) < MAX_ETA) & near
