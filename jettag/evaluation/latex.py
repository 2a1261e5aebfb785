"""The rejection table and the published block as LaTeX (booktabs)."""

from collections.abc import Sequence

from jettag.evaluation.blocks import RULE, blocks, rejection_parts, short_count
from jettag.evaluation.published import published
from jettag.evaluation.rows import Row

__all__ = ["escape_latex", "published_latex", "to_latex"]

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}


def to_latex(rows: Sequence[Row], *, notes: Sequence[str] = ()) -> str:
    """One ``table`` per block, for the booktabs package; names are escaped."""
    parts = []
    for block in blocks(rows):
        columns = "lcc" + "rr" * len(block.efficiencies) + "rr"
        heads = " & ".join(r"$1/\varepsilon_B$ & pass" for _ in block.efficiencies)
        spans = " & ".join(rf"\multicolumn{{2}}{{c}}{{$\varepsilon_S = {value:.3g}$}}" for value in block.efficiencies)
        rules = " ".join(rf"\cmidrule(lr){{{4 + 2 * i}-{5 + 2 * i}}}" for i in range(len(block.efficiencies)))
        body = []
        for line in block.lines:
            row = line.first
            cells = [text for cell in line.cells for text in _latex_cells(cell)]
            tail = [short_count(row.parameters), short_count(row.n_train)]
            body.append([escape_latex(line.run), f"{row.auc:.4f}", f"{row.accuracy:.4f}", *cells, *tail])
        caption = " ".join([block.title + ".", RULE, *notes])
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"  \centering",
                    rf"  \caption{{{escape_latex(caption)}}}",
                    rf"  \begin{{tabular}}{{{columns}}}",
                    r"    \toprule",
                    rf"     & & & {spans} & & \\",
                    f"    {rules}",
                    rf"    run & AUC & accuracy & {heads} & parameters & training jets \\",
                    r"    \midrule",
                    *("    " + " & ".join(cells) + r" \\" for cells in body),
                    r"    \bottomrule",
                    r"  \end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def published_latex() -> str:
    """The published Top Landscape numbers as a ``table`` of their own."""
    block = published()
    body = []
    for model in block.models:
        pair = [
            "n/a" if value is None else rf"${value[0]:.0f} \pm {value[1]:.0f}$"
            for value in (model.rejection_30, model.rejection_50)
        ]
        rest = ["n/a" if model.auc is None else str(model.auc), short_count(model.parameters), short_count(model.jets)]
        body.append("    " + " & ".join([escape_latex(model.model), *pair, *rest, model.paper]) + r" \\")
    head = r"model & $1/\varepsilon_B$ at 0.3 & $1/\varepsilon_B$ at 0.5 & AUC & parameters & jets & paper \\"
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape_latex(block.statement)}}}",
        r"  \begin{tabular}{lrrcrrl}",
        r"    \toprule",
        f"    {head}",
        r"    \midrule",
        *body,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cells(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    value, up, down = rejection_parts(row)
    return (f"${value}^{{+{up}}}_{{-{down}}}$" if up else f"$> {value}$"), str(row.n_background_pass)


def escape_latex(text: str) -> str:
    """The text with every sign that LaTeX reads set apart."""
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))
