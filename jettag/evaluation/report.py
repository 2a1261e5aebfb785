"""Everything that `eval --out` leaves in a folder.

| file | holds |
|---|---|
| eval.json | the object of `eval --json` |
| table.md | the table, its rule, remarks, the aggregate over seeds; then the published block, but for flavour |
| table.tex | the table for booktabs; then the published block as a table of its own |
| roc.png, roc.pdf | rejection against signal efficiency, one panel per pair |
| scores.png, scores.pdf | score distributions, one panel per run and pair |
| classes.png, classes.pdf | of three classes or more: which is taken for which; with several runs classes_0 and so on |
| flavour.md | of flavour taggers: working points, origins, vertices |
| rejection_b, pt_b, fractions_b, origins, as .png and .pdf | the same as pictures, for each discriminant |
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jettag.config.files import write_atomically
from jettag.errors import ResourceError
from jettag.evaluation import flavour_report, plots
from jettag.evaluation.flavour import FlavourScores
from jettag.evaluation.multiclass import MANY, judge_classes
from jettag.evaluation.rows import Row, remarks, to_json
from jettag.evaluation.scores import Pair, Scores
from jettag.evaluation.tables import published_block, published_latex, to_latex, to_markdown

__all__ = ["write"]


def write(
    out: Path,
    rows: Sequence[Row],
    scores: Sequence[Scores],
    *,
    groups: Mapping[str, str] | None = None,
    flavour: Sequence[FlavourScores] = (),
    flavour_reports: Sequence[Mapping[str, Any]] = (),
) -> list[Path]:
    """Write the files above into ``out``, which is made if need be; each is there whole or not at all.

    Everything is made before the first file is written, so that wrong input leaves nothing behind.

    Args:
        out: folder.
        rows: the table, of `make_rows` of each run.
        scores: the runs behind the rows, for the plots and remarks.
        groups: run name to family name, see `aggregate`.
        flavour: the flavour taggers among them.
        flavour_reports: what `jettag.evaluation.flavour.judge` says of each.

    Returns:
        The files written.

    Raises:
        DataError: a class has no jets.
        ResourceError: the folder cannot be made or written.
    """
    pairs = list(dict.fromkeys(Pair(*_split(row, scores)) for row in rows))
    notes = remarks(scores, rows)
    many = [judge_classes(run) for run in scores if run.probabilities.shape[1] >= MANY]
    whole = to_json(rows, groups) | ({"multiclass": many} if many else {})
    whole |= {"flavour": list(flavour_reports)} if flavour_reports else {}
    apart = not flavour  # the published numbers are of tops
    contents: dict[str, bytes | str] = {
        "eval.json": json.dumps(whole, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
        "table.md": to_markdown(rows, notes=notes, groups=groups, many=many)
        + ("\n" + published_block() if apart else ""),
        "table.tex": to_latex(rows, notes=notes) + ("\n" + published_latex() if apart else ""),
    }
    figures = {"roc": plots.draw_roc(scores, pairs), "scores": plots.draw_scores(scores, pairs)}
    for number, found in enumerate(many):
        name = f"classes_{number}" if len(many) > 1 else "classes"
        figures[name] = plots.draw_confusion(found["confusion"], found["classes"], "class")
    for name, figure in figures.items():
        for kind in ("png", "pdf"):
            contents[f"{name}.{kind}"] = plots.render(figure, kind)
    if flavour:
        contents |= flavour_report.contents(flavour, flavour_reports)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [write_atomically(out / name, content) for name, content in contents.items()]
    except OSError as problem:
        what = f"cannot write the report ({problem.strerror or problem})"
        raise ResourceError(what, where=out, do="choose another --out or free the disk") from None


def _split(row: Row, scores: Sequence[Scores]) -> tuple[str, tuple[str, ...]]:
    """Signal and background classes of a row; a class may have ``+`` in its name."""
    whole = any(row.background in run.class_names for run in scores)
    return row.signal, (row.background,) if whole else tuple(row.background.split("+"))
