"""The table of a weak study on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jettag.evaluation.weak_report import (
    DECORRELATION_HEAD,
    HEAD,
    IMPROVEMENT_TITLE,
    OUTLIER_HEAD,
    decorrelation_lines,
    decorrelation_statement,
    heads,
    hunt_heads,
    hunt_lines,
    hunt_statement,
    improvement_heads,
    improvement_lines,
    lines,
    outlier_lines,
    outlier_statement,
    remarks,
)
from jettag.evaluation.weak_simulators import (
    CORRECTION_HEAD,
    NOTHING_HEAD,
    NOTHING_TITLE,
    TAGGER_HEAD,
    correction_lines,
    nothing_lines,
    simulators_statement,
    tagger_lines,
)

from .tables import STYLE

__all__ = ["print_decorrelation", "print_hunt", "print_lines", "print_outliers", "print_simulators", "print_study"]

# What does not fit a terminal is in the files.
LEFT_OUT = ("ARGOS", "runs")
LEFT_OUT_OF_RESONANCES = ("ARGOS", "row", "runs", "SIC at 1e-3", "JSD [nats]", "template AUC", "FPD", "KPD")
BARE_IN_HUNTS = ("observed", "expected", "AUC")
DECORRELATION_WIDTHS = {"deviation": 11}
BARE_IN_DECORRELATIONS = ("JSD of random cuts [nats]", "AUC")  # bands that do not fit a terminal; they are in the files
CORRECTION_WIDTHS = {"method": 11, "events [%]": 7}
HUNT_WIDTHS = {"region [GeV]": 9, "local p": 8, "AUC": 5}  # so that no number is broken


def print_study(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak --json`, with what varied and the notes."""
    first = content["rows"][0]
    judges = f"{first['n_signal_test']} signal and {first['n_background_test']} background jets judge"
    title = f"{judges}, {first['n_runs']} runs"
    table = Table(title=Text(title), **STYLE)
    names = heads(content)
    left_out: tuple[str, ...] = LEFT_OUT if len(names) == len(HEAD) else LEFT_OUT_OF_RESONANCES
    if len({(row["method"], row["row"]) for row in content["rows"]}) > len({row["method"] for row in content["rows"]}):
        left_out = tuple(name for name in left_out if name != "row")  # a method of two classifiers
    shown = [place for place, name in enumerate(names) if name not in left_out]
    for place in shown:
        is_text = names[place] in ("method", "row")
        table.add_column(
            names[place], justify="left" if is_text else "right", overflow="fold", no_wrap=names[place] == "method"
        )
    for line in lines(content):
        table.add_row(*(Text(line[place].replace(" to ", "–").replace(" (", "\n").rstrip(")")) for place in shown))
    console.print(table)
    if content["improvement"]:
        _print_cells(console, IMPROVEMENT_TITLE, improvement_heads(content), improvement_lines(content))
    console.print(Text(content["statement"], style="dim"))
    for note in [*_templates(content), *remarks(content)]:
        console.print(Text(f"- {note}"))


def _templates(content: Mapping[str, Any]) -> list[str]:
    """How near the templates of the runs without signal are to the true background: medians, in one line."""
    found = {
        row["method"]: f"{row['method']} AUC {row['template_auc_median']:.3f}, FPD {row['template_fpd_median']:.2g}, "
        f"KPD {row['template_kpd_median']:.2g}"
        for row in content["rows"]
        if row["fraction"] == 0 and row.get("template_kpd_median") is not None
    }
    return [f"templates without signal: {'; '.join(found.values())}"] if found else []


