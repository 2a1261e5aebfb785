"""The rejection table as Markdown, and the published block that stands apart from it.

The rows themselves, their aggregate and JSON come from `jettag.evaluation.rows`, LaTeX from `jettag.evaluation.latex`;
they are offered here too, so that one import serves a notebook.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jettag.evaluation.blocks import (
    CLASS_HEADS,
    RULE,
    blocks,
    class_cells,
    rejection_parts,
    repeated,
    short_count,
    spread,
)
from jettag.evaluation.latex import published_latex, to_latex
from jettag.evaluation.published import published
from jettag.evaluation.rows import Aggregate, Row, aggregate, make_rows, remarks, to_json

__all__ = [
    "Aggregate",
    "Row",
    "aggregate",
    "escape_markdown",
    "make_rows",
    "markdown",
    "published_block",
    "published_latex",
    "remarks",
    "to_json",
    "to_latex",
    "to_markdown",
]


def to_markdown(
    rows: Sequence[Row],
    *,
    notes: Sequence[str] = (),
    groups: Mapping[str, str] | None = None,
    many: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The table with its rule, remarks and, where a family has several seeds, the aggregate; no published numbers.

    Args:
        rows: of any number of runs.
        notes: sentences to stand below, usually `remarks`.
        groups: see `aggregate`.
        many: `jettag.evaluation.multiclass.judge_classes` of the runs with three classes or more.
    """
    parts = []
    for block in blocks(rows):
        percent = [f"{value:.3g}" for value in block.efficiencies]
        heads = [head for value in percent for head in (f"rejection at {value}", "passing")]
        header = ["run", "AUC", "accuracy", *heads, "parameters", "training jets", "seed"]
        body = []
        for line in block.lines:
            row = line.first
            cells = [text for cell in line.cells for text in _markdown_cells(cell)]
            tail = [short_count(row.parameters), short_count(row.n_train), "" if row.seed is None else str(row.seed)]
            body.append([escape_markdown(line.run), f"{row.auc:.4f}", f"{row.accuracy:.4f}", *cells, *tail])
        parts += [f"### {escape_markdown(block.title)}", markdown(header, body)]
    again = repeated(rows, groups)
    if again:
        header = ["runs", "pair", "efficiency", "seeds", "rejection mean ± std", "median", "AUC", "accuracy"]
        body = [
            [
                escape_markdown(group.run),
                escape_markdown(f"{group.signal} against {group.background}"),
                f"{group.signal_efficiency:.3g}",
                str(group.n_seeds) + (f" ({group.n_limits} limits)" if group.n_limits else ""),
                spread(group.background_rejection_mean, group.background_rejection_std, decimals=0),
                spread(group.background_rejection_median, decimals=0),
                spread(group.auc_mean, group.auc_std, decimals=4),
                spread(group.accuracy_mean, group.accuracy_std, decimals=4),
            ]
            for group in again
        ]
        parts += ["### Over seeds", markdown(header, body)]
    if many:
        body = [[escape_markdown(found["run"]), *class_cells(found)] for found in many]
        parts += ["### All classes", markdown(["run", *CLASS_HEADS], body)]
    parts.append(RULE.replace("_", r"\_").replace(">", r"\>"))
    if notes:
        parts.append("\n".join(f"- {escape_markdown(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def published_block() -> str:
    """The published Top Landscape numbers as Markdown, under a heading that says whose they are."""
    block = published()
    header = ["model", "rejection at 0.3", "rejection at 0.5", "AUC", "accuracy", "parameters", "jets", "paper"]
    body = [
        [
            model.model,
            spread(*(model.rejection_30 or (None, None)), decimals=0),
            spread(*(model.rejection_50 or (None, None)), decimals=0),
            "n/a" if model.auc is None else f"{model.auc}",
            "n/a" if model.accuracy is None else f"{model.accuracy}",
            short_count(model.parameters),
            short_count(model.jets),
            f"[{model.paper}](https://arxiv.org/abs/{model.paper.removeprefix('arXiv:')})",
        ]
        for model in block.models
    ]
    return f"## Another data set: {block.test_set}\n\n**{block.statement}**\n\n{markdown(header, body)}\n"


def _markdown_cells(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    value, up, down = rejection_parts(row)
    text = f"{value} (+{up} −{down})" if up else rf"\> {value}"
    return text, str(row.n_background_pass)


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table whose first column is aligned to the left; cells are escaped already."""
    align = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, align, *body])


def escape_markdown(text: str) -> str:
    """The text with every sign that Markdown reads set apart."""
    return "".join("\\" + letter if letter in "\\`*_{}[]<>#|~" else letter for letter in " ".join(text.split()))
