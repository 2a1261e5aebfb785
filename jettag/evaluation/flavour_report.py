"""Flavour tagging as Markdown and pictures, beside the table of `jettag.evaluation.report`."""

from collections.abc import Mapping, Sequence
from typing import Any

from jettag.config.origins import ORIGINS
from jettag.evaluation import flavour_plots as draw
from jettag.evaluation.flavour import FlavourScores
from jettag.evaluation.plots import draw_confusion, render
from jettag.evaluation.regression_report import regression_lines
from jettag.evaluation.vertex_plots import draw_vertices
from jettag.evaluation.vertex_report import vertex_lines

__all__ = ["contents", "to_markdown"]


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


def _rejection(entry: Mapping[str, Any]) -> str:
    if entry["background_rejection"] is None:
        return f"> {_number(entry['background_rejection_low'], 3)}"
    low, high = entry["bootstrap_low"], entry["bootstrap_high"]
    return f"{_number(entry['background_rejection'], 3)} [{_number(low, 3)}, {_number(high, 3)}]"


def _discriminant_lines(name: str, found: Mapping[str, Any]) -> list[str]:
    fractions = ", ".join(f"f_{key} = {value:.3g}" for key, value in found["fractions"].items())
    lines = [f"### D({name}): {fractions} ({found['chosen']})", ""]
    backgrounds = list(found["auc"])
    if not backgrounds:
        return [*lines, "No jet of the signal, or of any background.", ""]
    lines += ["AUC " + ", ".join(f"against {key} {value:.4f}" for key, value in found["auc"].items()) + "."]
    if "baseline_auc" in found:
        shown = ", ".join(f"against {key} {value:.4f}" for key, value in found["baseline_auc"].items())
        lines += [f"Mean signed d0 significance alone: AUC {shown}."]
    lines += ["", *_table(["efficiency", "cut", *(f"{key} rejection [68 %, events]" for key in backgrounds)])]
    for point in found["working_points"]:
        cells = [_rejection(point["rejections"][key]) for key in backgrounds]
        lines.append(f"| {point['signal_efficiency']:.0%} | {point['threshold']:.3f} | " + " | ".join(cells) + " |")
    for point in found.get("baseline_working_points", ()):
        cells = [_rejection(point["rejections"][key]) for key in backgrounds]
        head = f"| {point['signal_efficiency']:.0%}, significance alone | {point['threshold']:.3f} | "
        lines.append(head + " | ".join(cells) + " |")
    stored = [point for point in found["working_points"] if "stored_cut" in point]
    if stored:
        lines += ["", "What passes the cuts that were chosen on validation jets:", ""]
        lines += _table(["aimed at", "stored cut", *(f"{key} efficiency" for key in (name, *backgrounds))])
    for point in stored:
        passing = [point["efficiency_at_stored_cut"]]
        passing += [point["background_efficiency_at_stored_cut"][key] for key in backgrounds]
        cells = [f"{point['signal_efficiency']:.0%}", f"{point['stored_cut']:.3f}", *(f"{x:.3g}" for x in passing)]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _table(heads: Sequence[str]) -> list[str]:
    """The two lines above the rows of a table of numbers."""
    return ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]


def to_markdown(reports: Sequence[Mapping[str, Any]]) -> str:
    """Tables of every run."""
    lines = ["# Flavour tagging", ""]
    for report in reports:
        lines += [f"## {report['run']}", ""]
        for name, found in report["discriminants"].items():
            lines += _discriminant_lines(name, found)
        origins = report.get("origins")
        if origins:
            lines += [f"### Track origin: accuracy {_number(origins['accuracy'])}, {origins['tracks']} tracks", ""]
            lines += ["| origin | recall | precision |", "|---|---:|---:|"]
            rows = [(n, _number(origins["recall"][n], 3), _number(origins["precision"][n], 3)) for n in ORIGINS]
            lines += [f"| {name} | {recall} | {precision} |" for name, recall, precision in rows] + [""]
        lines += vertex_lines(report)
        lines += regression_lines(report)
    return "\n".join(lines)


def contents(runs: Sequence[FlavourScores], reports: Sequence[Mapping[str, Any]]) -> dict[str, bytes | str]:
    """File name to content: ``flavour.md`` and the pictures."""
    files: dict[str, bytes | str] = {"flavour.md": to_markdown(reports)}
    figures = {}
    signals = dict.fromkeys(chosen.name for run in runs for chosen in run.discriminants)
    for signal in signals:
        having = [(run, chosen) for run in runs for chosen in run.discriminants if chosen.name == signal]
        having = [(run, c) for run, c in having if run.of(c.signal).any()]
        if any(run.of(group).any() for run, chosen in having for group in chosen.groups.values()):
            figures[f"rejection_{signal}"] = draw.draw_rejection(having)
    for number, (run, report) in enumerate(zip(runs, reports, strict=True)):
        suffix = f"_{number}" if len(runs) > 1 else ""
        for chosen in run.discriminants:
            rows = report["discriminants"][chosen.name].get("by_pt")
            if rows:
                figures[f"pt_{chosen.name}{suffix}"] = draw.draw_by_pt(rows, chosen.name)
            if chosen.scan and len(chosen.scan["backgrounds"]) > 1:
                figures[f"fractions_{chosen.name}{suffix}"] = draw.draw_scan(chosen)
        if "origins" in report:
            origins = report["origins"]
            figures[f"origins{suffix}"] = draw_confusion(origins["confusion"], origins["classes"], "origin")
        if any(rows for rows in report.get("vertices_by_pt", {}).get("exclusive", {}).values()):
            figures[f"vertices{suffix}"] = draw_vertices(report["vertices_by_pt"])
    for name, figure in figures.items():
        for kind in ("png", "pdf"):
            files[f"{name}.{kind}"] = render(figure, kind)
    return files
