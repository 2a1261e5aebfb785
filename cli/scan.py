"""jettag scan: the same training at many settings."""

from pathlib import Path
from typing import Annotated

import typer

from jettag.errors import UsageError

from .command import SeveralValues
from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import (
    Card,
    Data,
    Device,
    MaxTime,
    Overrides,
    Patience,
    Val,
    patience_override,
    refuse_file,
    seconds,
    training_report,
)

__all__ = ["app"]

app = typer.Typer(help="Train at many settings and compare.", no_args_is_help=True)


@app.command(cls=SeveralValues)
@boundary
def labels(
    data: Data,
    test: Annotated[list[str], typer.Option("--test", help="Files or globs that judge.")],
    target: Annotated[Path, typer.Option("--out", help="Folder; a scan there goes on.")],
    task: Annotated[str, typer.Option("--task", help="top, or a recipe.")] = "top",
    recipe: Annotated[str | None, typer.Option("--recipe", help="Default is the task's own.")] = None,
    pretrained: Annotated[Path | None, typer.Option("--from", help="Run or checkpoint.")] = None,
    labels: Annotated[str, typer.Option("--labels", help="Labelled jets, validation included.")] = "100,1000,10000",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each point.")] = 3,
    modes: Annotated[str, typer.Option("--modes", help="scratch and modes of finetune.")] = "scratch,full",
    val: Val = None,
    card: Card = None,
    efficiency: Annotated[list[float] | None, typer.Option("--efficiency", help="Default 0.3.")] = None,
    overrides: Overrides = None,
    min_steps: Annotated[int, typer.Option("--min-steps", min=1, help="However few the labels.")] = 500,
    max_steps: Annotated[int, typer.Option("--max-steps", min=1, help="However many the labels.")] = 5000,
    max_time: MaxTime = None,
    patience: Patience = None,
    _resume: Annotated[bool, typer.Option("--resume", hidden=True, help="A scan always goes on.")] = False,
    device: Device = "auto",
    as_json: JsonOption = False,
) -> None:
    """How many labels pre-training saves: N labels x modes x seeds.

    Example: jettag scan labels --from runs/mpm --labels 100,1k --data 'train/*.root' --test 'test/*.root' --out scan
    """
    with loading():
        from jettag import run
        from jettag.config.recipe import FinetuneRecipe

    from .scan_table import print_scan

    refuse_file(target)
    changes = [*(overrides or []), *patience_override(patience)]
    keys = [change.partition("=")[0].strip() for change in changes]
    scan = run.LabelScan(
        recipe=run.load_recipe(recipe or task, FinetuneRecipe, changes, card=card),
        sources=run.Sources(train=data, val=val or [], card=card),
        test=test,
        labels=_numbers(labels),
        seeds=seeds,
        modes=[mode.strip() for mode in modes.split(",") if mode.strip()],
        pretrained=pretrained,
        efficiencies=efficiency or (0.3,),
        rules=run.Rules(
            min_steps=min(min_steps, max_steps),
            max_steps=max_steps,
            max_seconds=seconds(max_time),
            keep_val_fraction="data.val_fraction" in keys,
            keep_val_every="training.val_every" in keys,
        ),
        own_backbone=any(key.split(".")[0] == "backbone" for key in keys),
    )
    told = run.Told(note=lambda text: say(f"scan: {text}"))
    content, failure = run.scan_labels(scan, target, device=device, told=told, training_report=training_report)
    if as_json:
        emit_json(content)
    else:
        print_scan(out, content)
    say(f"scan: tables and curves in {target}")
    if failure is not None:
        raise failure


def _numbers(text: str) -> list[int]:
    """``100,1k`` as numbers.

    Raises:
        UsageError: one is none.
    """
    sizes = {"k": 1_000, "M": 1_000_000}
    try:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return [int(part[:-1]) * sizes[part[-1]] if part[-1] in sizes else int(part) for part in parts]
    except ValueError:
        raise UsageError(f"--labels {text!r} are no numbers", do="write them as 100,300,1000 or 1k,10k") from None


@app.callback()
def _group() -> None:
    """Keep `labels` a command of its own, though it is the only one."""
