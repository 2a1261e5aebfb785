"""`jettag generate`: simulated jets of the asked processes, in files of JetClass's schema."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jettag import __version__
from jettag.data.root import write_tree
from jettag.errors import ResourceError, UsageError
from jettag.simulate.chunk import EVENTS, Chunk, chunk_events, pythia_lines
from jettag.simulate.events import pythia_version
from jettag.simulate.processes import BEAM_ENERGY, TUNES, Cuts, Process, find_process
from jettag.simulate.settings import GenerateSettings
from jettag.simulate.workers import Workers

__all__ = ["SUFFIX", "TREE", "Summary", "check_folder", "generate", "simulate"]

TREE = "tree"
SUFFIX = {"ttree": ".root", "rntuple": ".root", "parquet": ".parquet"}


@dataclass
class Summary:
    """What a run made.

    Args:
        files: in the order of the processes.
        events: tried, by process.
        passed: jets that passed in those events, by process; the files hold as many of them as were asked for.
    """

    files: list[Path] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)


def generate(
    settings: GenerateSettings,
    out: Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Simulate jets and write them; see `simulate`, of which this returns the files."""
    return simulate(settings, out, workers=workers, overwrite=overwrite, on_progress=on_progress).files


def simulate(
    settings: GenerateSettings,
    out: Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Summary:
    """Simulate jets and write OUT/PROCESS.root, or OUT/PROCESS_000.root ... where a process needs more than one file.

    The same settings give the same jets, whatever the number of workers. A file is there complete or not at all.

    Args:
        settings: which jets.
        out: folder, made where absent.
        workers: processes that simulate; one is this process.
        overwrite: replace files of these names, each when its successor is complete.
        on_progress: told the number of jets written so far.

    Raises:
        UsageError: unknown process, or a file exists already.
        RecipeError: no event passes the cuts.
        ResourceError: Pythia, FastJet or pyarrow is absent, the folder cannot be written, or a worker died.
    """
    if workers < 1:
        raise UsageError(f"expected at least one worker, got {workers}", where="--workers")
    names = [find_process(name).name for name in settings.processes]
    plan = {name: _files(out, name, settings) for name in names}
    check_folder(out, [path for files in plan.values() for path in files], overwrite)
    release = pythia_version()
    summary = Summary()
    written = 0

    def count(jets: int) -> None:
        nonlocal written
        written += jets
        if on_progress is not None:
            on_progress(written)

    # A worker takes seconds to start: no more of them than chunks that will surely be needed.
    useful = min(workers, 1 + settings.jets * len(names) // (2 * EVENTS))
    with Workers(useful) as pool:
        for name in names:
            jets = _Stream(pool.chunks(name, settings, settings.jets), summary, name, count)
            metadata = _metadata(name, settings, release)
            for number, path in enumerate(plan[name]):
                share = min(settings.jets_per_file, settings.jets - number * settings.jets_per_file)
                write_tree(path, TREE, jets.take(share), metadata=metadata, kind=settings.kind)
                summary.files.append(path)
    return summary


class _Stream:
    """Jets one after the other, cut where a file ends."""

    def __init__(self, chunks: Iterator[Chunk], summary: Summary, name: str, count: Callable[[int], None]) -> None:
        self._chunks = chunks
        self._rest: dict[str, Any] = {}
        self._summary, self._name, self._count = summary, name, count
        summary.events[name] = summary.passed[name] = 0

    def take(self, jets: int) -> Iterator[Mapping[str, Any]]:
        """Columns of the next `jets` jets, in pieces."""
        while jets:
            columns = self._rest or self._next()
            size = len(columns["jet_pt"])
            piece = {name: column[:jets] for name, column in columns.items()}
            self._rest = {name: column[jets:] for name, column in columns.items()} if size > jets else {}
            if size:
                yield piece
                self._count(min(size, jets))
            jets -= min(size, jets)

    def _next(self) -> dict[str, Any]:
        chunk = next(self._chunks)
        self._summary.events[self._name] += chunk.events
        self._summary.passed[self._name] += chunk.jets
        return chunk.columns


def _files(out: Path, name: str, settings: GenerateSettings) -> list[Path]:
    count = -(-settings.jets // settings.jets_per_file)
    suffix = SUFFIX[settings.kind]
    if count == 1:
        return [out / f"{name}{suffix}"]
    return [out / f"{name}_{number:03d}{suffix}" for number in range(count)]


def check_folder(out: Path, files: list[Path], overwrite: bool) -> None:
    """Everything that can be known to fail at the end fails now."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as problem:
        raise UsageError("expected a folder, found a file", where=f"--out {out}", do="name a folder") from problem
    except OSError as problem:
        raise ResourceError(
            f"cannot make the folder ({problem.strerror})", where=out, do="choose another --out"
        ) from problem
    if not os.access(out, os.W_OK | os.X_OK):
        raise ResourceError("cannot write to the folder", where=out, do="choose another --out")
    present = [path for path in files if path.exists()]
    if present and not overwrite:
        more = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise UsageError(
            f"the file exists already{more}",
            where=present[0],
            do="add --overwrite to replace it, or choose another --out",
        )


def _metadata(name: str, settings: GenerateSettings, release: str) -> dict[str, str]:
    """What it takes to make the file again, and to read it rightly."""
    process = find_process(name)
    cuts = settings.cuts(process)
    lines = [pythia_lines(process, settings, variant) for variant in range(len(process.variants))]
    return {
        "jettag": __version__,
        "generator": f"Pythia {release}",
        "tune": TUNES[settings.tune][0],
        "beams": f"pp at {BEAM_ENERGY:g} GeV",
        "process": process.name,
        "pythia": json.dumps(lines),
        "seed": str(settings.seed),
        "detector": settings.detector,
        "pileup": f"{settings.pileup:g}",
        "jets": f"anti-kT R={cuts.radius:g}, {cuts.pt_min:g} < pT < {cuts.pt_max:g} GeV, |eta| < {cuts.eta_max:g}",
        "events_per_chunk": str(chunk_events(settings)),
        **(_flavour_facts(settings) if process.flavour else _class_facts(process, cuts)),
        "units": "GeV, mm, rad",
        "d0_sign": "jetclass",
        "d0_convention": "(x py - y px) / pT, minus the ATLAS and CMS sign",
    }


def _class_facts(process: Process, cuts: Cuts) -> dict[str, str]:
    whole = f"every decay quark, gluon and charged lepton within dR {cuts.radius:g}"
    return {
        "truth_match": whole if process.resonance else "none",
        "flavour": "ghost association of weakly decaying hadrons and hadronic taus above 5 GeV; 5 before 4 before 15",
        "substructure": "soft drop beta 0 zcut 0.1; N-subjettiness beta 1, one-pass kT axes, divided by sum pT R",
    }


def _flavour_facts(settings: GenerateSettings) -> dict[str, str]:
    cone = "nearest jet within 0.239 + exp(-1.220 - 0.0164 pT / GeV)"
    return {
        "flavour": "jet_flavour: weakly decaying hadrons and hadronic taus above 5 GeV, each in the nearest jet within "
        "0.3, 5 before 4 before 15; jet_flavour_ghost: by ghosts; extended: 55, 54, 5, 44, 4, 15, 0",
        "tracks": cone if settings.association == "cone" else "ghosts in the clustering",
        "constituents": "tracks by association, neutral particles by clustering: they do not add up to the jet",
        "impact_parameters": "d0 to the beam spot, dz to the primary vertex",
        "material": "conversions and nuclear interactions at the pixel layers" if settings.material else "none",
    }
