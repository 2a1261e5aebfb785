"""One chunk of events, from the seed to the columns of the file. Chunks know nothing of each other."""

import zlib
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from jettag.simulate.clustering import Jets, find_jets
from jettag.simulate.columns import constituent_columns, jet_columns, stored
from jettag.simulate.detector import Candidates, eta_of, respond
from jettag.simulate.events import Bools, Events, Ints, Particles, make_pythia, next_events, visible
from jettag.simulate.flavour import flavour_columns
from jettag.simulate.pileup import PileUp, overlay
from jettag.simulate.processes import BEAM_ENERGY, LABELS, TUNES, Process, find_process
from jettag.simulate.settings import MAX_SEED, GenerateSettings
from jettag.simulate.substructure import n_subjettiness, soft_drop_mass
from jettag.simulate.truth import flavour_ghosts, jet_flavour, match, track_origin, track_vertex

__all__ = ["Chunk", "Maker", "chunk_events", "pythia_lines"]

EVENTS = 100  # events a chunk: a second of work, so that workers share evenly and little is thrown away at the end
PT_HAT_LOW, PT_HAT_HIGH = 0.95, 1.3  # the hard process reaches from here to there, in units of the jets' pT edges


@dataclass(frozen=True)
class Chunk:
    """What a chunk gives.

    Args:
        events: tried.
        columns: of the file, one row a jet.
    """

    events: int
    columns: dict[str, ak.Array]

    @property
    def jets(self) -> int:
        """How many jets passed."""
        return len(self.columns["jet_pt"])


def chunk_events(settings: GenerateSettings) -> int:
    """Events a chunk: fewer under pile-up, where an event is larger. A function of the settings alone."""
    return max(5, int(EVENTS * 10 / (10 + settings.pileup)))


def pythia_lines(process: Process, settings: GenerateSettings, variant: int = 0) -> tuple[str, ...]:
    """Tune and hard process of a run, setting by setting; those of a flavour sample do not depend on the cuts."""
    chosen = (*TUNES[settings.tune][1], *process.settings, *process.variants[variant])
    if process.flavour:
        return chosen
    cuts = settings.cuts(process)
    low = PT_HAT_LOW * cuts.pt_min
    high = min(PT_HAT_HIGH * cuts.pt_max, BEAM_ENERGY / 2)
    edges = (f"PhaseSpace:pTHatMin = {low:.6g}", f"PhaseSpace:pTHatMax = {high:.6g}")
    return (*chosen, *edges)


class Maker:
    """Makes the chunks of one process; the Pythia instances are made when first needed and used again."""

    def __init__(self, name: str, settings: GenerateSettings) -> None:
        self.process = find_process(name)
        self.settings, self.cuts = settings, settings.cuts(self.process)
        self._pythia: dict[int, Any] = {}
        self._library: PileUp | None = None

    def _seeds(self, index: int) -> tuple[int, np.random.Generator]:
        """Pythia's seed and the detector's generator for a chunk."""
        first, second = _hashed(self.settings.seed, self.process.name, index)
        return first % MAX_SEED + 1, np.random.default_rng(second)

    def _pythia_of(self, index: int) -> Any:
        variant = index % len(self.process.variants)
        if variant not in self._pythia:
            lines = pythia_lines(self.process, self.settings, variant)
            self._pythia[variant] = make_pythia(lines, f"{self.process.name} at --pt {self.cuts.pt_min:g}")
        return self._pythia[variant]

    def start(self) -> None:
        """Initialise Pythia now and not with the first chunk."""
        self._pythia_of(0)

    def events(self, index: int) -> tuple[Events, np.random.Generator]:
        """The generated events of a chunk, before the detector, and the generator for what follows."""
        seed, rng = self._seeds(index)
        return next_events(self._pythia_of(index), chunk_events(self.settings), seed), rng

    def bare(self, index: int) -> None:
        """The events of a chunk made and forgotten, with `pythia.next()`: what a benchmark compares with."""
        pythia = self._pythia_of(index)
        pythia.rndm.init(self._seeds(index)[0])
        for _ in range(chunk_events(self.settings)):
            pythia.next()

    def make(self, index: int) -> Chunk:
        """Generate, detect, cluster and label chunk number `index`."""
        events, rng = self.events(index)
        count = len(events.offsets) - 1
        library = self._pile_up()
        if self.process.flavour:
            event, columns = flavour_columns(events, self.settings, self.cuts, library, rng)
        else:
            event, columns = self._classified(events, library, rng)
        columns["event_number"] = index * count + event
        return Chunk(count, {name: ak.Array(column) for name, column in columns.items()})

    def _pile_up(self) -> PileUp | None:
        if self.settings.pileup > 0 and self._library is None:
            seed = _hashed(self.settings.seed, "pile-up", 0)[0] % MAX_SEED + 1
            self._library = PileUp(seed, tracks=self.process.flavour)
        return self._library

    def _classified(
        self, events: Events, library: PileUp | None, rng: np.random.Generator
    ) -> tuple[Ints, dict[str, Any]]:
        """Jets of the process's class, with JetClass's columns."""
        settings, cuts, count = self.settings, self.cuts, len(events.offsets) - 1
        particles = visible(events)
        if library is not None:
            particles = overlay(particles, count, settings.pileup, library, rng)
        candidates = respond(particles, settings.detector, rng)
        ghosts, ghost_flavour = flavour_ghosts(events)
        jets = find_jets(
            candidates.event,
            candidates.p4,
            events=count,
            radius=cuts.radius,
            pt_min=cuts.pt_min,
            pt_max=cuts.pt_max,
            eta_max=cuts.eta_max,
            ghost_event=events.event[ghosts],
            ghost_p4=events.p4[ghosts],
        )
        matched = match(events, jets, self.process.resonance, cuts.radius)
        kept = matched >= 0 if self.process.resonance else np.ones(len(matched), dtype=bool)
        flavour = jet_flavour(len(matched), jets.ghost_jet, ghost_flavour)
        jets, matched, flavour = _only(jets, kept), matched[kept], flavour[kept]
        columns: dict[str, Any] = {
            **_constituents(jets, candidates, particles, events),
            **_jets(jets, candidates, cuts.radius),
            **_truth(matched, events),
            "jet_flavour": flavour.astype(np.int32),
        }
        for label in LABELS:
            columns[label] = np.full(len(matched), label == self.process.label)
        return jets.event, columns


