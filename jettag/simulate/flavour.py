"""Jets of flavour samples: every jet of an event, its tracks, labels by cone and by ghosts, and its true hadrons."""

from typing import Any

import awkward as ak
import numpy as np

from jettag.simulate.association import dense_core_loss, nearest_jet, shrinking_cone
from jettag.simulate.cards import FLAVOUR_DETECTORS
from jettag.simulate.clustering import Jets, find_jets
from jettag.simulate.columns import constituent_columns, jet_columns, stored
from jettag.simulate.detector import Candidates, respond, respond_tracks
from jettag.simulate.events import Bools, Events, Ints, Particles, visible
from jettag.simulate.material import interact
from jettag.simulate.pileup import Z_SPREAD, PileUp, overlay
from jettag.simulate.processes import Cuts
from jettag.simulate.settings import GenerateSettings
from jettag.simulate.tracking import FAKE_VERTEX, LAYERS, Tracks, find_tracks, join
from jettag.simulate.truth import (
    extended_flavour,
    flavour_ghosts,
    flight,
    from_b,
    jet_flavour,
    match,
    track_vertex,
)

__all__ = ["flavour_columns"]

FIND_PT, FIND_ETA = 10.0, 4.5  # jets down to here compete for hadrons and tracks [GeV]
LABEL_CONE = 0.3  # of hadrons about the jet, ATLAS's
TRUE_CONE = 0.3  # of the jet of stable particles about the measured one
TRUE_PT = 5.0  # [GeV]
SHARED = 0.01  # tracks nearer to each other than this share hits
NO_GHOSTS: dict[str, Any] = {"ghost_event": np.zeros(0, dtype=np.int64), "ghost_p4": np.zeros((0, 4))}


def flavour_columns(
    events: Events, settings: GenerateSettings, cuts: Cuts, library: PileUp | None, rng: np.random.Generator
) -> tuple[Ints, dict[str, Any]]:
    """Every jet of the events within the cuts.

    Args:
        events: from Pythia.
        settings: detector, pile-up, association and material.
        cuts: of the jets.
        library: of pile-up tracks; None without.
        rng: the only source of randomness.

    Returns:
        (J,) event of each jet, and the columns of the file but for its event number.
    """
    count = len(events.offsets) - 1
    particles = visible(events)
    if settings.material:
        particles = interact(particles, LAYERS[settings.detector][0], rng)
    candidates = respond(particles, settings.detector, rng, FLAVOUR_DETECTORS)
    parts = [find_tracks(candidates, particles, events, settings.detector, rng)]
    collisions = np.zeros(count, dtype=np.int64)
    if library is not None:
        none = Particles(**{name: getattr(particles, name)[:0] for name in Particles.__dataclass_fields__})
        other = overlay(none, count, settings.pileup, library, rng, beam_spot=Z_SPREAD)
        seen = respond_tracks(other, settings.detector, rng, FLAVOUR_DETECTORS)
        parts.append(find_tracks(seen, other, events, settings.detector, rng))
        pairs = np.unique(np.stack([other.event, np.rint(other.pile_up_z * 1e4).astype(np.int64)], axis=1), axis=0)
        collisions = np.bincount(pairs[:, 0], minlength=count)
    tracks = join(parts)

    hadrons, kind = flavour_ghosts(events)
    hadron_event = events.event[hadrons]
    found = find_jets(
        candidates.event,
        candidates.p4,
        events=count,
        radius=cuts.radius,
        pt_min=FIND_PT,
        pt_max=np.inf,
        eta_max=FIND_ETA,
        ghost_event=np.concatenate([hadron_event, tracks.event]),
        ghost_p4=np.concatenate([events.p4[hadrons], tracks.p4]),
    )
    jets = len(found.event)
    pt = np.hypot(found.p4[:, 0], found.p4[:, 1])
    by_cone, _ = nearest_jet(hadron_event, events.p4[hadrons], found, np.full(jets, LABEL_CONE))
    by_ghost = found.ghost_jet[: len(hadrons)]
    owner, distance = nearest_jet(tracks.event, tracks.p4, found, shrinking_cone(pt))
    if settings.association == "ghost":
        owner = found.ghost_jet[len(hadrons) :]
    if settings.detector != "none":
        lost = (owner >= 0) & dense_core_loss(distance, pt[owner] if jets else distance, rng)
        owner = np.where(lost, -1, owner)

    kept = (pt >= cuts.pt_min) & (pt <= cuts.pt_max) & (np.abs(_eta(found)) < cuts.eta_max)
    new = np.where(kept, np.cumsum(kept) - 1, -1)  # number of each jet among those kept

    def renumbered(jet: Ints) -> Ints:
        return np.where(jet >= 0, new[jet], -1) if jets else jet

    by_cone, by_ghost, owner = renumbered(by_cone), renumbered(by_ghost), renumbered(owner)
    number = int(kept.sum())
    of_b = from_b(events, hadrons)
    parton = match(events, _axes(found, kept), 0, cuts.radius)
    counts, constituents = _constituents(found, kept, candidates, tracks, owner)
    columns: dict[str, Any] = {
        **constituents,
        **{name: values.astype(np.float32) for name, values in jet_columns(found.p4[kept], counts).items()},
        "jet_truth_pt": _true_pt(found, kept, particles, cuts.radius, count).astype(np.float32),
        "jet_truth_pdg": np.where(parton >= 0, events.pdg[parton], 0).astype(np.int32),
        "jet_flavour": jet_flavour(number, by_cone, kind).astype(np.int32),
        "jet_flavour_extended": extended_flavour(number, by_cone, kind, of_b).astype(np.int32),
        "jet_flavour_ghost": jet_flavour(number, by_ghost, kind).astype(np.int32),
        "jet_flavour_ghost_extended": extended_flavour(number, by_ghost, kind, of_b).astype(np.int32),
        "event_pileup": collisions[found.event[kept]].astype(np.int32),
    }
    columns |= _hadrons(events, hadrons, kind, by_cone, columns["jet_flavour"])
    return found.event[kept], columns


