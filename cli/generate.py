"""jettag generate: simulated jets of the asked processes, in files of JetClass's schema."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from jettag.errors import Stopped

from .console import JsonOption, boundary, emit_json, progress, say, writes_in
from .entry import loading

__all__ = ["generate"]


class _Detector(StrEnum):
    cms = "cms"
    atlas = "atlas"
    none = "none"


class _Association(StrEnum):
    cone = "cone"
    ghost = "ghost"


class _Tune(StrEnum):
    monash = "monash"
    a14 = "a14"


class _Kind(StrEnum):
    ttree = "ttree"
    rntuple = "rntuple"
    parquet = "parquet"


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does, workers and half-written file gone, with exit code 143."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped("terminated", do="run the command again", exit_code=143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@boundary
def generate(
    processes: Annotated[
        str,
        typer.Argument(
            metavar="PROCESS[,...]",
            help="QCD Hbb Hcc Hgg H4q Hqql Zqq Wqq Tbqq Tbl; ttbar zprime; dijet_qcd dijet_resonance",
        ),
    ],
    jets: Annotated[int, typer.Option("--jets", help="Jets of each process.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for PROCESS.root.")],
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same jets.")] = 0,
    workers: Annotated[int | None, typer.Option("--workers", help="Simulating processes; default: every core.")] = None,
    radius: Annotated[float | None, typer.Option("--radius", help="0.8; flavour 0.4.")] = None,
    pt: Annotated[
        str | None, typer.Option("--pt", metavar="LOW:HIGH", help="GeV: 500:1000, ttbar 20:250, zprime 250:6000.")
    ] = None,
    eta: Annotated[float | None, typer.Option("--eta", help="Largest |eta|: 2; flavour 2.5.")] = None,
    pileup: Annotated[float, typer.Option("--pileup", metavar="MU", help="Mean number of overlaid collisions.")] = 0.0,
    detector: Annotated[
        _Detector, typer.Option("--detector", metavar="NAME", help="cms, atlas or none.")
    ] = _Detector.cms,
    tune: Annotated[_Tune, typer.Option("--tune", metavar="NAME", help="Of Pythia: monash or a14.")] = _Tune.monash,
    kind: Annotated[_Kind, typer.Option("--format", metavar="KIND", help="ttree, rntuple or parquet.")] = _Kind.ttree,
    jets_per_file: Annotated[int, typer.Option("--jets-per-file", help="More are split: PROCESS_000, ...")] = 100_000,
    dijets: Annotated[str | None, typer.Option("--dijets", metavar="K=V,...", help="mass, width, mjj, ...")] = None,
    association: Annotated[
        _Association, typer.Option("--association", metavar="HOW", help="Of flavour tracks: cone or ghost.")
    ] = _Association.cone,
    material: Annotated[bool, typer.Option("--material", help="Flavour: conversions, interactions.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files; without it, refuse.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Simulate labelled jets: Pythia 8, a CMS- or ATLAS-like detector, anti-kT; ttbar and zprime for flavour.

    Example: jettag generate QCD,Tbqq --jets 10000 --out data
    """
    with loading():
        from jettag.config.processes import usable_cores
        from jettag.simulate import DIJETS, GenerateSettings, simulate
        from jettag.simulate.processes import find_process
        from jettag.simulate.settings import parse_range

    writes_in(out)
    asked = tuple(name.strip() for name in processes.split(",") if name.strip())
    if any(name.lower() in DIJETS for name in asked):
        from .generate_dijets import generate_dijets

        chosen = workers if workers is not None else usable_cores()
        with _sigterm_stops():
            given = {"radius": radius, "pt": pt, "eta": eta}
            given |= {"detector": detector.value, "kind": kind.value, "tune": tune.value}
            generate_dijets(asked, jets, out, seed, chosen, dijets or "", given, overwrite, as_json)
        return
    low, high = parse_range(pt) if pt is not None else (None, None)
    names = tuple(find_process(name.strip()).name for name in processes.split(",") if name.strip())
    settings = GenerateSettings(
        processes=names,
        jets=jets,
        seed=seed,
        radius=radius,
        pt_min=low,
        pt_max=high,
        eta_max=eta,
        pileup=pileup,
        detector=detector.value,
        kind=kind.value,
        jets_per_file=jets_per_file,
        association=association.value,
        material=material,
        tune=tune.value,
    )
    count = workers if workers is not None else usable_cores()
    begin = time.monotonic()
    with _sigterm_stops(), progress("generate", jets * len(names)) as update:
        made = simulate(settings, out, workers=count, overwrite=overwrite, on_progress=update)
    took = time.monotonic() - begin
    for name in names:
        efficiency = made.passed[name] / made.events[name]
        say(f"generate: {jets} {name} jets, {efficiency:.2f} jets an event passed the cuts")
    say(f"generate: {len(made.files)} file{'s' * (len(made.files) > 1)} in {out}, {took:.1f} s")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "files": [str(path) for path in made.files],
                "jets": jets,
                "processes": [
                    {"process": name, "jets": jets, "events": made.events[name], "jets_passed": made.passed[name]}
                    for name in names
                ],
                "seed": seed,
                "seconds": round(took, 3),
                "jets_per_second": round(jets * len(names) / took, 3),
            }
        )
