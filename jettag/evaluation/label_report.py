"""What `scan labels` leaves in its folder: scan.json, table.md, table.tex, label_efficiency.png and .pdf."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jettag.config.files import write_atomically
from jettag.errors import ResourceError
from jettag.evaluation.blocks import RULE, short_count, spread
from jettag.evaluation.label_curves import draw_label_curves
from jettag.evaluation.label_saving import ScanPoint, scan_json
from jettag.evaluation.latex import escape_latex
from jettag.evaluation.plots import render
from jettag.evaluation.tables import escape_markdown, markdown

__all__ = ["HEAD", "LABEL_RULE", "lines", "write_scan"]

HEAD = ("mode", "labels", "seeds", "rejection", "mean ± std", "over scratch", "label saving", "AUC", "accuracy")
BOUNDS = {"": "", ">": "at least", "<": "at most"}
LABEL_RULE = (
    "Each point is judged at the end of its schedule, with patience at its best validation. "
    "Rejection: the median over seeds, then mean ± standard deviation. Labels: all labelled jets of a point, "
    "validation included. Over scratch: ratio of the medians at the same labels. Label saving: labels that "
    "scratch needs for the same rejection over those of the mode, by log-log interpolation of the scratch medians; "
    "'at least' and 'at most' are bounds where the scanned labels end. In brackets the 68 % interval of a bootstrap "
    "over seeds; with few seeds it is rough."
)


def lines(content: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """The cells of `HEAD` under each title (pair and signal efficiency), from the object of `scan --json`."""
    savings = {_key(item): item for item in content["label_saving"]}
    found: dict[str, list[list[str]]] = {}
    order = list(dict.fromkeys(item["mode"] for item in content["aggregate"]))
    for item in sorted(content["aggregate"], key=lambda item: (order.index(item["mode"]), item["n_train"])):
        title = f"{item['signal']} against {item['background']} at {item['signal_efficiency'] * 100:.4g} % signal"
        saving = savings.get(_key(item))
        found.setdefault(title, []).append(
            [
                item["mode"],
                short_count(item["n_train"]),
                str(item["n_seeds"]) + (f" ({_limits(item['n_limits'])})" if item["n_limits"] else ""),
                _median(item, content["rows"]),
                spread(item["background_rejection_mean"], item["background_rejection_std"], decimals=1),
                _interval(saving, "rejection_ratio", ""),
                _interval(saving, "label_saving", BOUNDS[saving["bound"]] if saving else ""),
                spread(item["auc_mean"], item["auc_std"], decimals=4),
                spread(item["accuracy_mean"], item["accuracy_std"], decimals=4),
            ]
        )
    return found


def _key(item: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(item[key] for key in ("mode", "signal", "background", "signal_efficiency", "n_train"))


def _median(item: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The median, or the lowest of the seeds' limits where it is one of them."""
    if item["background_rejection_median"] is not None:
        return f"{item['background_rejection_median']:.1f}"
    limits = [row for row in rows if _key(row) == _key(item) and row["background_rejection"] is None]
    return f"> {min(row['background_rejection_low'] for row in limits):.0f}"


def _interval(item: Mapping[str, Any] | None, key: str, bound: str) -> str:
    if item is None or item[key] is None:
        return ""
    low, high = item[f"{key}_low"], item[f"{key}_high"]
    value = f"{bound} {_factor(item[key])}".strip()
    if low is None and high is None:
        return value
    return f"{value} ({'…' if low is None else _factor(low)} to {'…' if high is None else _factor(high)})"


def _factor(value: float) -> str:
    """To three digits, without an exponent."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def _limits(number: int) -> str:
    return "1 limit" if number == 1 else f"{number} limits"


def _markdown(content: Mapping[str, Any], notes: Sequence[str]) -> str:
    parts = []
    for title, body in lines(content).items():
        cells = [[escape_markdown(cell) for cell in line] for line in body]
        parts += [f"### {escape_markdown(title)}", markdown(list(HEAD), cells)]
    parts += [escape_markdown(LABEL_RULE), escape_markdown(RULE)]
    remarks = [*notes, *(f"{item['run']} failed: {item['error']}" for item in content["failed"])]
    if remarks:
        parts.append("\n".join(f"- {escape_markdown(note)}" for note in remarks))
    return "\n\n".join(parts) + "\n"


def _latex(content: Mapping[str, Any]) -> str:
    symbols = {"±": r"$\pm$", "…": r"\ldots{}"}

    def cell(text: str) -> str:
        escaped = escape_latex(text)
        for letter, command in symbols.items():
            escaped = escaped.replace(letter, command)
        return escaped

    parts = []
    for title, body in lines(content).items():
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"  \centering",
                    rf"  \caption{{{cell(f'{title}. {LABEL_RULE}')}}}",
                    r"  \begin{tabular}{lrrrrrrrr}",
                    r"    \toprule",
                    "    " + " & ".join(map(cell, HEAD)) + r" \\",
                    r"    \midrule",
                    *("    " + " & ".join(map(cell, line)) + r" \\" for line in body),
                    r"    \bottomrule",
                    r"  \end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def write_scan(
    out: Path,
    points: Sequence[ScanPoint],
    *,
    failed: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    pictures: bool = True,
) -> dict[str, Any]:
    """Write the files, each whole or not at all; without ``pictures`` only the JSON and the Markdown table.

    Returns:
        The object of `scan --json`.

    Raises:
        ResourceError: the folder cannot be written.
    """
    content = scan_json(points, failed)
    files: dict[str, bytes | str] = {
        "scan.json": json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "table.md": _markdown(content, notes),
    }
    if pictures:
        files["table.tex"] = _latex(content)
        if points:
            figure = draw_label_curves(content)
            files |= {f"label_efficiency.{kind}": render(figure, kind) for kind in ("png", "pdf")}
    try:
        for name, text in files.items():
            write_atomically(out / name, text)
    except OSError as problem:
        what = f"cannot write the tables ({problem.strerror or problem})"
        raise ResourceError(what, where=out, do="free the disk and run the command again") from None
    return content
