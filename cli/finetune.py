"""jettag finetune: train a tagger, from a pre-trained backbone or from scratch."""

from pathlib import Path
from typing import Annotated

import typer

from jettag.errors import UsageError

from .console import JsonOption, boundary, emit_json, say
from .entry import loading
from .options import (
    Card,
    Data,
    Device,
    MaxSteps,
    MaxTime,
    Overrides,
    Patience,
    Resume,
    Val,
    patience_override,
    run_folder,
    seconds,
    training_report,
)

__all__ = ["finetune"]

ADAPT = {True: ["adaptation.adapt_features=true"], False: []}


@boundary
def finetune(
    data: Data,
    task: Annotated[str, typer.Option("--task", help="top, flavour, weak, or a recipe.")] = "top",
    recipe: Annotated[str | None, typer.Option("--recipe", help="Recipe; default is the task's own.")] = None,
    pretrained: Annotated[Path | None, typer.Option("--from", help="Run or checkpoint to start from.")] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="full (default), head, probe, attentive, lpft, staged, layerwise or lora."),
    ] = None,
    adapt_features: Annotated[bool, typer.Option("--adapt-features", help="Match new features by name.")] = False,
    val: Val = None,
    card: Card = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/TASK.")] = None,
    overrides: Overrides = None,
    resume: Resume = False,
    device: Device = "auto",
    max_time: MaxTime = None,
    max_steps: MaxSteps = None,
    patience: Patience = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a tagger from a backbone; without --from, from scratch. A file RUN/STOP ends it early, as finished.

    Example: jettag finetune --task top --from runs/pretrain --data 'train/*.root' --val 'val/*.root' --out runs/top
    """
    # Not `jettag.run`: that brings the studies and matplotlib along, which a training may lack.
    with loading():
        from jettag.config.adaptation import MODES, suggest_mode
        from jettag.config.recipe import FinetuneRecipe, load_recipe
        from jettag.runs import finetuning
        from jettag.runs.common import Sources

    folder = run_folder(out, Path(task).stem, resume=resume)
    changes = [*(overrides or []), *ADAPT[adapt_features], *patience_override(patience)]
    if mode and mode not in MODES:
        raise UsageError(f"unknown mode {mode!r}", where="--mode", do=suggest_mode(mode))
    chosen = {f"--mode {mode}": f"mode={mode}"} if mode else {}
    resolved = load_recipe(recipe or task, FinetuneRecipe, changes, card=card, options=chosen)
    with training_report("finetune" if pretrained else "from scratch") as told:
        facts = finetuning.finetune(
            resolved,
            Sources(train=data, val=val or [], card=card),
            folder,
            pretrained=pretrained,
            device=device,
            resume=resume,
            max_seconds=seconds(max_time),
            max_steps=max_steps,
            told=told,
        )
    if as_json:
        emit_json({"schema": 1, "run": str(folder), **facts})
    say(f"tagger in {folder}; next: jettag eval {folder} --data FILES")