def print_hunt(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak hunt --json`."""
    # Its bands just fit a terminal; those left out are in the files.
    table = Table(title=Text(f"{content['mass']} with {', '.join(content['features'])}"), **STYLE | {"padding": 0})
    names = hunt_heads(content)
    for name in names:
        table.add_column(name, justify="right", overflow="fold", min_width=HUNT_WIDTHS.get(name))
    for line in hunt_lines(content):
        table.add_row(*(Text(_narrow(cell, name not in BARE_IN_HUNTS)) for name, cell in zip(names, line, strict=True)))
    console.print(table)
    console.print(Text(hunt_statement(content), style="dim"))
    for note in content["notes"]:
        console.print(Text(f"- {note}"))


def _narrow(cell: str, banded: bool) -> str:
    """A median with the ends of its band beneath, each on a line of its own."""
    median, _, band = cell.partition(" (")
    ends = "\n" + band.rstrip(")").replace(" to ", "–\n") if band and banded else ""
    return median.replace(" to ", "–") + ends


def print_decorrelation(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak decorrelate --json`."""
    table = Table(title=Text(f"Without {content['column']}, {content['rows'][0]['n_runs']} runs"), **STYLE)
    shown = [place for place, name in enumerate(DECORRELATION_HEAD) if name != "runs"]
    for place in shown:
        name = DECORRELATION_HEAD[place]
        table.add_column(
            name,
            justify="left" if name == "method" else "right",
            overflow="fold",
            min_width=DECORRELATION_WIDTHS.get(name),
        )
    for line in decorrelation_lines(content):
        cells = (
            line[place].partition(" (")[0] if DECORRELATION_HEAD[place] in BARE_IN_DECORRELATIONS else line[place]
            for place in shown
        )
        table.add_row(*(Text(cell.replace(" to ", "–").replace(" (", "\n").rstrip(")")) for cell in cells))
    console.print(table)
    console.print(Text(decorrelation_statement(content), style="dim"))
    for note in content["notes"]:
        console.print(Text(f"- {note}"))


def print_outliers(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak outliers --json`."""
    _print_cells(console, f"Outliers of {content['background']}", OUTLIER_HEAD, outlier_lines(content))
    _print_cells(console, IMPROVEMENT_TITLE, improvement_heads(content), improvement_lines(content))
    console.print(Text(outlier_statement(content), style="dim"))
    for note in content["notes"]:
        console.print(Text(f"- {note}"))


def print_simulators(console: Console, content: Mapping[str, Any]) -> None:
    """Print the object of `weak simulators --json`."""
    table = Table(title=Text(f"Two simulations, {content['rows'][0]['n_runs']} runs"), **STYLE)
    for name in TAGGER_HEAD:
        table.add_column(name, justify="left" if name == "what" else "right", overflow="fold")
    for line in tagger_lines(content):
        table.add_row(*map(Text, line))
    console.print(table)
    for title, head, found in (
        ("The simulation brought to the data", CORRECTION_HEAD, correction_lines(content)),
        (NOTHING_TITLE, NOTHING_HEAD, nothing_lines(content)),
    ):
        _print_cells(console, title, head, found, CORRECTION_WIDTHS)
    console.print(Text(simulators_statement(content), style="dim"))
    for note in content["notes"]:
        console.print(Text(f"- {note}"))


def _print_cells(
    console: Console,
    title: str,
    head: Sequence[str],
    found: Sequence[Sequence[str]],
    widths: Mapping[str, int] | None = None,
) -> None:
    """A table of medians with their bands beneath."""
    table = Table(title=Text(title), **STYLE | {"padding": 0})  # it just fits a terminal
    for name in head:
        is_text = name in ("method", "input", "row", "signal")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", width=(widths or {}).get(name))
    for line in found:
        table.add_row(*(Text(cell.replace(" to ", "–").replace(" (", "\n").rstrip(")")) for cell in line))
    console.print(table)


def print_lines(
    console: Console, head: Sequence[str], lines: Sequence[Sequence[str]], statement: str, notes: Sequence[str]
) -> None:
    """Print a table of numbers with what they are; names stand to the left."""
    table = Table(**STYLE)
    for name in head:
        table.add_column(name, justify="left" if name in ("run", "method") else "right", overflow="fold")
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)
    console.print(Text(statement, style="dim"))
    for note in notes:
        console.print(Text(f"- {note}"))
