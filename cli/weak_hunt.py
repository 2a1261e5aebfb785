"""jettag weak hunt: a resonance nobody labelled."""

from typing import Annotated

import typer

from jettag.errors import UsageError

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import refuse_file
from .weak_options import Ends, Features, Folder, Folds, Noise, names, numbers, pair, weak_progress

__all__ = ["hunt"]


@boundary
def hunt(
    data: Annotated[list[str] | None, typer.Option("--data", help="Unlabelled events; or:")] = None,
    background: Annotated[list[str] | None, typer.Option("--background", help="Files.")] = None,
    signal: Annotated[list[str] | None, typer.Option("--signal", help="Files.")] = None,
    test: Annotated[list[str] | None, typer.Option("--test", help="Files of both that judge.")] = None,
    fraction: Annotated[list[str] | None, typer.Option("--fraction", "--fractions", help="Of signal put in.")] = None,
    runs: Annotated[int | None, typer.Option("--runs", min=1, metavar="N", help="Default: 10, of --data 1.")] = None,
    card: Annotated[str, typer.Option("--card", help="Data card.")] = "dijets",
    mass: Annotated[str, typer.Option("--mass", help="Column [GeV].")] = "m_jj",
    features: Features = None,
    span: Annotated[str, typer.Option("--range", metavar="LOW:HIGH", help="Of the mass.")] = "2000:5500",
    bins: Annotated[int, typer.Option("--bins", min=7, metavar="N", help="That windows slide over.")] = 15,
    window: Annotated[str | None, typer.Option("--window", metavar="LOW:HIGH", help="One region.")] = None,
    sideband: Annotated[float | None, typer.Option("--sideband", help="Width beside it.")] = None,
    efficiency: Annotated[str, typer.Option("--efficiency", help="Background shares to keep.")] = "0.1,0.01",
    folds: Folds = 5,
    restarts: Annotated[int, typer.Option("--restarts", min=1, metavar="N", help="Best of, by ARGOS.")] = 1,
    ends: Ends = None,
    noise: Noise = 0,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Of the first run.")] = 0,
    target: Folder = None,
    as_json: JsonOption = False,
) -> None:
    """CWoLa hunting: regions against side-bands, dijet fit, local and global p-values.

    Example: jettag weak hunt --background qcd.root --signal resonance.root --fraction 0.005 --window 3300:3700
    """
    with loading():
        from jettag import run

    from .weak_table import print_hunt

    refuse_file(target)
    low, high = pair(span, "--range")
    windows = None
    if window is not None:
        begin, end = pair(window, "--window")
        if not low < begin < end < high:
            what = f"region {begin:g}:{end:g} is not inside --range {low:g}:{high:g}"
            raise UsageError(what, do="leave room for side-bands on both sides")
        beside = sideband if sideband is not None else end - begin
        windows = (run.Window(begin, end, max(begin - beside, low), min(end + beside, high)),)
    elif sideband is not None:
        raise UsageError("--sideband belongs to --window", do="give --window, or --bins for sliding ones")
    plan = run.HuntPlan(
        edges=run.mass_edges(low, high, bins),
        efficiencies=tuple(numbers(efficiency, "--efficiency")),
        folds=folds,
        restarts=restarts,
        windows=windows,
        seed=seed,
    )
    study = run.HuntStudy(
        plan=plan,
        data=data or (),
        background=background or (),
        signal=signal or (),
        test=test or (),
        fractions=[value for text in fraction or () for value in numbers(text, "--fraction")],
        runs=runs or (1 if data else run.FEWEST_RUNS),
        card=card,
        mass=mass,
        features=names(features) if features else run.HUNT_FEATURES,
        noise_features=noise,
        selection=ends or "argos",
    )
    with weak_progress("hunt") as told:
        content = run.hunt_study(study, target, told=told)
    if as_json:
        emit_json(content)
    else:
        print_hunt(out, content)
    if target is not None:
        say(f"hunt: tables in {target}")
