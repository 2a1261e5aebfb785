"""jettag weak simulators: a tagger of one simulation in another."""

from pathlib import Path
from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import refuse_file
from .weak_options import (
    Background,
    Card,
    Features,
    Folds,
    OfBackground,
    OfSignal,
    Runs,
    Signal,
    Test,
    names,
    weak_progress,
    weak_sources,
)

__all__ = ["simulators"]


@boundary
def simulators(
    background: Background,
    signal: Signal,
    test: Test,
    simulation: Annotated[list[str], typer.Option("--simulation", help="Files of the other one.")],
    methods: Annotated[str, typer.Option("--methods", help="Of these.")] = "none,reweight,ot-score,ot-features",
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    jets: Annotated[int | None, typer.Option("--jets", min=1, metavar="N", help="Of each class, at most.")] = None,
    folds: Folds = 5,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    target: Annotated[Path | None, typer.Option("--out", help="Tables, picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What a tagger of one tune or shower (--simulation) loses in another (all other files).

    Example: jettag weak simulators --background QCD.root --signal Tbqq.root --test 'test/*.root' --simulation a14.root
    """
    with loading():
        from jettag import run
        from jettag.weak.features import DEFAULT_FEATURES

    from .weak_table import print_simulators

    refuse_file(target)
    study = run.SimulatorStudy(
        sources=weak_sources(background, signal, test, card, background_class, signal_class),
        simulation=simulation,
        features=names(features) if features else list(DEFAULT_FEATURES),
        methods=list(dict.fromkeys(names(methods))),
        runs=runs,
        folds=folds,
        max_jets=jets,
    )
    with weak_progress("simulators") as told:
        content = run.simulator_study(study, target, told=told)
    if as_json:
        emit_json(content)
    else:
        print_simulators(out, content)
    if target is not None:
        say(f"simulators: tables in {target}, picture in {target / 'simulators.png'}")
