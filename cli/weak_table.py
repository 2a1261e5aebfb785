"""The table of a weak study on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jettag.evaluation.weak_report import (
    DECORRELATION_HEAD,
    HEAD,
    HUNT_HEAD,
    decorrelation_lines,
    decorrelation_statement,
    heads,
    hunt_lines,
    hunt_statement,
    lines,
)

from .tables import STYLE

__all__ = ["print_decorrelation", "print_hunt", "print_study"]

LEFT_OUT = HEAD.index("ARGOS")  # it is in the files


def print_study(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak --json`, with what varied and the notes."""
    first = content["rows"][0]
    title = f"{first['n_signal_test']} signal and {first['n_background_test']} background jets judge"
    table = Table(title=Text(title), **STYLE)
    shown = [place for place in range(len(heads(content))) if place != LEFT_OUT]
    for name in (heads(content)[place] for place in shown):
        table.add_column(name, justify="left" if name in ("method", "row") else "right", overflow="fold")
    for line in lines(content):
        table.add_row(*(Text(cell.replace(" (", "\n(")) for cell in (line[place] for place in shown)))
    console.print(table)
    console.print(Text(content["statement"], style="dim"))
    for method, varied in {row["method"]: row["varied"] for row in content["rows"]}.items():
        console.print(Text(f"- {method}: between runs varied {varied}"))
    for note in content["notes"]:
        console.print(Text(f"- {note}"))


def print_hunt(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak hunt --json`."""
    table = Table(title=Text(f"{content['mass']} with {', '.join(content['features'])}"), **STYLE)
    for name in HUNT_HEAD:
        table.add_column(name, justify="right", overflow="fold")
    for line in hunt_lines(content):
        table.add_row(*map(Text, line))
    console.print(table)
    console.print(Text(hunt_statement(content), style="dim"))


def print_decorrelation(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak decorrelate --json`."""
    table = Table(title=Text(f"Without {content['column']}"), **STYLE)
    for name in DECORRELATION_HEAD:
        table.add_column(name, justify="left" if name == "method" else "right", overflow="fold")
    for line in decorrelation_lines(content):
        table.add_row(*(Text(cell.replace(" (", "\n(")) for cell in line))
    console.print(table)
    console.print(Text(decorrelation_statement(content), style="dim"))
    for note in content["notes"]:
        console.print(Text(f"- {note}"))
