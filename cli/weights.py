"""jettag import: networks that others trained."""

from pathlib import Path
from typing import Annotated

import typer

from .command import SeveralValues
from .console import JsonOption, boundary, emit_json, say
from .entry import loading

__all__ = ["app"]

app = typer.Typer(help="Turn networks that others trained into runs.", no_args_is_help=True)


@app.command(cls=SeveralValues)
@boundary
def weaver(
    checkpoint: Annotated[Path, typer.Argument(help="weaver-core's .pt file, or .safetensors.")],
    config: Annotated[Path | None, typer.Option("--config", help="weaver's data YAML: features and classes.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/CHECKPOINT.")] = None,
    legacy: Annotated[
        bool | None, typer.Option("--legacy/--current", help="Trained with weaver-core before 0.5.0, or since.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Import a Particle Transformer trained with weaver-core.

    Example: jettag import weaver ParT_full.pt --config JetClass_full.yaml --legacy --out runs/part_full
    """
    with loading():
        from jettag.runs.importing import import_weaver

    from .options import run_folder

    folder = run_folder(out, checkpoint.stem)
    facts = import_weaver(checkpoint, folder, config=config, legacy=legacy)
    if as_json:
        emit_json({"schema": 1, "run": str(folder), **facts})
    say(f"imported to {folder}; next: jettag eval {folder} --data FILES")


@app.callback()
def _group() -> None:
    """Keep `weaver` a command of its own, though it is the only one."""