def _eta(jets: Jets) -> Any:
    return np.arcsinh(jets.p4[:, 2] / np.maximum(np.hypot(jets.p4[:, 0], jets.p4[:, 1]), 1e-12))


def _axes(jets: Jets, kept: Bools) -> Jets:
    """Those jets, without their constituents."""
    none = np.zeros(0, dtype=np.int64)
    return Jets(jets.event[kept], jets.p4[kept], np.zeros(int(kept.sum()) + 1, dtype=np.int64), none, none)


def _true_pt(jets: Jets, kept: Bools, particles: Particles, radius: float, events: int) -> Any:
    """(J,) pT of the nearest jet of stable particles but neutrinos [GeV]; zero where there is none within 0.3."""
    order = np.flatnonzero(np.hypot(particles.p4[:, 0], particles.p4[:, 1]) > 0.0)
    true = find_jets(
        particles.event[order],
        particles.p4[order],
        events=events,
        radius=radius,
        pt_min=TRUE_PT,
        pt_max=np.inf,
        eta_max=FIND_ETA,
        **NO_GHOSTS,
    )
    axes = _axes(jets, kept)
    nearest, _ = nearest_jet(axes.event, axes.p4, true, np.full(len(true.event), TRUE_CONE))
    pt = np.append(np.hypot(true.p4[:, 0], true.p4[:, 1]), 0.0)
    return pt[nearest]


