"""The table of a label scan on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jettag.evaluation.label_report import HEAD, LABEL_RULE, lines

from .tables import STYLE

__all__ = ["print_scan"]

SHOWN = len(HEAD) - 2  # AUC and accuracy are in the files


def print_scan(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `scan --json`, a block for each pair and signal efficiency."""
    for title, body in lines(content).items():
        table = Table(title=Text(title), **STYLE)
        for name in HEAD[:SHOWN]:
            table.add_column(name, justify="left" if name == "mode" else "right", overflow="fold")
        for line in body:
            table.add_row(*(Text(cell.replace(" (", "\n(")) for cell in line[:SHOWN]))
        console.print(table)
    console.print(Text(LABEL_RULE, style="dim"))
