"""Material of the tracker: photons that convert, hadrons that interact, at the radii of its pixel layers.

Beam pipe and layers are cylinders; what crosses them at a polar angle theta sees 1 / sin(theta) more. Conversions share
the photon's energy uniformly and are collinear. An interaction gives the hadron itself and a pair pi+ pi-, with kicks
of the order of a pion's mass: charge, momentum and flavour are conserved. Energy is not: the momentum is shared, and
the masses are those of what comes out, as if the nucleus, whose remains are not made, gave or took the rest. Radii and
thicknesses are of the size that experiments report (arXiv:1609.04305), not those of one detector.
"""

import numpy as np

from jettag.simulate.detector import eta_of
from jettag.simulate.events import Floats, Particles, charge_of

__all__ = ["interact"]

BEAM_PIPE = 25.0  # radius [mm]
PIPE_X0, LAYER_X0 = 0.006, 0.028  # thickness in radiation lengths
INTERACTION = 0.2  # nuclear interaction lengths in a radiation length of silicon, 9.4 cm / 46.5 cm
CONVERSION = 7.0 / 9.0
MIN_PT, MAX_ETA = 0.5, 2.6  # others leave no selected track [GeV]
PIONS = (211, -211)  # beside the hadron itself
PRONGS = 1 + len(PIONS)
KICK = 0.3  # transverse momentum of each prong [GeV]
PION_MASS, ELECTRON_MASS = 0.13957, 0.000511


def interact(particles: Particles, layers: tuple[float, ...], rng: np.random.Generator) -> Particles:
    """Replace what converts or interacts by what comes out; charged particles are taken as straight up to there.

    Args:
        particles: the final state.
        layers: radii of the pixel layers [mm].
        rng: the only source of randomness.
    """
    radii = np.array([BEAM_PIPE, *layers])
    thickness = np.array([PIPE_X0, *[LAYER_X0] * len(layers)])
    p4, code = particles.p4, np.abs(particles.pdg)
    pt = np.hypot(p4[:, 0], p4[:, 1])
    seen = (pt > MIN_PT) & (np.abs(eta_of(p4)) < MAX_ETA)
    start = np.hypot(particles.vertex[:, 0], particles.vertex[:, 1])
    slant = np.sqrt(1.0 + (p4[:, 2] / np.maximum(pt, 1e-9)) ** 2)
    photon, hadron = seen & (code == 22), seen & (code > 100)
    rate = np.where(photon, CONVERSION, np.where(hadron, INTERACTION, 0.0)) * slant
    at = np.full(len(pt), -1)
    for layer, radius in enumerate(radii):
        chance = 1.0 - np.exp(-rate * thickness[layer])
        hit = (rng.random(len(pt)) < chance) & (at < 0) & (start < radius)
        at[hit] = layer
    rows = np.flatnonzero(at >= 0)
    parts = [_take(particles, np.flatnonzero(at < 0))]
    for chosen, make in ((rows[code[rows] == 22], _pairs), (rows[code[rows] != 22], _prongs)):
        if len(chosen):
            parts.append(make(particles, chosen, _crossing(particles, chosen, radii[at[chosen]]), rng))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Particles.__dataclass_fields__}
    order = np.argsort(joined["event"], kind="stable")
    return Particles(**{name: values[order] for name, values in joined.items()})


def _take(particles: Particles, rows: np.ndarray) -> Particles:
    return Particles(**{name: getattr(particles, name)[rows] for name in Particles.__dataclass_fields__})


def _crossing(particles: Particles, rows: np.ndarray, radius: Floats) -> Floats:
    """(R, 3) where straight lines meet cylinders."""
    p, x = particles.p4[rows, :3], particles.vertex[rows]
    pt = np.hypot(p[:, 0], p[:, 1])
    unit = p / pt[:, None]
    along = x[:, 0] * unit[:, 0] + x[:, 1] * unit[:, 1]
    path = -along + np.sqrt(along**2 + radius**2 - x[:, 0] ** 2 - x[:, 1] ** 2)
    crossing: Floats = x + path[:, None] * unit
    return crossing


def _born(
    particles: Particles, rows: np.ndarray, pdg: int | np.ndarray, p: Floats, mass: float | Floats, at: Floats
) -> Particles:
    """What comes out of ``rows``: one code and mass for all, or (R,) of each."""
    code = np.broadcast_to(pdg, len(rows)).astype(particles.pdg.dtype)
    energy = np.sqrt(np.sum(p**2, axis=1) + mass**2)
    return Particles(
        event=particles.event[rows],
        row=particles.row[rows],
        pdg=code,
        charge=charge_of(code),
        p4=np.concatenate([p, energy[:, None]], axis=1),
        mass=np.broadcast_to(mass, len(rows)).astype(np.float64),
        vertex=at,
        pile_up_z=particles.pile_up_z[rows],
    )


def _join(parts: list[Particles]) -> Particles:
    return Particles(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in Particles.__dataclass_fields__}
    )


def _pairs(particles: Particles, rows: np.ndarray, at: Floats, rng: np.random.Generator) -> Particles:
    share = rng.random(len(rows))[:, None]
    p = particles.p4[rows, :3]
    return _join(
        [
            _born(particles, rows, 11, p * share, ELECTRON_MASS, at),
            _born(particles, rows, -11, p * (1.0 - share), ELECTRON_MASS, at),
        ]
    )


def _prongs(particles: Particles, rows: np.ndarray, at: Floats, rng: np.random.Generator) -> Particles:
    shares = rng.dirichlet(np.ones(PRONGS), len(rows))
    kicks = rng.normal(0.0, KICK / np.sqrt(2.0), (len(rows), PRONGS, 3))
    kicks -= kicks.mean(axis=1, keepdims=True)
    p = shares[:, :, None] * particles.p4[rows, None, :3] + kicks
    itself = _born(particles, rows, particles.pdg[rows], p[:, 0], particles.mass[rows], at)
    pair = [_born(particles, rows, pdg, p[:, place], PION_MASS, at) for place, pdg in enumerate(PIONS, start=1)]
    return _join([itself, *pair])
