"""Dijet events of a resonance over QCD: what a hunt for a bump looks at.

The resonance is a narrow spin-2 particle of Pythia (G*) whose one decay is to two new particles X and Y, each of which
decays to a pair of light quarks, as in the LHC Olympics R&D data set (arXiv:2101.08320).
"""

import contextlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from jettag import __version__
from jettag.config.processes import Processes
from jettag.data.root import write_tree
from jettag.errors import RecipeError, UsageError, nearest
from jettag.simulate.clustering import find_jets
from jettag.simulate.detector import respond
from jettag.simulate.dijet_columns import dijet_columns
from jettag.simulate.events import make_pythia, next_events, pythia_version, visible
from jettag.simulate.generator import SUFFIX, TREE, check_folder
from jettag.simulate.processes import BEAM_ENERGY, TUNES
from jettag.simulate.settings import MAX_SEED, DetectorName, FileKind, TuneName
from jettag.simulate.workers import MAX_EMPTY

__all__ = ["DIJETS", "DijetSettings", "simulate_dijets"]

DIJETS = {
    "dijet_qcd": "quark and gluon dijets",
    "dijet_resonance": "a resonance to X Y, each to a pair of light quarks",
}
X, Y, RESONANCE = 9_000_001, 9_000_002, 5_100_039
DAUGHTER_WIDTH = 0.01  # of the daughters, relative to their masses
CHUNK = 200  # events
# Cuts on the hard process, below those on the jets: jets lose energy, and gain some from what underlies them.
PT_HAT_LOW, M_HAT_LOW, M_HAT_HIGH = 0.85, 0.8, 1.3


@dataclass(frozen=True)
class DijetSettings:
    """The events that are wanted.

    Args:
        processes: names of `DIJETS`.
        events: of each process.
        seed: any integer from 0 to 899,999,999.
        radius: of the anti-kT jets.
        pt_min: lowest pT of both jets [GeV].
        eta_max: largest |eta| of both.
        mass: of the resonance [GeV].
        width: of the resonance [GeV].
        daughters: masses of X and Y [GeV].
        mjj: lowest and highest dijet mass [GeV].
        detector: `cms`, `atlas` or `none`.
        kind: file format.
        tune: of Pythia, from `jettag.simulate.processes.TUNES`.

    Raises:
        UsageError: a value that cannot be used.
    """

    processes: tuple[str, ...]
    events: int
    seed: int = 0
    radius: float = 1.0
    pt_min: float = 500.0
    eta_max: float = 2.5
    mass: float = 3500.0
    width: float = 35.0
    daughters: tuple[float, float] = (500.0, 100.0)
    mjj: tuple[float, float] = (2000.0, 5500.0)
    detector: DetectorName = "cms"
    kind: FileKind = "ttree"
    tune: TuneName = "monash"

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        for name in self.processes:
            if name not in DIJETS:
                raise UsageError(f"unknown dijet process {name!r}", do=nearest(name, DIJETS))
        if self.events < 1:
            raise UsageError(f"expected at least one event, got {self.events}", where="--jets")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"expected a seed from 0 to {MAX_SEED}, got {self.seed}", where="--seed")
        if not 0 < self.mass < BEAM_ENERGY or not 0 < self.width <= self.mass / 2:
            what = f"a resonance of mass {self.mass:g} and width {self.width:g} GeV"
            raise UsageError(what, where="--mass, --width", do="give a mass below 13000 and a width below half of it")
        if min(self.daughters) <= 0 or sum(self.daughters) >= self.mass:
            what = (
                f"a resonance of {self.mass:g} GeV cannot decay to {self.daughters[0]:g} and {self.daughters[1]:g} GeV"
            )
            raise UsageError(what, where="--daughters", do="give two masses that add up to less")
        if not 0 < self.mjj[0] < self.mjj[1]:
            raise UsageError(f"expected LOW:HIGH (GeV), got {self.mjj[0]:g}:{self.mjj[1]:g}", where="--mjj")
        if self.pt_min < 20 or not 0 < self.radius <= 3 or not 0 < self.eta_max <= 4:
            raise UsageError("jets cannot be found with these cuts", where="--pt, --radius, --eta")

    def lines(self, name: str) -> tuple[str, ...]:
        """Tune and hard process, setting by setting."""
        tune = TUNES[self.tune][1]
        window = (f"PhaseSpace:mHatMin = {M_HAT_LOW * self.mjj[0]:g}", f"PhaseSpace:mHatMax = {self._m_hat_max():g}")
        if name == "dijet_qcd":
            return (*tune, "HardQCD:all = on", f"PhaseSpace:pTHatMin = {PT_HAT_LOW * self.pt_min:g}", *window)
        decays = []
        for code, letter, mass in ((X, "X", self.daughters[0]), (Y, "Y", self.daughters[1])):
            decays += [
                f"{code}:new = {letter} {letter}bar 1 0 0 {mass:g} {DAUGHTER_WIDTH * mass:g} 0 0 0",
                f"{code}:isResonance = on",
                f"{code}:oneChannel = 1 0.5 101 1 -1",
                f"{code}:addChannel = 1 0.5 101 2 -2",
            ]
        return (
            *tune,
            "ExtraDimensionsG*:all = on",
            *decays,
            f"{RESONANCE}:m0 = {self.mass:g}",
            f"{RESONANCE}:mWidth = {self.width:g}",
            f"{RESONANCE}:doForceWidth = on",
            f"{RESONANCE}:oneChannel = 1 1.0 101 {X} {Y}",
        )

    def _m_hat_max(self) -> float:
        return min(M_HAT_HIGH * self.mjj[1], BEAM_ENERGY)


