"""From final-state particles to the reconstructed ones: tracks with impact parameters, photons, neutral hadrons.

Fakes, hits, tails and material are added for flavour samples alone, in `tracking` and `material`: the public cards have
none of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jettag.simulate.calorimeter import Flow, energy_flow, log_normal
from jettag.simulate.cards import DETECTORS, Detector
from jettag.simulate.events import Floats, Ints, Particles
from jettag.simulate.tracks import to_calorimeter, to_perigee

__all__ = ["Candidates", "eta_of", "respond", "respond_tracks"]

PHOTON, NEUTRAL_HADRON = 22, 0  # what a tower is called
# Share of the energy in the electromagnetic calorimeter, by |PDG id|; all else is hadronic, muons leave nothing.
ECAL_SHARE = {11: 1.0, 22: 1.0, 111: 1.0, 310: 0.3, 3122: 0.3}
PILE_UP_DISTANCE = 0.1  # tracks of collisions farther than this from the primary vertex are removed [mm]
MAX_ETA = 5.0
NO_FIELD = DETECTORS["cms"].field  # `none` measures impact parameters in the field of CMS, without error


@dataclass(frozen=True)
class Candidates:
    """Reconstructed particles, grouped by event.

    Args:
        event: (C,) ascending.
        particle: (C,) index into `Particles` for what has a track (or for everything without a detector), else -1.
        pdg: (C,) identity; 0 is a neutral hadron of a tower.
        charge: (C,).
        p4: (C, 4) [GeV].
        d0, d0_error, dz, dz_error: (C,) [mm], d0 in JetClass's sign; zero for neutral ones.
    """

    event: Ints
    particle: Ints
    pdg: Ints
    charge: Ints
    p4: Floats
    d0: Floats
    d0_error: Floats
    dz: Floats
    dz_error: Floats

    def take(self, rows: Ints) -> "Candidates":
        """Those rows, in that order."""
        return Candidates(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def eta_of(p4: Floats) -> Floats:
    """Pseudorapidity, (P, 4) -> (P,)."""
    return np.arcsinh(p4[:, 2] / np.maximum(np.hypot(p4[:, 0], p4[:, 1]), 1e-12))


def respond(
    particles: Particles, detector: str, rng: np.random.Generator, cards: Mapping[str, Detector] = DETECTORS
) -> Candidates:
    """What the detector makes of a batch of events.

    Args:
        particles: the final state.
        detector: name of a card, or `none`: every visible particle with its true momentum.
        rng: the only source of randomness.
        cards: by name.
    """
    found = _particle_level(particles) if detector == "none" else _measured(particles, cards[detector], rng)
    pt = np.hypot(found.p4[:, 0], found.p4[:, 1])
    keep = (pt > 0.0) & (np.abs(eta_of(found.p4)) < MAX_ETA)
    # Charged-hadron subtraction as in Delphes' pile-up card: perfect where the collisions are apart, blind elsewhere.
    far = np.abs(particles.pile_up_z) > PILE_UP_DISTANCE
    keep &= ~((found.charge != 0) & (found.particle >= 0) & far[found.particle])
    rows = np.flatnonzero(keep)
    return found.take(rows[np.argsort(found.event[rows], kind="stable")])


def respond_tracks(
    particles: Particles, detector: str, rng: np.random.Generator, cards: Mapping[str, Detector] = DETECTORS
) -> Candidates:
    """The tracks of charged particles, without calorimeters and without removing those of other collisions."""
    if detector == "none":
        found = _particle_level(particles)
        return found.take(np.flatnonzero(found.charge != 0))
    at = np.flatnonzero(particles.charge != 0)
    seen = _track(particles, at, cards[detector], rng)
    rows = at[seen.index]
    pdg, charge = particles.pdg[rows], particles.charge[rows]
    return Candidates(particles.event[rows], rows, pdg, charge, seen.p4, seen.d0, seen.d0_error, seen.dz, seen.dz_error)


def _particle_level(particles: Particles) -> Candidates:
    pt = np.hypot(particles.p4[:, 0], particles.p4[:, 1])
    zero = np.zeros(len(pt))
    d0, dz = zero.copy(), zero.copy()
    bent = (particles.charge != 0) & (pt > 0.0)
    d0[bent], dz[bent], _ = to_perigee(particles.p4[bent], particles.charge[bent], particles.vertex[bent], NO_FIELD)
    everything = np.arange(len(pt))
    return Candidates(particles.event, everything, particles.pdg, particles.charge, particles.p4, d0, zero, dz, zero)


@dataclass(frozen=True)
class _Seen:
    """Charged particles that leave a track: `index` into those tried, and the track; `relative` error of pT."""

    index: Ints
    phi: Floats
    p4: Floats
    relative: Floats
    d0: Floats
    d0_error: Floats
    dz: Floats
    dz_error: Floats


def _track(particles: Particles, rows: Ints, card: Detector, rng: np.random.Generator) -> _Seen:
    """Efficiency, momentum and impact parameters of charged particles."""
    p4, code = particles.p4[rows], np.abs(particles.pdg[rows])
    pt, eta = np.hypot(p4[:, 0], p4[:, 1]), np.abs(eta_of(p4))
    electron, muon = code == 11, code == 13

    def by_kind(hadrons: Floats, electrons: Floats, muons: Floats) -> Floats:
        return np.where(electron, electrons, np.where(muon, muons, hadrons))

    efficiency = by_kind(
        card.hadron_efficiency(pt, eta), card.electron_efficiency(pt, eta), card.muon_efficiency(pt, eta)
    )
    resolution = by_kind(
        card.hadron_resolution(pt, eta), card.electron_resolution(pt, eta), card.muon_resolution(pt, eta)
    )
    index = np.flatnonzero(rng.random(len(rows)) < efficiency)
    found, p4, pt, eta, resolution = rows[index], p4[index], pt[index], eta[index], resolution[index]
    d0, dz, phi = to_perigee(p4, particles.charge[found], particles.vertex[found], card.field)
    d0_error, dz_error = card.impact.resolutions(pt, eta)
    d0, dz = rng.normal(d0, d0_error), rng.normal(dz, dz_error)
    if card.exact_tracks:
        # The JetClass card smears impact parameters last, with momentum errors of zero, which restores the true
        # momentum and leaves the track without an error: where a tower shows no neutral excess its energy decides.
        momentum, relative = np.ones_like(pt), np.zeros_like(pt)
    else:
        momentum, relative = log_normal(pt, resolution * pt, rng) / pt, resolution
    return _Seen(index, phi, _boosted(p4, phi, momentum, particles.mass[found]), relative, d0, d0_error, dz, dz_error)


def _measured(particles: Particles, card: Detector, rng: np.random.Generator) -> Candidates:
    vertex = particles.vertex
    inside = (np.hypot(vertex[:, 0], vertex[:, 1]) < card.radius) & (np.abs(vertex[:, 2]) < card.half_length)
    transverse = np.hypot(particles.p4[:, 0], particles.p4[:, 1])
    # Beyond the calorimeters there is nothing to hit, and a fifth of all particles.
    inside &= (transverse > 3e-5) & (np.abs(particles.p4[:, 2]) < transverse * np.sinh(MAX_ETA + 0.5))
    at = np.flatnonzero(inside)
    event, pdg, charge, p4 = particles.event[at], particles.pdg[at], particles.charge[at], particles.p4[at]
    x, y, z = to_calorimeter(
        p4, charge, vertex[at], field=card.field, cylinder_radius=card.radius, half_length=card.half_length
    )
    hit_eta, hit_phi = np.arcsinh(z / np.maximum(np.hypot(x, y), 1e-9)), np.arctan2(y, x)
    code = np.abs(pdg)
    ecal_share = np.zeros(len(at))
    for known, fraction in ECAL_SHARE.items():
        ecal_share[code == known] = fraction
    hcal_share = np.where(code == 13, 0.0, 1.0 - ecal_share)

    charged = np.flatnonzero(charge != 0)
    seen = _track(particles, at[charged], card, rng)
    tracked, track_p4 = charged[seen.index], seen.p4

    scale = np.ones(len(tracked))
    towers: list[tuple[Flow, int]] = []
    for calorimeter, share, name in ((card.ecal, ecal_share, PHOTON), (card.hcal, hcal_share, NEUTRAL_HADRON)):
        leaves = share > 0.0
        with_deposit = leaves[tracked]
        energy = track_p4[with_deposit, 3] * share[tracked[with_deposit]]
        flow = energy_flow(
            calorimeter,
            hits=(event[leaves], p4[leaves, 3] * share[leaves], hit_eta[leaves], hit_phi[leaves]),
            tracks=(
                event[tracked[with_deposit]],
                energy,
                hit_eta[tracked[with_deposit]],
                hit_phi[tracked[with_deposit]],
            ),
            track_sigma=seen.relative[with_deposit] * energy,
            rng=rng,
        )
        scale[with_deposit] *= flow.scale
        towers.append((flow, name))
    track_p4 = _boosted(track_p4, seen.phi, scale, particles.mass[at[tracked]])
    track_p4[scale <= 0.0] = 0.0

    parts = [
        Candidates(
            event[tracked],
            at[tracked],
            pdg[tracked],
            charge[tracked],
            track_p4,
            seen.d0,
            seen.d0_error,
            seen.dz,
            seen.dz_error,
        )
    ]
    for flow, name in towers:
        flat = np.zeros(len(flow.event))
        pt_tower = flow.energy / np.cosh(flow.eta)
        p4_tower = np.stack(
            [pt_tower * np.cos(flow.phi), pt_tower * np.sin(flow.phi), pt_tower * np.sinh(flow.eta), flow.energy],
            axis=1,
        )
        none = np.full(len(flat), -1)
        parts.append(Candidates(flow.event, none, np.full(len(flat), name), 0 * none, p4_tower, flat, flat, flat, flat))
    names = Candidates.__dataclass_fields__
    return Candidates(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _boosted(p4: Floats, phi: Floats, scale: Floats, mass: Floats) -> Floats:
    """Momentum at azimuth `phi`, scaled, polar angle and mass kept, (P, 4)."""
    pt = np.hypot(p4[:, 0], p4[:, 1])
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), p4[:, 2]], axis=1) * scale[:, None]
    energy = np.sqrt(np.sum(momentum**2, axis=1) + mass**2)
    return np.concatenate([momentum, energy[:, None]], axis=1)
