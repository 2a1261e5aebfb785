"""jettag weak: find what nobody labelled."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .command import SeveralValues
from .console import JsonOption, boundary, emit_json, out, progress, say
from .entry import loading
from .options import Device, Overrides, Overwrite, refuse_existing, refuse_file
from .weak_calibrate import calibrate, shift
from .weak_closure import closure
from .weak_decorrelate import decorrelate
from .weak_hunt import hunt
from .weak_options import (
    Background,
    Card,
    Components,
    Ends,
    Features,
    Folds,
    Fraction,
    Jets,
    Noise,
    OfBackground,
    OfSignal,
    Other,
    Pretrained,
    Recipe,
    Rows,
    Runs,
    Signal,
    Target,
    Test,
    TestJets,
    Workers,
    names,
    numbers,
    weak_progress,
    weak_sources,
)
from .weak_outliers import outliers
from .weak_resonance import COMMANDS
from .weak_simulators import simulators
from .weak_study import study

__all__ = ["app"]

app = typer.Typer(help="Train without jet labels.", no_args_is_help=True)


@app.command(cls=SeveralValues)
@boundary
def cwola(
    background: Background,
    signal: Signal,
    test: Test,
    fraction: Fraction,
    other_fraction: Other = 0.0,
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    rows: Rows = None,
    pretrained: Pretrained = None,
    target: Target = None,
    jets: Jets = None,
    test_jets: TestJets = None,
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    ends: Ends = None,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
    workers: Workers = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """Tell two mixed samples apart, without a label; fraction 0 is always there beside it.

    Example: jettag weak cwola --background QCD.root --signal Tbqq.root --test 'test/*.root' --fraction 0.01
    """
    _study("cwola", **locals())


@app.command(cls=SeveralValues)
@boundary
def iad(
    background: Background,
    signal: Signal,
    test: Test,
    fraction: Fraction,
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    rows: Rows = None,
    pretrained: Pretrained = None,
    target: Target = None,
    jets: Jets = None,
    test_jets: TestJets = None,
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    ends: Ends = None,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
    workers: Workers = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """The idealised anomaly detector: a mixed sample against pure background, the bound of weak methods.

    Example: jettag weak iad --background QCD.root --signal Tbqq.root --test 'test/*.root' --fraction 0.01
    """
    _study("iad", **locals())


@app.command(cls=SeveralValues)
@boundary
def supervised(
    background: Background,
    signal: Signal,
    test: Test,
    fraction: Annotated[
        list[str] | None, typer.Option("--fraction", hidden=True, help="Has no meaning with labels.")
    ] = None,
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    rows: Rows = None,
    pretrained: Pretrained = None,
    target: Target = None,
    jets: Jets = None,
    test_jets: TestJets = None,
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    ends: Ends = None,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
    workers: Workers = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """All signal against all background with labels: the ceiling of every weak method.

    Example: jettag weak supervised --background QCD.root --signal Tbqq.root --test 'test/*.root'
    """
    _study("supervised", **locals())


@app.command(cls=SeveralValues)
@boundary
def scan(
    background: Background,
    signal: Signal,
    test: Test,
    fraction: Annotated[
        list[str] | None, typer.Option("--fraction", "--fractions", help="Of signal in M1; 0 is always there.")
    ] = None,
    methods: Annotated[str, typer.Option("--methods", help="cwola, iad, supervised.")] = "cwola,supervised",
    other_fraction: Other = 0.0,
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    rows: Rows = None,
    pretrained: Pretrained = None,
    target: Target = None,
    jets: Jets = None,
    test_jets: TestJets = None,
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    ends: Ends = None,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
    workers: Workers = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """Signal injection: fractions x rows x runs, with bands; without signal too. The same command goes on.

    Example: jettag weak scan --background QCD.root --signal Tbqq.root --test 'test/*.root' --from runs/mpm --out scan
    """
    given = locals() | {"fraction": fraction or ["0.001,0.003,0.01,0.03,0.1"]}
    _study(*names(methods), **given)


@app.command(cls=SeveralValues)
@boundary
def events(
    files: Annotated[list[Path], typer.Argument(help="HDF5 files of the LHC Olympics.")],
    target: Annotated[Path, typer.Option("--out", help="ROOT or Parquet file.")],
    radius: Annotated[float, typer.Option("--radius", help="Of the anti-kT jets.")] = 1.0,
    pt: Annotated[float, typer.Option("--pt", help="Lowest pT of both jets in GeV.")] = 200.0,
    eta: Annotated[float, typer.Option("--eta", help="Largest |eta| of both.")] = 2.5,
    max_events: Annotated[int | None, typer.Option("--max-events", min=1, help="The first so many.")] = None,
    overwrite: Overwrite = False,
    as_json: JsonOption = False,
) -> None:
    """Files of the LHC Olympics, high-level or of constituents, as dijet events for card dijets.

    Example: jettag weak events events_anomalydetection_v2.features.h5 --out dijets.parquet
    """
    with loading():
        from jettag import run

    refuse_existing(target, overwrite)
    with progress("events", max_events, unit="events") as update:
        written = run.convert_lhco(
            files, target, radius=radius, pt_min=pt, eta_max=eta, max_events=max_events, on_progress=update
        )
    if as_json:
        emit_json({"schema": 1, "out": str(target), "events": written})
    say(f"events: {written} events in {target}")


def _study(*methods: str, **given: Any) -> None:
    """What the commands share: make the study, run it, print."""
    with loading():
        from jettag import run
        from jettag.config.recipe import FinetuneRecipe
        from jettag.weak.features import DEFAULT_FEATURES

    from .weak_table import print_study

    target: Path | None = given["target"]
    refuse_file(target)
    features = names(given["features"]) if given["features"] else list(DEFAULT_FEATURES)
    pretrained: Path | None = given["pretrained"]
    rows = names(given["rows"]) if given["rows"] else run.default_rows(features, pretrained is not None, bool(target))
    ends = given["ends"]
    networks = [f"selection={ends}"] if ends else []  # else the recipe's own
    study = run.WeakStudy(
        sources=weak_sources(
            given["background"],
            given["signal"],
            given["test"],
            given["card"],
            given["background_class"],
            given["signal_class"],
        ),
        methods=methods,
        fractions=[value for text in given["fraction"] or ("0",) for value in numbers(text, "--fraction")],
        rows=rows,
        runs=given["runs"],
        features=features,
        other_fraction=given.get("other_fraction", 0.0),
        folds=given["folds"],
        max_jets=given["jets"],
        test_jets=given["test_jets"],
        noise_features=given["noise"],
        components=given["components"],
        selection=ends or "argos",
        pretrained=pretrained,
        recipe=run.load_recipe(
            given["recipe"], FinetuneRecipe, ["mode=lpft", *networks, *(given["overrides"] or [])], card=given["card"]
        )
        if set(rows) & set(run.NETWORKS)
        else None,
        own_backbone=any(change.startswith("backbone") for change in given["overrides"] or []),
    )
    with weak_progress("weak") as told:
        content = run.weak_study(study, target, device=given["device"], workers=given["workers"], told=told)
    if given["as_json"]:
        emit_json(content)
    else:
        print_study(out, content)
    if target is not None:
        say(f"weak: tables and curves in {target}")


app.command(cls=SeveralValues)(hunt)
app.command(cls=SeveralValues)(decorrelate)
app.command(cls=SeveralValues)(closure)
app.command(cls=SeveralValues)(outliers)
app.command(cls=SeveralValues)(calibrate)
app.command(cls=SeveralValues)(shift)
app.command(cls=SeveralValues)(simulators)
for name, function in COMMANDS.items():
    app.command(name, cls=SeveralValues)(function)
app.command(cls=SeveralValues)(study)
