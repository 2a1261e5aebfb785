"""Anti-kT jets of a whole batch of events, with their constituents and the truth hadrons that cluster into them."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from jettag.errors import ResourceError
from jettag.simulate.events import Floats, Ints

__all__ = ["Jets", "find_jets", "import_fastjet", "momenta"]

GHOST = 1e-18  # a ghost's momentum in units of the particle's: far below double precision beside any jet


@dataclass(frozen=True)
class Jets:
    """Jets within the cuts, grouped by event, hardest first within an event.

    Args:
        event: (J,) ascending.
        p4: (J, 4) [GeV].
        offsets: (J + 1,) where the constituents of each jet begin.
        constituents: rows of the candidates, hardest first within a jet.
        ghost_jet: (G,) jet of each ghost, -1 where it is in none of these.
    """

    event: Ints
    p4: Floats
    offsets: Ints
    constituents: Ints
    ghost_jet: Ints


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """FastJet prints its banner from C++ on the first clustering: send file descriptor 1 elsewhere meanwhile."""
    try:
        saved = os.dup(1)
    except OSError:  # there is no standard output to protect
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)


_banner_seen = False


def import_fastjet() -> Any:
    """FastJet, its banner already swallowed.

    Raises:
        ResourceError: it cannot be imported.
    """
    global _banner_seen
    try:
        import fastjet
    except ImportError as problem:
        raise ResourceError(f"FastJet cannot be imported ({problem})", do="pip install 'fastjet>=3.4.3'") from problem
    if not _banner_seen:
        with _quiet():
            fastjet.ClusterSequence(
                [fastjet.PseudoJet(1.0, 0.0, 0.0, 1.0)], fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)
            )
        _banner_seen = True
    return fastjet


def momenta(p4: Floats, offsets: Ints) -> ak.Array:
    """Jagged Momentum4D from (C, 4) [GeV] and (E + 1,)."""
    fields = {
        name: ak.contents.NumpyArray(np.ascontiguousarray(p4[:, i])) for i, name in enumerate(("px", "py", "pz", "E"))
    }
    record = ak.contents.RecordArray(list(fields.values()), list(fields), parameters={"__record__": "Momentum4D"})
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets.astype(np.int64)), record))


def find_jets(
    event: Ints,
    p4: Floats,
    *,
    events: int,
    radius: float,
    pt_min: float,
    pt_max: float,
    eta_max: float,
    ghost_event: Ints,
    ghost_p4: Floats,
) -> Jets:
    """Cluster each event with anti-kT and keep the jets within the cuts.

    Args:
        event: (C,) of the candidates, ascending.
        p4: (C, 4) of the candidates [GeV].
        events: E.
        radius: R.
        pt_min: lowest jet pT [GeV].
        pt_max: highest jet pT [GeV].
        eta_max: largest |eta| of a jet.
        ghost_event: (G,) of particles that are clustered as ghosts: they follow, and change nothing.
        ghost_p4: (G, 4) [GeV].
    """
    fastjet = import_fastjet()
    both_event = np.concatenate([event, ghost_event])
    order = np.argsort(both_event, kind="stable")
    both_p4 = np.concatenate([p4, ghost_p4 * GHOST])[order]
    offsets = np.searchsorted(both_event[order], np.arange(events + 1))
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, radius)
    sequence = fastjet.ClusterSequence(momenta(both_p4, offsets), definition)
    found = sequence.inclusive_jets(min_pt=pt_min)
    members = sequence.constituent_index(min_pt=pt_min)

    jet_event = np.repeat(np.arange(events), ak.to_numpy(ak.num(found)))
    flat = ak.flatten(found)
    jets = np.stack([ak.to_numpy(flat[name]) for name in ("px", "py", "pz", "E")], axis=1).reshape(-1, 4)
    members = ak.flatten(members)
    pt = np.hypot(jets[:, 0], jets[:, 1])
    eta = np.arcsinh(jets[:, 2] / np.maximum(pt, 1e-12))
    kept = np.flatnonzero((pt >= pt_min) & (pt <= pt_max) & (np.abs(eta) < eta_max))
    kept = kept[np.lexsort((-pt[kept], jet_event[kept]))]

    members = members[kept]
    jet_of_member = np.repeat(np.arange(len(kept)), ak.to_numpy(ak.num(members)))
    rows = order[ak.to_numpy(ak.flatten(members)).astype(np.int64) + offsets[jet_event[kept]][jet_of_member]]
    ghost_jet = np.full(len(ghost_event), -1)
    is_ghost = rows >= len(event)
    ghost_jet[rows[is_ghost] - len(event)] = jet_of_member[is_ghost]
    rows, jet_of_member = rows[~is_ghost], jet_of_member[~is_ghost]
    by_pt = np.lexsort((-np.hypot(p4[rows, 0], p4[rows, 1]), jet_of_member))
    return Jets(
        event=jet_event[kept],
        p4=jets[kept],
        offsets=np.searchsorted(jet_of_member, np.arange(len(kept) + 1)),
        constituents=rows[by_pt],
        ghost_jet=ghost_jet,
    )
