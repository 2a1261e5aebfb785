"""Regressions of a flavour tagger as Markdown: of all jets, and against pT."""

from collections.abc import Mapping
from typing import Any

__all__ = ["MEASURES", "compared_with", "measure_text", "regression_lines"]

MEASURES = ("median", "half_width", "correlation")


def compared_with(found: Mapping[str, Any]) -> str:
    """What median and half-width are of, and what the head learnt."""
    response = "predicted / true" if found["compared"] == "ratio" else "predicted - true"
    learnt = f"divided by {found['relative_to']}" if found["relative_to"] else ""
    learnt = " of ".join(x for x in ("logarithm" if found["logarithm"] else "", learnt) if x)
    return f"{response}, learnt {learnt}" if learnt else response


def measure_text(found: Mapping[str, Any], name: str) -> str:
    """A measure with its interval; ``-`` where there is none."""
    value, low, high = (found[key] for key in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "-"
    return f"{value:.3g}" if low is None else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _row(first: str, found: Mapping[str, Any]) -> str:
    return f"| {first} | {found['jets']} | " + " | ".join(measure_text(found, name) for name in MEASURES) + " |"


def regression_lines(report: Mapping[str, Any]) -> list[str]:
    """Tables of what `jettag.evaluation.flavour.judge` says under ``regression``."""
    lines = []
    for name, found in report.get("regression", {}).items():
        lines += [f"### {name}: {compared_with(found)}", ""]
        lines += ["Half-width: of the central 68 %. Intervals: 68 %, by bootstrap of events.", ""]
        lines += ["| pT [GeV] | jets | median | half-width | correlation |", "|---|" + "---:|" * 4]
        lines += [_row("all", found)]
        lines += [_row(f"{one['pt_low']}-{one['pt_high']}", one) for one in found.get("by_pt", ())] + [""]
    return lines