def _constituents(
    jets: Jets, kept: Bools, candidates: Candidates, tracks: Tracks, owner: Ints
) -> tuple[Ints, dict[str, Any]]:
    """Tracks of each jet by association and neutral particles by clustering, hardest first: (J,) counts, columns."""
    owners = np.repeat(np.where(kept, np.cumsum(kept) - 1, -1), np.diff(jets.offsets))
    neutral = (owners >= 0) & (candidates.charge[jets.constituents] == 0)
    rows = candidates.take(jets.constituents[neutral])
    at = np.flatnonzero(owner >= 0)
    own = tracks.take(at)
    jet = np.concatenate([owner[at], owners[neutral]])
    p4 = np.concatenate([own.p4, rows.p4])
    order = np.lexsort((-np.hypot(p4[:, 0], p4[:, 1]), jet))
    jet, p4 = jet[order], p4[order]
    counts = np.bincount(jet, minlength=int(kept.sum()))

    def both(track: Any, other: float = 0.0) -> Any:
        return np.concatenate([track, np.full(len(rows.event), other, dtype=track.dtype)])[order]

    pdg = np.concatenate([own.pdg, rows.pdg])[order]
    charge, origin = both(own.charge), both(own.origin, -1)
    position = np.concatenate([own.position, np.zeros((len(rows.event), 3))])[order]
    unmatched = (origin == 0) | (origin == 1)
    flat = constituent_columns(p4, pdg, charge, jet, jets.p4[kept])
    flat |= {
        "d0val": both(own.d0),
        "d0err": both(own.d0_error),
        "dzval": both(own.dz),
        "dzerr": both(own.dz_error),
        "nPixelHits": both(own.pixel_hits),
        "nInnermostHits": both(own.innermost_hits),
        "nStripHits": both(own.strip_hits),
        "nSharedHits": _shared(p4, charge, jet),
        "origin": origin,
        "vertex": np.where(unmatched, FAKE_VERTEX, track_vertex(position, jet, charge != 0, unmatched)),
    }
    return counts, {f"part_{name}": ak.unflatten(stored(values), counts) for name, values in flat.items()}


def _shared(p4: Any, charge: Ints, jet: Ints) -> Ints:
    """(K,) tracks of the same jet within 0.01, at most three: they leave hits in common."""
    eta, phi = np.arcsinh(p4[:, 2] / np.hypot(p4[:, 0], p4[:, 1])), np.arctan2(p4[:, 1], p4[:, 0])
    rows = np.flatnonzero(charge != 0)
    shared = np.zeros(len(jet), dtype=np.int64)
    order = rows[np.lexsort((eta[rows], jet[rows]))]
    step = 1
    while step < len(order):
        first, second = order[:-step], order[step:]
        near_eta = (jet[first] == jet[second]) & (eta[second] - eta[first] < SHARED)
        if not near_eta.any():
            break
        d_phi = np.remainder(phi[first] - phi[second] + np.pi, 2 * np.pi) - np.pi
        near = near_eta & (np.hypot(eta[second] - eta[first], d_phi) < SHARED)
        shared[first[near]] += 1
        shared[second[near]] += 1
        step += 1
    return np.minimum(shared, 3)


def _hadrons(events: Events, rows: Ints, kind: Ints, jet: Ints, flavour: Ints) -> dict[str, Any]:
    """All heavy hadrons and taus of each jet, hardest first, and of each jet the one that gave it its label."""
    decay, flown = flight(events, rows)
    p4, jets = events.p4[rows], len(flavour)
    facts: dict[str, Any] = {
        "flavour": kind,
        "pdgid": events.pdg[rows],
        "pt": np.hypot(p4[:, 0], p4[:, 1]),
        "mass": events.mass[rows],
        "lxy": np.hypot(decay[:, 0], decay[:, 1]),
        "flight": np.sqrt(np.sum(flown**2, axis=1)),
        "momentum": np.sqrt(np.sum(p4[:, :3] ** 2, axis=1)),
    }
    order = np.lexsort((-facts["pt"], jet))
    order = order[jet[order] >= 0]
    counts = np.bincount(jet[order], minlength=jets)
    columns = {f"hadron_{name}": ak.unflatten(stored(values[order]), counts) for name, values in facts.items()}
    named = order[kind[order] == flavour[jet[order]]]
    owner, first = np.unique(jet[named], return_index=True)
    for name in ("pdgid", "pt", "mass", "lxy", "flight"):
        values = np.zeros(jets, dtype=facts[name].dtype)
        values[owner] = facts[name][named[first]]
        columns[f"jet_hadron_{name}"] = stored(values)
    return columns