@dataclass
class DijetSummary:
    """What a run made: the files, and events tried and passed by process."""

    files: list[Path] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)


class _Maker:
    """Makes numbered batches of one process; Pythia is set up once."""

    def __init__(self, name: str, settings: DijetSettings) -> None:
        self.name, self.settings = name, settings
        self._pythia = make_pythia(settings.lines(name), name)

    def __call__(self, index: int) -> dict[str, Any]:
        settings = self.settings
        words = np.random.SeedSequence((settings.seed, zlib.crc32(self.name.encode()), index)).generate_state(2)
        events = next_events(self._pythia, CHUNK, int(words[0]) % MAX_SEED + 1)
        candidates = respond(visible(events), settings.detector, np.random.default_rng(int(words[1])))
        jets = find_jets(
            candidates.event,
            candidates.p4,
            events=CHUNK,
            radius=settings.radius,
            pt_min=settings.pt_min,
            pt_max=np.inf,
            eta_max=settings.eta_max,
            ghost_event=np.zeros(0, dtype=np.int64),
            ghost_p4=np.zeros((0, 4)),
        )
        columns = dijet_columns(jets, candidates.p4, candidates.charge, radius=settings.radius, mjj=settings.mjj)
        event = columns.pop("event")
        is_signal = np.full(len(event), self.name == "dijet_resonance")
        return columns | {
            "event_number": index * CHUNK + event,
            "label_background": ~is_signal,
            "label_signal": is_signal,
        }


_makers: dict[str, _Maker] = {}  # of a worker process, which lives for one run


def _make(name: str, settings: DijetSettings, index: int) -> dict[str, Any]:
    if name not in _makers:
        _makers[name] = _Maker(name, settings)
    return _makers[name](index)


@contextlib.contextmanager
def _source(workers: int) -> Iterator[Callable[[str, DijetSettings], Iterator[dict[str, Any]]]]:
    """Yield what gives the batches of a process in their order, made here or by worker processes."""
    if workers == 1:

        def here(name: str, settings: DijetSettings) -> Iterator[dict[str, Any]]:
            maker = _Maker(name, settings)
            return (maker(index) for index in itertools.count())

        yield here
        return
    pool = Processes(workers)

    def there(name: str, settings: DijetSettings) -> Iterator[dict[str, Any]]:
        waiting = [pool.submit(_make, name, settings, index) for index in range(workers + 1)]
        for index in itertools.count(len(waiting)):
            yield waiting.pop(0).result()
            waiting.append(pool.submit(_make, name, settings, index))

    try:
        yield there
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def simulate_dijets(
    settings: DijetSettings,
    out: Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> DijetSummary:
    """Simulate events and write OUT/PROCESS.root; the same settings give the same events with any number of workers.

    Raises:
        UsageError: a file exists already.
        RecipeError: no event passes the cuts.
        ResourceError: Pythia, FastJet or pyarrow is absent, or the folder cannot be written.
    """
    paths = {name: out / f"{name}{SUFFIX[settings.kind]}" for name in settings.processes}
    check_folder(out, list(paths.values()), overwrite)
    release = pythia_version()
    summary = DijetSummary()
    written = 0
    with _source(workers) as source:
        for name, path in paths.items():

            def pieces(name: str = name) -> Iterator[dict[str, ak.Array]]:
                nonlocal written
                left = settings.events
                summary.events[name] = summary.passed[name] = 0
                for columns in source(name, settings):
                    found = len(columns["m_jj"])
                    summary.events[name] += CHUNK
                    summary.passed[name] += found
                    if summary.events[name] >= MAX_EMPTY * (summary.passed[name] + 1):
                        what = f"no event of {name} out of {summary.events[name]} passed"
                        raise RecipeError(what, where="--mjj, --pt", do="widen the cuts")
                    if found:
                        yield {key: ak.Array(values[:left]) for key, values in columns.items()}
                    written += min(found, left)
                    left -= min(found, left)
                    if on_progress:
                        on_progress(written)
                    if not left:
                        return

            metadata = {
                "jettag": __version__,
                "generator": f"Pythia {release}",
                "process": name,
                "settings": json.dumps(list(settings.lines(name))),
                "generate": json.dumps(asdict(settings)),
            }
            write_tree(path, TREE, pieces(), metadata=metadata, kind=settings.kind)
            summary.files.append(path)
    return summary
