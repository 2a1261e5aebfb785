"""Assemble the `jettag` command."""

import typer

app = typer.Typer(name="jettag", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Pre-train, fine-tune and judge jet taggers."""
