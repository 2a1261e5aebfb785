"""jettag export: a tagger for programs that do not have jettag."""

from pathlib import Path
from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, say, writes_in
from .entry import loading

__all__ = ["export"]


@boundary
def export(
    run: Annotated[Path, typer.Argument(help="Fine-tuned run or checkpoint.")],
    kind: Annotated[str, typer.Option("--format", help="onnx, or torch: a program of torch.export.")] = "onnx",
    out: Annotated[Path | None, typer.Option("--out", help="File; default tagger.onnx or .pt2 in RUN.")] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Most by which a probability may differ from jettag's.")
    ] = 1e-4,
    as_json: JsonOption = False,
) -> None:
    """Write a tagger as ONNX or torch.export program: features, p4 and mask in, class probabilities out.

    Example: jettag export runs/top --format onnx --out top.onnx
    """
    with loading():
        from jettag.runs import exporting

    writes_in(run if out is None else None)
    facts = exporting.export(run, kind=kind, out=out, tolerance=tolerance)
    for entry in facts["parity"]:
        shape = f"{entry['jets']:>3} jets of up to {entry['constituents']:>3} constituents"
        say(f"export: {shape}: probabilities differ from jettag's by at most {entry['max_difference']:.1e}")
    if as_json:
        emit_json({"schema": 1, **facts})
    say(f"export: {facts['out']}")
