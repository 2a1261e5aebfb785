"""Vertices of a flavour tagger as Markdown: of all jets, against pT, and by how many there are."""

from collections.abc import Mapping
from typing import Any

from jettag.evaluation.vertexing import MANY

__all__ = ["vertex_lines"]

SHARES = ("efficiency", "purity", "found_rate")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _share(found: Mapping[str, Any], name: str) -> str:
    if found[name] is None:
        return "-"
    return f"{_number(found[name])} [{_number(found[f'{name}_low'])}, {_number(found[f'{name}_high'])}]"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def vertex_lines(report: Mapping[str, Any]) -> list[str]:
    """Tables of what `jettag.evaluation.flavour.judge` says of vertices: ``vertices`` and ``vertices_by_...``."""
    if "vertices" not in report:
        return []
    lines = ["### Vertices of b and c hadrons", ""]
    lines += ["The share of light jets with one is the fake rate. Intervals: 68 %, by counting.", ""]
    lines += [_row(["", "jets", "true", "efficiency", "purity", "track efficiency", "track purity", "jets with one"])]
    lines += ["|---|" + "---:|" * 7]
    for kind, by_class in report["vertices"].items():
        for name, found in by_class.items():
            tracks = [_number(found[key]) for key in ("track_efficiency", "track_purity")]
            head = [f"{name}, {kind}", str(found["jets"]), str(found["true"])]
            first, second, last = (_share(found, key) for key in SHARES)
            lines.append(_row([*head, first, second, *tracks, last]))
    by_pt = report.get("vertices_by_pt")
    if by_pt:
        heads = ["", "pT [GeV]", "jets with one", "efficiency", "purity", "inclusive efficiency", "inclusive purity"]
        lines += ["", "Against pT:", "", _row(heads), "|---|" + "---:|" * 6]
        for name, rows in by_pt["exclusive"].items():
            for found, together in zip(rows, by_pt["inclusive"][name], strict=True):
                cells = [_share(found, "found_rate")]
                cells += [_share(which, key) for which in (found, together) for key in SHARES[:2]]
                lines.append(_row([name, f"{found['pt_low']}-{found['pt_high']}", *cells]))
    lines += ["", "By the number of true vertices in the jet, exclusive:", ""]
    lines += [_row(["", "true", "jets", *SHARES[:2], "jets with one"]), "|---|" + "---:|" * 5]
    for name, rows in report["vertices_by_number"].items():
        for found in rows:
            number = str(found["vertices"]) + (" or more" if found["vertices"] == MANY else "")
            head = [name, number, str(found["jets"])]
            lines.append(_row([*head, *(_share(found, key) for key in SHARES)]))
    return [*lines, ""]
