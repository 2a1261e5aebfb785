"""jettag weak calibrate, shift: probabilities that say what comes, in this sample and in another."""

from pathlib import Path
from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import Device, refuse_file
from .weak_options import Folder, Folds, names, weak_progress

__all__ = ["calibrate", "shift"]

OwnCard = Annotated[str | None, typer.Option("--card", help="Default: the run's.")]


@boundary
def calibrate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Taggers; several are an ensemble too.")],
    data: Annotated[list[str], typer.Option("--data", help="Files that calibrate.")],
    test: Annotated[list[str], typer.Option("--test", help="Files that judge.")],
    card: OwnCard = None,
    target: Folder = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """Calibration error before and after a temperature, last-layer Laplace and, of several runs, a deep ensemble.

    Example: jettag weak calibrate runs/top --data 'val/*.root' --test 'test/*.root' --out calibration
    """
    with loading():
        from jettag import run
        from jettag.evaluation.weak_calibration import CALIBRATION_HEAD, calibration_lines, calibration_statement

    from .weak_table import print_lines

    refuse_file(target)
    with weak_progress("calibrate") as told:
        content = run.calibration_study(
            runs, data, test, card=card, out=target, device=run.choose_device(device), told=told
        )
    if as_json:
        emit_json(content)
    else:
        print_lines(out, CALIBRATION_HEAD, calibration_lines(content), calibration_statement(content), content["notes"])
    if target is not None:
        say(f"calibrate: table and reliability diagram in {target}")


@boundary
def shift(
    tagger: Annotated[Path, typer.Argument(metavar="RUN", help="A tagger.")],
    source: Annotated[list[str], typer.Option("--source", help="Files of the simulation.")],
    into: Annotated[list[str], typer.Option("--target", help="Files of data, or of another simulation.")],
    methods: Annotated[str, typer.Option("--methods", help="Of these.")] = "none,reweight,ot-score,ot-embedding",
    signal: Annotated[str | None, typer.Option("--signal", help="Class; default: the first.")] = None,
    truth: Annotated[bool, typer.Option("--truth/--no-truth", help="True classes judge.")] = True,
    card: OwnCard = None,
    folds: Folds = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first run.")] = 0,
    repeats: Annotated[int, typer.Option("--runs", min=1, metavar="N", help="Draws of halves.")] = 10,
    target: Folder = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """A tagger's scores in a simulation brought to those in data.

    Example: jettag weak shift runs/top --source 'tune_a/*.root' --target 'tune_b/*.root'
    """
    with loading():
        from jettag import run
        from jettag.evaluation.weak_calibration import SHIFT_HEAD, shift_lines, shift_statement

    from .weak_table import print_lines

    refuse_file(target)
    with weak_progress("shift") as told:
        content = run.shift_study(
            tagger,
            source,
            into,
            methods=names(methods),
            signal=signal,
            truth=truth,
            card=card,
            folds=folds,
            seed=seed,
            runs=repeats,
            out=target,
            device=run.choose_device(device),
            told=told,
        )
    if as_json:
        emit_json(content)
    else:
        cells = [
            [cell.replace(" to ", "–").replace(" (", "\n").rstrip(")") for cell in line]
            for line in shift_lines(content)
        ]
        print_lines(out, SHIFT_HEAD, cells, shift_statement(content), content["notes"])
    if target is not None:
        say(f"shift: table in {target}")
