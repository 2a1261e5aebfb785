"""jettag pretrain: learn a backbone from unlabelled jets."""

from pathlib import Path
from typing import Annotated

import typer

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

__all__ = ["pretrain"]


@boundary
def pretrain(
    recipe: Annotated[str, typer.Argument(help="A name from `jettag ls recipes`, or a path.")],
    data: Data,
    val: Val = None,
    card: Card = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/RECIPE.")] = None,
    overrides: Overrides = None,
    resume: Resume = False,
    device: Device = "auto",
    max_time: MaxTime = None,
    max_steps: MaxSteps = None,
    patience: Patience = None,
    probe: Annotated[
        str | None, typer.Option("--probe", help="CLASS,CLASS...: tell at each validation how well they separate.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Pre-train a backbone on unlabelled jets; a file RUN/STOP ends it early, as finished.

    Example: jettag pretrain mpm --data 'jets/*.root' --out runs/pretrain --max-time 15m
    """
    # Not `jettag.run`: that brings the studies and matplotlib along, which a training may lack.
    with loading():
        from jettag.config.recipe import PretrainRecipe, load_recipe
        from jettag.runs import pretraining
        from jettag.runs.common import Sources

    folder = run_folder(out, Path(recipe).stem, resume=resume)
    probed = {f"--probe {probe}": f"probe.classes=[{probe}]"} if probe else {}
    changes = [*(overrides or []), *patience_override(patience)]
    resolved = load_recipe(recipe, PretrainRecipe, changes, card=card, options=probed)
    with training_report("pretrain") as told:
        facts = pretraining.pretrain(
            resolved,
            Sources(train=data, val=val or [], card=card),
            folder,
            device=device,
            resume=resume,
            max_seconds=seconds(max_time),
            max_steps=max_steps,
            told=told,
        )
    if as_json:
        emit_json({"schema": 1, "run": str(folder), **facts})
    following = f"jettag finetune --task top --from {folder} --card CARD --data FILES --out RUN"
    made = "backbone"
    if facts["task"] == "tokenizer":
        following = f"jettag pretrain mpm-vqvae --set objective.target.tokenizer={folder} --data FILES --out RUN"
        made = "tokenizer"
    say(f"{made} in {folder}; next: {following}")
