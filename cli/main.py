"""Assemble the `jettag` command."""

from collections.abc import Callable
from typing import Annotated

import typer

from jettag import CITATION, __version__

from . import (
    bench,
    data,
    doctor,
    evaluate,
    export,
    finetune,
    generate,
    predict,
    pretrain,
    quickstart,
    scan,
    shipped,
    submit,
    validate,
    weak,
    weights,
)
from .command import Group, SeveralValues

__all__ = ["app"]

app = typer.Typer(
    name="jettag",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start here: jettag quickstart",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"jettag {__version__}")
        raise typer.Exit


def _cite(asked: bool) -> None:
    if asked:
        typer.echo(CITATION)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Version.")] = False,
    cite: Annotated[bool, typer.Option("--cite", callback=_cite, is_eager=True, help="BibTeX.")] = False,
) -> None:
    """Pre-train, fine-tune and judge jet taggers."""


COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Run": {
        "quickstart": quickstart.quickstart,
        "generate": generate.generate,
        "pretrain": pretrain.pretrain,
        "finetune": finetune.finetune,
        "eval": evaluate.evaluate,
        "predict": predict.predict,
        "embed": predict.embed,
        "export": export.export,
        "submit": submit.submit,
    },
    "Look": {
        "ls": shipped.ls,
        "cat": shipped.cat,
        "cp": shipped.cp,
        "validate": validate.validate,
        "doctor": doctor.doctor,
    },
}
GROUPS = {"scan": scan.app, "weak": weak.app, "data": data.app, "import": weights.app, "bench": bench.app}

for panel, commands in COMMANDS.items():
    for name, function in commands.items():
        app.command(name, cls=SeveralValues, rich_help_panel=panel)(function)
for name, group in GROUPS.items():
    app.add_typer(
        group, name=name, cls=Group, rich_help_panel="Look" if name not in ("import", "scan", "weak") else "Run"
    )
