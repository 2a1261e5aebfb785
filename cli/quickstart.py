"""jettag quickstart: from nothing to a rejection table."""

import time
from pathlib import Path
from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, err, progress, say, writes_in
from .console import out as stdout
from .entry import loading
from .options import Device, training_report

__all__ = ["quickstart"]


@boundary
def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Folder for jets and runs.")] = Path("quickstart"),
    jets: Annotated[
        int | None, typer.Option("--jets", min=100, help="Of each process; default fits the budget.")
    ] = None,
    budget: Annotated[float, typer.Option("--budget", min=0.5, help="Minutes in all.")] = 9.0,
    seed: Annotated[int, typer.Option("--seed", min=0, max=1_000_000)] = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Simulating processes; default all cores.")
    ] = None,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """Simulate jets, pre-train, fine-tune a top tagger, train one from scratch, and compare them.

    Example: jettag quickstart --out quickstart --budget 9
    """
    with loading():
        from jettag.evaluation.rows import remarks, to_json
        from jettag.runs.common import Told
        from jettag.runs.quickstart import make_plan
        from jettag.runs.quickstart import quickstart as start

    from .tables import print_rows

    writes_in(out)
    begin = time.monotonic()
    plan = make_plan(
        out, jets=jets, seconds=60 * budget, seed=seed, workers=workers, told=Told(note=lambda text: say(text))
    )
    judgement = start(
        out,
        plan,
        spent=time.monotonic() - begin,
        report=progress,
        training_report=training_report,
        device=device,
    )
    console = err if as_json else stdout
    print_rows(console, judgement.rows, notes=remarks(judgement.scores, judgement.rows))
    say(f"quickstart: {(time.monotonic() - begin) / 60:.1f} minutes in all; next, with these jets or your own:")
    runs = f"{out}/runs"
    say(f"  jettag eval {runs}/finetuned {runs}/scratch --data '{out}/data/test_*.root' --out report")
    say(f"  jettag finetune --task top --from {runs}/pretrain --card CARD --data FILES --out runs/top")
    say("  jettag generate QCD,Hbb,Tbqq --jets 20000 --out jets")
    say("  jettag ls")
    if as_json:
        emit_json(to_json(judgement.rows))
