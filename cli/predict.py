"""jettag predict and jettag embed: what a network says of every jet, as a file."""

from pathlib import Path
from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, progress, say
from .entry import loading
from .options import Card, Data, Device, Overwrite, Precision, refuse_existing

__all__ = ["embed", "predict"]

Run = Annotated[Path, typer.Argument(help="Run directory or checkpoint.")]
Target = Annotated[Path, typer.Option("--out", help="File to write: .root, .parquet or .h5.")]


@boundary
def predict(
    run: Run,
    data: Data,
    target: Target,
    card: Card = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    overwrite: Overwrite = False,
    as_json: JsonOption = False,
) -> None:
    """Write class probabilities, one row a jet in the order of the files, or of the shards; of flavour taggers more.

    Example: jettag predict runs/top --data 'test/*.root' --out scores.root
    """
    with loading():
        # Not `jettag.run`: that brings the studies along.
        from jettag.data.write import HDF5, refuse_unknown_kind, write_columns
        from jettag.runs import inference
        from jettag.training.devices import choose_device, in_precision

    refuse_unknown_kind(target)
    refuse_existing(target, overwrite)
    place = choose_device(device)
    with progress("predict", None) as update, in_precision(place, precision == "bf16"):
        chunks, facts = inference.predict(
            run,
            data,
            card=card,
            ftag=target.suffix in HDF5,
            device=place,
            on_progress=update,
            note=lambda text: say(f"predict: {text}"),
        )
    jets = write_columns(target, chunks, facts | {"precision": precision})
    if as_json:
        emit_json({"schema": 1, "out": str(target), "jets": jets, "columns": list(chunks[0])})
    say(f"predict: {jets} jets in {target}")


@boundary
def embed(
    run: Run,
    data: Data,
    target: Target,
    card: Card = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    overwrite: Overwrite = False,
    as_json: JsonOption = False,
) -> None:
    """Write jet embeddings, one row a jet in the order of the files, or of the shards.

    Example: jettag embed runs/pretrain --data 'jets/*.root' --out embeddings.parquet
    """
    with loading():
        # Not `jettag.run`: that brings the studies along.
        from jettag.data.write import refuse_unknown_kind, write_columns
        from jettag.runs import inference
        from jettag.training.devices import choose_device, in_precision

    refuse_unknown_kind(target)
    refuse_existing(target, overwrite)
    place = choose_device(device)
    with progress("embed", None) as update, in_precision(place, precision == "bf16"):
        chunks, facts = inference.embed(run, data, card=card, device=place, on_progress=update)
    jets = write_columns(target, chunks, facts | {"precision": precision})
    if as_json:
        emit_json({"schema": 1, "out": str(target), "jets": jets, "columns": list(chunks[0])})
    say(f"embed: {jets} jets in {target}")
