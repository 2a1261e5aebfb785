"""jettag weak decorrelate: a tagger that does not know a mass, and what that costs."""

from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import refuse_file
from .weak_options import (
    Background,
    Card,
    Features,
    Folder,
    Folds,
    OfBackground,
    OfSignal,
    Runs,
    Signal,
    Test,
    names,
    numbers,
    weak_progress,
    weak_sources,
)

__all__ = ["decorrelate"]


@boundary
def decorrelate(
    background: Background,
    signal: Signal,
    test: Test,
    on: Annotated[str, typer.Option("--on", help="Column to be forgotten.")] = "mass",
    methods: Annotated[str, typer.Option("--methods", help="Of these.")] = "none,planing,binned,flow,ot,disco",
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    folds: Folds = 5,
    epochs: Annotated[int, typer.Option("--epochs", min=1, metavar="N", help="Of the flow, at most.")] = 40,
    strength: Annotated[str, typer.Option("--strength", help="Of DisCo's penalty; several are rows.")] = "30",
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    target: Folder = None,
    as_json: JsonOption = False,
) -> None:
    """Rejection against the divergence of passing and failing background, for each way to forget a mass.

    Example: jettag weak decorrelate --background QCD.root --signal Tbqq.root --test 'test/*.root' --on sdmass
    """
    with loading():
        from jettag import run
        from jettag.weak.features import DEFAULT_FEATURES

    from .weak_table import print_decorrelation

    refuse_file(target)
    study = run.DecorrelationStudy(
        sources=weak_sources(background, signal, test, card, background_class, signal_class),
        features=names(features) if features else [name for name in DEFAULT_FEATURES if name != on],
        column=on,
        methods=names(methods),
        runs=runs,
        folds=folds,
        flow=run.FlowSettings(epochs=epochs),
        strengths=numbers(strength, "--strength"),
    )
    with weak_progress("decorrelate") as told:
        content = run.decorrelation_study(study, target, told=told)
    if as_json:
        emit_json(content)
    else:
        print_decorrelation(out, content)
    if target is not None:
        say(f"decorrelate: tables in {target}")
