"""jettag weak: find what nobody labelled."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jettag.errors import UsageError

from .command import SeveralValues
from .console import JsonOption, boundary, emit_json, out, progress, say
from .options import Device, Overrides

if TYPE_CHECKING:
    from jettag.run import Told

__all__ = ["app"]

app = typer.Typer(help="Train without jet labels and say how sure one is.", no_args_is_help=True)

Background = Annotated[list[str], typer.Option("--background", help="Files.")]
Signal = Annotated[list[str], typer.Option("--signal", help="Files.")]
Test = Annotated[list[str], typer.Option("--test", help="Files that judge.")]
Card = Annotated[str, typer.Option("--card", help="Data card.")]
Runs = Annotated[int, typer.Option("--runs", min=1, metavar="N", help="Of each point.")]
Features = Annotated[str | None, typer.Option("--features", help="Jet columns; or embedding.")]
Rows = Annotated[str | None, typer.Option("--rows", help="trees, probe, scratch, ...")]
Pretrained = Annotated[Path | None, typer.Option("--from", help="Backbone.")]
Target = Annotated[Path | None, typer.Option("--out", help="A study there goes on.")]
Fraction = Annotated[float, typer.Option("--fraction", help="Of signal in M1.")]
Other = Annotated[float, typer.Option("--other-fraction", help="Of signal in M2.")]
Jets = Annotated[int | None, typer.Option("--jets", min=1, metavar="N", help="Background in each sample.")]
Folds = Annotated[int, typer.Option("--folds", min=2, metavar="N", help="Of each ensemble.")]
Noise = Annotated[int, typer.Option("--noise-features", min=0, metavar="N", help="Of pure noise.")]
Components = Annotated[int, typer.Option("--components", min=1, metavar="N", help="Of trees-pca.")]
OfBackground = Annotated[list[str] | None, typer.Option("--background-class", help="Default: all there.")]
OfSignal = Annotated[list[str] | None, typer.Option("--signal-class", help="Default: all there.")]
Recipe = Annotated[str, typer.Option("--recipe", help="Of the networks.")]


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
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
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
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
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
    fraction: Annotated[float, typer.Option("--fraction", hidden=True, help="Has no meaning with labels.")] = 0.0,
    runs: Runs = 10,
    card: Card = "jetclass",
    features: Features = None,
    rows: Rows = None,
    pretrained: Pretrained = None,
    target: Target = None,
    jets: Jets = None,
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
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
    target: Annotated[Path, typer.Option("--out", help="Folder; a scan there goes on.")],
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
    jets: Jets = None,
    folds: Folds = 5,
    noise: Noise = 0,
    components: Components = 8,
    background_class: OfBackground = None,
    signal_class: OfSignal = None,
    recipe: Recipe = "weak",
    overrides: Overrides = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """Signal injection: fractions x rows x runs, with bands; without signal too. The same command goes on.

    Example: jettag weak scan --background QCD.root --signal Tbqq.root --test 'test/*.root' --from runs/mpm --out scan
    """
    words = fraction or ["0.001,0.003,0.01,0.03,0.1"]
    values = locals()
    values["fraction"] = [_number(part) for text in words for part in text.split(",") if part.strip()]
    _study(*_names(methods), **values)


@app.command(cls=SeveralValues)
@boundary
def events(
    files: Annotated[list[Path], typer.Argument(help="HDF5 files of the LHC Olympics.")],
    target: Annotated[Path, typer.Option("--out", help="ROOT or Parquet file.")],
    radius: Annotated[float, typer.Option("--radius", help="Of the anti-kT jets.")] = 1.0,
    pt: Annotated[float, typer.Option("--pt", help="Lowest pT of both jets in GeV.")] = 200.0,
    eta: Annotated[float, typer.Option("--eta", help="Largest |eta| of both.")] = 2.5,
    max_events: Annotated[int | None, typer.Option("--max-events", min=1, help="The first so many.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Files of the LHC Olympics, high-level or of constituents, as dijet events for card dijets.

    Example: jettag weak events events_anomalydetection_v2.features.h5 --out dijets.parquet
    """
    from jettag import run

    with progress("events", max_events, unit="events") as update:
        written = run.convert_lhco(
            files, target, radius=radius, pt_min=pt, eta_max=eta, max_events=max_events, on_progress=update
        )
    if as_json:
        emit_json({"schema": 1, "out": str(target), "events": written})
    say(f"events: {written} events in {target}")


def _study(*methods: str, **given: Any) -> None:
    """What the commands share: make the study, run it, print."""
    from jettag import run
    from jettag.config.recipe import FinetuneRecipe
    from jettag.weak.features import DEFAULT_FEATURES

    from .weak_table import print_study

    target: Path | None = given["target"]
    if target is not None and target.exists() and not target.is_dir():
        raise UsageError("expected a folder, found a file", where=f"--out {target}", do="name a folder")
    features = _names(given["features"]) if given["features"] else list(DEFAULT_FEATURES)
    pretrained: Path | None = given["pretrained"]
    fraction = given["fraction"]
    rows = _names(given["rows"]) if given["rows"] else run.default_rows(features, pretrained is not None, bool(target))
    study = run.WeakStudy(
        sources=run.WeakSources(
            background=given["background"],
            signal=given["signal"],
            test=given["test"],
            card=given["card"],
            background_class=given["background_class"] or (),
            signal_class=given["signal_class"] or (),
        ),
        methods=methods,
        fractions=fraction if isinstance(fraction, list) else [fraction],
        rows=rows,
        runs=given["runs"],
        features=features,
        other_fraction=given.get("other_fraction", 0.0),
        folds=given["folds"],
        max_jets=given["jets"],
        noise_features=given["noise"],
        components=given["components"],
        pretrained=pretrained,
        recipe=run.load_recipe(given["recipe"], FinetuneRecipe, given["overrides"] or [], card=given["card"])
        if set(rows) & set(run.NETWORKS)
        else None,
        own_backbone=any(change.startswith("backbone") for change in given["overrides"] or []),
    )
    with progress("weak", 100, unit="%") as update:
        content = run.weak_study(study, target, device=given["device"], told=_told(update))
    if given["as_json"]:
        emit_json(content)
    else:
        print_study(out, content)
    if target is not None:
        say(f"weak: tables and curves in {target}")


def _told(update: Any) -> "Told":
    from jettag.run import Told

    def log(record: dict[str, Any]) -> None:
        left = record["seconds_left"]
        time_left = "" if left is None else f", {left / 60:.0f} min left" if left > 90 else f", {left:.0f} s left"
        update(100 * record["done"] / record["of"], note=f"{record['point']}{time_left}")

    return Told(log=log, note=lambda text: say(f"weak: {text}"))


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> float:
    """``0.01`` or ``1%``.

    Raises:
        UsageError: it is none.
    """
    try:
        return float(text.strip().removesuffix("%")) * (0.01 if text.strip().endswith("%") else 1)
    except ValueError:
        raise UsageError(f"--fraction {text!r} is no number", do="write it as 0.01 or 1%") from None
