"""The table of a study in several parts: maximum SIC of every method in each of them side by side."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jettag.config.files import write_atomically
from jettag.errors import ResourceError
from jettag.evaluation.tables import escape_markdown, markdown
from jettag.evaluation.weak_report import band_cell, percent

__all__ = ["parts_heads", "parts_lines", "write_parts"]

ABOUT = (
    "Maximum SIC, median over runs with its 16-84 % band; what does not mix, such as supervised, stands with the most "
    "signal. chi2/ndof: what a cut does to the mass spectrum where there is no signal. The folder of each part has all "
    "its numbers."
)
Contents = Mapping[str, Mapping[str, Any]]  # the object of `weak --json` of each part, by its name


def parts_heads(contents: Contents) -> list[str]:
    """Method, row, a column for each signal fraction of each part, and one for what each part sculpts."""
    columns = [_head(content, part, fraction) for part, content in contents.items() for fraction in _fractions(content)]
    return ["method", "row", *columns, *(f"{part}: chi2/ndof" for part in _sculpted(contents))]


def parts_lines(contents: Contents) -> list[list[str]]:
    """The cells of `parts_heads`; empty where a part has no such point."""
    found = {
        part: {(row["method"], row["row"], row["fraction"]): row for row in content["rows"]}
        for part, content in contents.items()
    }
    names = dict.fromkeys((method, row) for rows in found.values() for method, row, _ in rows)
    lines = []
    for method, row in names:
        cells = []
        for part, content in contents.items():
            fractions = _fractions(content)
            for fraction in fractions:
                point = found[part].get((method, row, fraction))
                if point is None and fraction == fractions[-1]:
                    point = found[part].get((method, row, None))
                cells.append("" if point is None else band_cell(point, "max_sic"))
        for part in _sculpted(contents):
            value = found[part].get((method, row, 0.0), {}).get("chi2_per_ndof_median")
            cells.append("" if value is None else f"{value:.2f}")
        lines.append([method, row, *cells])
    return lines


def write_parts(out: Path, contents: Contents) -> None:
    """Write ``weak.json`` with the object of each part, and ``table.md``; each whole or not at all.

    Raises:
        ResourceError: the folder cannot be written.
    """
    cells = [[escape_markdown(cell) for cell in line] for line in parts_lines(contents)]
    table = markdown([escape_markdown(head) for head in parts_heads(contents)], cells)
    content = {"schema": 1, "parts": contents}
    try:
        write_atomically(out / "weak.json", json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
        write_atomically(out / "table.md", f"{table}\n\n{escape_markdown(ABOUT)}\n")
    except OSError as problem:
        what = f"cannot write the tables ({problem.strerror or problem})"
        raise ResourceError(what, where=out, do="free the disk and run the command again") from None


def _fractions(content: Mapping[str, Any]) -> list[float | None]:
    """Those of a part; None alone where no method mixes."""
    return sorted({row["fraction"] for row in content["rows"] if row["fraction"] is not None}) or [None]


def _head(content: Mapping[str, Any], part: str, fraction: float | None) -> str:
    if fraction == 0:
        return f"{part}: no signal"
    purity = next(row.get("s_over_b_median") for row in content["rows"] if row["fraction"] == fraction)
    return f"{part}: {percent(fraction)}" if purity is None else f"{part}: S/B {100 * purity:.2g} %"


def _sculpted(contents: Contents) -> list[str]:
    """Parts that look at a mass spectrum."""
    return [part for part, content in contents.items() if "chi2_per_ndof_median" in content["rows"][0]]
