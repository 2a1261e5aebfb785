"""The rejection table on the terminal: one block per pair, both efficiencies side by side, published numbers apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from jettag.evaluation.blocks import (
    CLASS_HEADS,
    RULE,
    Block,
    blocks,
    class_cells,
    grouped,
    rejection_parts,
    repeated,
    short_count,
    spread,
)
from jettag.evaluation.published import published
from jettag.evaluation.rows import Row

__all__ = ["print_published", "print_rows"]

STYLE: dict[str, Any] = {
    "title_justify": "left",
    "box": box.SIMPLE_HEAD,
    "padding": (0, 1, 0, 0),
    "pad_edge": False,
}


def print_rows(
    console: Console,
    rows: Sequence[Row],
    *,
    notes: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    many: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print every block, the aggregate where a family has several seeds, all classes at once, the rule, and the notes.

    Args:
        console: where to; the CLI's `out`.
        rows: of any number of runs.
        notes: sentences to stand below, usually `jettag.evaluation.rows.remarks`.
        groups: run name to family name, see `jettag.evaluation.rows.aggregate`.
        many: `jettag.evaluation.multiclass.judge_classes` of the runs with three classes or more.
    """
    for block in blocks(rows):
        _show(console, _block(block))
    again = repeated(rows, groups)
    if again:
        table = Table(title="Over seeds", **STYLE)
        for head in ("runs", "pair", "at", "seeds", "mean ± std", "median", "AUC"):
            table.add_column(head, justify="left" if head in ("runs", "pair") else "right", overflow="fold")
        for group in again:
            table.add_row(
                Text(group.run),
                Text(f"{group.signal} / {group.background}"),
                f"{group.signal_efficiency:.3g}",
                str(group.n_seeds),
                spread(group.background_rejection_mean, group.background_rejection_std, decimals=0),
                spread(group.background_rejection_median, decimals=0),
                spread(group.auc_mean, group.auc_std, decimals=4),
            )
        _show(console, table)
    if many:
        table = Table(title="All classes", **STYLE)
        for head in ("run", *CLASS_HEADS):
            table.add_column(head, justify="left" if head == "run" else "right", overflow="fold")
        for found in many:
            table.add_row(Text(found["run"]), *class_cells(found))
        _show(console, table)
    console.print(Text(RULE, style="dim"))
    for note in notes:
        console.print(Text(f"- {note}"))


def print_published(console: Console) -> None:
    """Print the published Top Landscape numbers in a frame that says they belong to another data set."""
    content = published()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("model", "rej. 0.3", "rej. 0.5", "AUC", "params", "jets", "arXiv"):
        table.add_column(head, justify="left" if head in ("model", "arXiv") else "right", overflow="fold")
    for model in content.models:
        table.add_row(
            model.model,
            spread(*(model.rejection_30 or (None, None)), decimals=0),
            spread(*(model.rejection_50 or (None, None)), decimals=0),
            "n/a" if model.auc is None else str(model.auc),
            short_count(model.parameters),
            short_count(model.jets),
            model.paper.removeprefix("arXiv:"),
        )
    console.print(Rule(f"Another data set: {content.test_set}", style="dim"))
    console.print(Text(content.statement, style="bold"))
    _show(console, table)
    console.print(Rule(style="dim"))


def _show(console: Console, table: Table) -> None:
    """The table, or a line for each of its cells on a terminal so narrow that numbers would break."""
    unbounded = console.options.update(max_width=1000)
    if Measurement.get(console, unbounded, table).minimum <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        console.print()
        for column, cell in zip(table.columns, cells, strict=True):
            content = cell if isinstance(cell, Text) else Text(str(cell))
            name = " ".join(str(column.header).split())
            console.print(Text(f"{name}: ", style="dim").append(Text(", ").join(content.split("\n"))))
    console.print()


def _block(block: Block) -> Table:
    table = Table(title=Text(block.title), **STYLE)
    table.add_column("run", overflow="fold")
    table.add_column("AUC", justify="right", overflow="fold")
    table.add_column("acc.", justify="right", overflow="fold")
    for value in block.efficiencies:
        table.add_column(f"rejection\nat {value:.3g}", justify="right", overflow="fold")
    table.add_column("params", justify="right", overflow="fold")
    table.add_column("training\njets", justify="right", overflow="fold")
    for line in block.lines:
        row = line.first
        table.add_row(
            Text(line.run),
            f"{row.auc:.4f}",
            f"{row.accuracy:.4f}",
            *(_cell(cell) for cell in line.cells),
            short_count(row.parameters),
            short_count(row.n_train),
        )
    return table


def _cell(row: Row | None) -> Text:
    """Value and interval, and below them how many background jets that rests on."""
    if row is None:
        return Text("")
    value, up, down = rejection_parts(row)
    cell = Text(value if up else f"> {value}", style="bold")
    if up:
        cell.append(f" +{up} −{down}", style="not bold")
    return cell.append(f"\n{grouped(row.n_background_pass)} pass", style="not bold dim")