def _hashed(seed: int, name: str, index: int) -> tuple[int, int]:
    """Two 64-bit numbers that share nothing with those of a neighbouring seed, name or index."""
    words = np.random.SeedSequence((seed, zlib.crc32(name.encode()), index)).generate_state(2, np.uint64)
    return int(words[0]), int(words[1])


def _only(jets: Jets, kept: Bools) -> Jets:
    """Some of the jets."""
    size = np.diff(jets.offsets)
    return Jets(
        event=jets.event[kept],
        p4=jets.p4[kept],
        offsets=np.concatenate([[0], np.cumsum(size[kept])]),
        constituents=jets.constituents[np.repeat(kept, size)],
        ghost_jet=np.zeros(0, dtype=np.int64),
    )


def _constituents(jets: Jets, candidates: Candidates, particles: Particles, events: Events) -> dict[str, Any]:
    found = candidates.take(jets.constituents)
    size = np.diff(jets.offsets)
    jet = np.repeat(np.arange(len(size)), size)
    charged = found.charge != 0
    source = particles.row[found.particle]
    origin = np.where(charged, track_origin(events, source), -1)
    vertex = track_vertex(particles.vertex[found.particle], jet, charged, source < 0)
    flat = constituent_columns(found.p4, found.pdg, found.charge, jet, jets.p4)
    flat |= {"d0val": found.d0, "d0err": found.d0_error, "dzval": found.dz, "dzerr": found.dz_error}
    columns = {f"part_{name}": ak.unflatten(stored(values), size) for name, values in flat.items()}
    columns["part_origin"] = ak.unflatten(origin.astype(np.int32), size)
    columns["part_vertex"] = ak.unflatten(vertex.astype(np.int32), size)
    return columns


def _jets(jets: Jets, candidates: Candidates, radius: float) -> dict[str, Any]:
    p4 = candidates.p4[jets.constituents]
    tau = n_subjettiness(p4, jets.offsets, radius=radius)
    columns = jet_columns(jets.p4, np.diff(jets.offsets)) | {
        "jet_sdmass": soft_drop_mass(p4, jets.offsets, radius=radius),
        **{f"jet_tau{n + 1}": tau[:, n] for n in range(tau.shape[1])},
    }
    return {name: values.astype(np.float32) for name, values in columns.items()}


def _truth(matched: Ints, events: Events) -> dict[str, Any]:
    """The matched resonance or parton; zero where there is none."""
    known = matched >= 0
    p4 = events.p4[matched]
    columns = {
        "jet_truth_pt": np.hypot(p4[:, 0], p4[:, 1]),
        "jet_truth_eta": eta_of(p4),
        "jet_truth_phi": np.arctan2(p4[:, 1], p4[:, 0]),
        "jet_truth_mass": np.maximum(events.mass[matched], 0.0),
    }
    stored: dict[str, Any] = {name: np.where(known, values, 0.0).astype(np.float32) for name, values in columns.items()}
    stored["jet_truth_pdg"] = np.where(known, events.pdg[matched], 0).astype(np.int32)
    return stored
