"""jettag eval: the rejection table."""

from pathlib import Path
from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, out, progress, say
from .entry import loading
from .options import Card, Data, Device, Precision, refuse_file

__all__ = ["evaluate"]


@boundary
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, side by side.")],
    data: Data,
    card: Card = None,
    signal: Annotated[
        list[str] | None, typer.Option("--signal", help="Class; default: all but the background.")
    ] = None,
    background: Annotated[list[str] | None, typer.Option("--background", help="Class, or A+B; default QCD.")] = None,
    efficiency: Annotated[list[float] | None, typer.Option("--efficiency", help="Default 0.3 and 0.5.")] = None,
    max_jets: Annotated[int | None, typer.Option("--max-jets", min=1, help="Read at most this many.")] = None,
    scheme: Annotated[str | None, typer.Option("--scheme", help="Add classes up to this coarser scheme.")] = None,
    impact: Annotated[str, typer.Option("--impact", help="kept, negated or shuffled d0 and dz.")] = "kept",
    discriminants: Annotated[
        list[str] | None, typer.Option("--discriminant", help="b:c=0.2,light=0.8; default: the run's.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--out", help="Folder for plots and tables.")] = None,
    bare: Annotated[bool, typer.Option("--no-published", help="Without the published numbers below.")] = False,
    device: Device = "auto",
    precision: Precision = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Print background rejections with intervals, one row a run.

    Example: jettag eval runs/top runs/scratch --data 'test/*.root' --out report
    """
    with loading():
        # Not `jettag.run`: that brings the studies along.
        from jettag.data.impact import as_impact
        from jettag.evaluation import report
        from jettag.evaluation.flavour import judge, parse_discriminant
        from jettag.evaluation.multiclass import MANY, judge_classes
        from jettag.evaluation.rows import EFFICIENCIES, remarks, to_json
        from jettag.runs import inference
        from jettag.runs.flavour_judging import Asking
        from jettag.training.devices import choose_device, in_precision

    from .flavour_tables import print_flavour
    from .tables import print_published, print_rows

    refuse_file(target)
    place = choose_device(device)
    with progress("eval", None) as update, in_precision(place, precision == "bf16"):
        judgement = inference.evaluate(
            runs,
            data,
            card=card,
            signal=signal,
            background=background,
            efficiencies=efficiency or EFFICIENCIES,
            max_jets=max_jets,
            asking=Asking(scheme, as_impact(impact), [parse_discriminant(text) for text in discriminants or ()]),
            device=place,
            on_progress=update,
        )
    for note in judgement.notes:
        say(f"eval: {note}")
    found = [judge(one) for one in judgement.flavour]
    many = [judge_classes(scores) for scores in judgement.scores if scores.probabilities.shape[1] >= MANY]
    if target is not None:
        report.write(target, judgement.rows, judgement.scores, flavour=judgement.flavour, flavour_reports=found)
        say(f"eval: plots and tables in {target}")
    about = remarks(judgement.scores, judgement.rows)
    if as_json:
        for note in about:
            say(f"eval: {note}")
        several = {"multiclass": many} if many else {}
        emit_json(to_json(judgement.rows) | {"precision": precision} | several | ({"flavour": found} if found else {}))
    else:
        print_rows(out, judgement.rows, notes=about, many=many)
        if found:
            print_flavour(out, found)
        elif not bare:
            print_published(out)
