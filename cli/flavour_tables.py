"""Flavour tagging on the terminal: working points, origins, vertices, regressions."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jettag.evaluation.regression_report import MEASURES, compared_with, measure_text

__all__ = ["print_flavour"]

STYLE: dict[str, Any] = {
    "title_justify": "left",
    "caption_justify": "left",
    "box": box.SIMPLE_HEAD,
    "padding": (0, 1, 0, 0),
    "pad_edge": False,
}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _rejection(entry: Mapping[str, Any]) -> str:
    if entry["background_rejection"] is None:
        return f"> {_number(entry['background_rejection_low'])}"
    edges = f"{_number(entry['bootstrap_low'])}, {_number(entry['bootstrap_high'])}"
    return f"{_number(entry['background_rejection'])} [{edges}]"


def _share(found: Mapping[str, Any], name: str) -> str:
    if found[name] is None:
        return "-"
    return f"{found[name]:.2f} [{found[f'{name}_low']:.2f}-{found[f'{name}_high']:.2f}]"  # fits 80 columns


def print_flavour(console: Console, reports: Sequence[Mapping[str, Any]]) -> None:
    """Print what `jettag.evaluation.flavour.judge` says of each run."""
    for report in reports:
        for name, found in report["discriminants"].items():
            console.print(_points(report["run"], name, found))
            if (stored := _stored(report["run"], name, found)) is not None:
                console.print(stored)
        if "origins" in report:
            console.print(_origins(report["run"], report["origins"]))
        if "vertices" in report:
            console.print(_vertices(report["run"], report["vertices"]))
        for name, found in report.get("regression", {}).items():
            console.print(_regression(report["run"], name, found))


def _points(run: str, name: str, found: Mapping[str, Any]) -> Table:
    fractions = ", ".join(f"f_{key} {value:.3g}" for key, value in found["fractions"].items())
    areas = ", ".join(f"{key} {value:.4f}" for key, value in found["auc"].items())
    table = Table(title=f"{run}: D({name}), {fractions} ({found['chosen']}); AUC against {areas}", **STYLE)
    for head in (f"{name} efficiency", "cut", *(f"{key} rejection [68 %]" for key in found["auc"])):
        table.add_column(head, justify="right")
    for point in found["working_points"]:
        cells = [_rejection(point["rejections"][key]) for key in found["auc"]]
        table.add_row(f"{point['signal_efficiency']:.0%}", f"{point['threshold']:.3f}", *cells)
    for point in found.get("baseline_working_points", ()):
        cells = [_rejection(point["rejections"][key]) for key in found["auc"]]
        table.add_row(f"{point['signal_efficiency']:.0%} *", f"{point['threshold']:.3f}", *cells)
    if "baseline_auc" in found:
        areas = ", ".join(f"{key} {value:.4f}" for key, value in found["baseline_auc"].items())
        table.caption = f"* mean signed d0 significance alone; AUC against {areas}"
    return table


def _stored(run: str, name: str, found: Mapping[str, Any]) -> Table | None:
    points = [point for point in found["working_points"] if "stored_cut" in point]
    if not points:
        return None
    table = Table(title=f"{run}: what passes the stored cuts on D({name})", **STYLE)
    for head in (f"{name} aimed at", "stored cut", *(f"{key} efficiency" for key in (name, *found["auc"]))):
        table.add_column(head, justify="right")
    for point in points:
        passing = [point["efficiency_at_stored_cut"], *point["background_efficiency_at_stored_cut"].values()]
        cells = [_number(value) for value in passing]
        table.add_row(f"{point['signal_efficiency']:.0%}", f"{point['stored_cut']:.3f}", *cells)
    return table


def _origins(run: str, found: Mapping[str, Any]) -> Table:
    table = Table(title=f"{run}: origins, accuracy {_number(found['accuracy'])}", **STYLE)
    for head in ("origin", "recall", "precision"):
        table.add_column(head, justify="left" if head == "origin" else "right")
    for name in found["classes"]:
        table.add_row(Text(name), _number(found["recall"][name]), _number(found["precision"][name]))
    return table


def _vertices(run: str, found: Mapping[str, Any]) -> Table:
    table = Table(title=f"{run}: vertices of b and c hadrons", **STYLE)
    for head in ("jets", "true", "efficiency", "purity", "jets with one"):
        table.add_column(head, justify="left" if head == "jets" else "right")
    for kind, by_class in found.items():
        for name, one in by_class.items():
            shares = [_share(one, key) for key in ("efficiency", "purity", "found_rate")]
            table.add_row(Text(f"{name}, {kind}"), str(one["true"]), *shares)
    return table


def _regression(run: str, name: str, found: Mapping[str, Any]) -> Table:
    table = Table(title=f"{run}: {name}, {compared_with(found)}", **STYLE)
    for head in ("pT [GeV]", "jets", *(f"{measure.replace('_', '-')} [68 %]" for measure in MEASURES)):
        table.add_column(head, justify="right")
    for one in (found, *found.get("by_pt", ())):
        bin_of_pt = f"{one['pt_low']}-{one['pt_high']}" if "pt_low" in one else "all"
        table.add_row(bin_of_pt, str(one["jets"]), *(measure_text(one, measure) for measure in MEASURES))
    return table
