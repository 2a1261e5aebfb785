"""What weak studies, hunts, decorrelations and outliers leave in their folders: tables, and the files of a study."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jettag.config.files import write_atomically
from jettag.errors import ResourceError
from jettag.evaluation.plots import render
from jettag.evaluation.tables import escape_markdown, markdown
from jettag.evaluation.weak_figures import draw_max_sic, draw_sic

__all__ = [
    "DECORRELATION_HEAD",
    "HEAD",
    "IMPROVEMENT_TITLE",
    "NO_SIGNAL",
    "OUTLIER_HEAD",
    "band_cell",
    "decorrelation_lines",
    "decorrelation_markdown",
    "decorrelation_statement",
    "heads",
    "hunt_heads",
    "hunt_lines",
    "hunt_markdown",
    "hunt_statement",
    "improvement_heads",
    "improvement_lines",
    "lines",
    "outlier_lines",
    "outlier_markdown",
    "outlier_statement",
    "percent",
    "remarks",
    "write_study",
]

HEAD = ("method", "row", "signal", "runs", "max SIC", "SIC at 1e-2", "SIC at 1e-3", "AUC", "ARGOS")
SHOWN = ("max_sic", "sic_1e-2", "sic_1e-3", "auc", "argos")
IMPROVEMENT_TITLE = "Total improvement over the signals"
ALL = "all"  # the fraction of a method that does not mix
NO_SIGNAL = "no signal"  # background that plays it: a signal of outliers, a method of decorrelations


SCULPTING = (
    ("chi2_per_ndof", "chi2/ndof"),
    ("jsd_nats", "JSD [nats]"),
    ("s_over_b", "S/B in region"),
    ("template_auc", "template AUC"),
    ("template_fpd", "FPD"),
    ("template_kpd", "KPD"),
)


def heads(content: Mapping[str, Any]) -> tuple[str, ...]:
    """`HEAD`, and of a resonance study what a cut does to the mass spectrum."""
    return HEAD + (tuple(head for _, head in SCULPTING) if "chi2_per_ndof_median" in content["rows"][0] else ())


def lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `heads`, from the object of `weak --json`."""
    more = len(heads(content)) > len(HEAD)
    return [
        [
            row["method"],
            row["row"],
            percent(row["fraction"]),
            str(row["n_runs"]),
            *(band_cell(row, key) for key in SHOWN),
            *(_shape(row) if more else ()),
        ]
        for row in content["rows"]
    ]


def _shape(row: Mapping[str, Any]) -> list[str]:
    purity = f"{100 * row['s_over_b_median']:.2g} %"
    closure = row.get("template_auc_median")
    template = ["" if closure is None else f"{closure:.3f}"]
    for name in ("template_fpd", "template_kpd"):
        distance = row.get(f"{name}_median")
        template.append("" if distance is None else f"{distance:.2g}")
    if row["chi2_per_ndof_median"] is None:  # too few test events
        return ["n/a", "n/a", purity, *template]
    divergence = f"{row['jsd_nats_median']:.2g} (random {row['jsd_floor_nats_median']:.2g})"
    return [f"{row['chi2_per_ndof_median']:.2f}", divergence, purity, *template]


def percent(fraction: float | None) -> str:
    """A signal fraction as tables have it."""
    return ALL if fraction is None else f"{100 * fraction:.4g} %"


def band_cell(row: Mapping[str, Any], key: str) -> str:
    """The median of a measure of a row with its band, or n/a."""
    median, low, high = (row[f"{key}_{edge}"] for edge in ("median", "low", "high"))
    digits = 3 if key in ("auc", "argos") else 2
    return "n/a" if median is None else f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def remarks(content: Mapping[str, Any]) -> list[str]:
    """What varied between runs, methods of which the same varied together, and the notes."""
    methods: dict[str, list[str]] = {}
    for row in content["rows"]:
        known = methods.setdefault(row["varied"], [])
        if row["method"] not in known:
            known.append(row["method"])
    said = [f"{', '.join(names)}: between runs varied {varied}" for varied, names in methods.items()]
    return [*said, *_effective(content), *content["notes"]]


def _effective(content: Mapping[str, Any]) -> list[str]:
    """How many of reweighted events count, in one line where it is the same at several fractions."""
    fractions: dict[tuple[str, str, str], list[str]] = {}
    for row in content["rows"]:
        if row.get("effective_share_median") is not None:
            key = row["method"], row["row"], band_cell(row, "effective_share")
            fractions.setdefault(key, []).append(percent(row["fraction"]))
    return [
        f"{method} by {name}, {', '.join(signal)} signal: the effective sample size of the weighted events is {share} "
        "of all"
        for (method, name, share), signal in fractions.items()
    ]


def write_study(out: Path, content: Mapping[str, Any]) -> None:
    """Write the files, each whole or not at all.

    Raises:
        ResourceError: the folder cannot be written.
    """
    cells = [[escape_markdown(cell) for cell in line] for line in lines(content)]
    notes = "\n".join(f"- {escape_markdown(note)}" for note in remarks(content))
    files: dict[str, bytes | str] = {
        "weak.json": json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "table.md": "\n\n".join(
            [
                markdown(list(heads(content)), cells),
                *_improvement_markdown(content),
                escape_markdown(content["statement"]),
                notes,
            ]
        )
        + "\n",
    }
    for name, figure in (("max_sic", draw_max_sic(content["rows"])), ("sic", draw_sic(content))):
        files |= {f"{name}.{kind}": render(figure, kind) for kind in ("png", "pdf")}
    try:
        for name, text in files.items():
            write_atomically(out / name, text)
    except OSError as problem:
        what = f"cannot write the tables ({problem.strerror or problem})"
        raise ResourceError(what, where=out, do="free the disk and run the command again") from None


HUNT_HEAD = ("signal", "S/B in region", "region [GeV]", "cut", "observed", "expected", "local p", "global p")
HUNT_JUDGED = ("max SIC", "AUC")


def hunt_heads(content: Mapping[str, Any]) -> tuple[str, ...]:
    """`HUNT_HEAD`, and where labelled events judge what they say."""
    return HUNT_HEAD + (HUNT_JUDGED if _is_judged(content) else ())


def _is_judged(content: Mapping[str, Any]) -> bool:
    return any(row["auc_median"] is not None for row in content["rows"])


def hunt_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `hunt_heads`, from the object of `weak hunt --json`: medians over runs with their bands."""

    def cell(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
        if row[f"{name}_median"] is None:
            return "n/a"
        median, low, high = (f"{row[f'{name}_{edge}']:.{digits}g}" for edge in ("median", "low", "high"))
        return f"{median} ({low} to {high})" if row["n_runs"] > 1 else median

    return [
        [
            "data" if row["fraction"] is None else percent(row["fraction"]),
            "n/a" if row["s_over_b"] is None else f"{100 * row['s_over_b']:.2g} %",
            f"{row['window'][0]:.0f} to {row['window'][1]:.0f}",
            f"{row['efficiency']:.3g}",
            cell(row, "observed", 5),
            cell(row, "expected", 5),
            cell(row, "p_value", 2),
            cell(row, "global_p_value", 2),
            *([cell(row, "max_sic"), cell(row, "auc")] if _is_judged(content) else []),
        ]
        for row in content["rows"]
    ]


def hunt_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of a hunt are."""
    judged = "Max SIC and AUC: of --test in the region, by all its classifiers. " if _is_judged(content) else ""
    return (
        f"{_hunt_runs(content)} Cut: share of side-band events that pass; thresholds come from other folds than the "
        "events they cut. Expected: the dijet function fitted outside the region. Local p: binomial, with the error of "
        "the fit. Global p: BumpHunter's, (toys as odd + 1) / (toys + 1), for this cut and all regions together. "
        f"{judged}Between runs varied: {content['varied']}."
    )


def _hunt_runs(content: Mapping[str, Any]) -> str:
    count = content["rows"][0]["n_runs"]
    return f"Medians over {count} runs with their 16-84 % bands." if count > 1 else "One run."


def hunt_markdown(content: Mapping[str, Any]) -> str:
    """The table of a hunt with its statement."""
    cells = [[escape_markdown(cell) for cell in line] for line in hunt_lines(content)]
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    parts = [markdown(list(hunt_heads(content)), cells), escape_markdown(hunt_statement(content)), *notes]
    return "\n\n".join(parts) + "\n"


DECORRELATION_HEAD = (
    "method",
    "runs",
    "rejection at 0.5",
    "1/JSD [1/nats]",
    "JSD of random cuts [nats]",
    "chi2/ndof",
    "deviation",
    "AUC",
)


def decorrelation_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `DECORRELATION_HEAD`, from the object of `weak decorrelate --json`."""

    def cell(row: Mapping[str, Any], name: str, digits: int = 3) -> str:
        values = [row[f"{name}_{edge}"] for edge in ("median", "low", "high")]
        if values[0] is None:
            return "n/a"
        median, low, high = (f"{value:.{digits}g}" for value in values)
        return f"{median} ({low} to {high})"

    names = ("background_rejection", "inverse_jsd", "jsd_floor_nats", "chi2_per_ndof", "largest_deviation", "auc")
    return [[row["method"], str(row["n_runs"]), *(cell(row, name) for name in names)] for row in content["rows"]]


def decorrelation_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of a decorrelation are."""
    return (
        "Medians over runs with their 16-84 % bands. Background that passes at "
        f"{content['signal_efficiency']:.0%} signal efficiency against background that fails, in {content['column']}: "
        "Jensen-Shannon divergence in nats, and that of random cuts. Deviation: largest |eps_B(m) / eps_B - 1| over "
        "ten bins. The maps are fitted on background that "
        f"neither trains nor judges. Row {NO_SIGNAL}: the tagger trained and judged on two parts of the background, "
        "which must reject half and may, as a random function of its features, follow the mass. "
        f"Between runs varied: {content['varied']}."
    )


def decorrelation_markdown(content: Mapping[str, Any]) -> str:
    """The table with its statement and notes."""
    cells = [[escape_markdown(cell) for cell in line] for line in decorrelation_lines(content)]
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    parts = [markdown(list(DECORRELATION_HEAD), cells), escape_markdown(decorrelation_statement(content)), *notes]
    return "\n\n".join(parts) + "\n"


OUTLIER_HEAD = ("method", "input", "signal", "max SIC", "SIC at 1e-2", "AUC")


def outlier_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `OUTLIER_HEAD`, from the object of `weak outliers --json`."""
    names = ("max_sic", "sic_1e-2", "auc")
    return [
        [row["method"], row["row"], row["signal"], *(band_cell(row, key) for key in names)] for row in content["rows"]
    ]


def improvement_heads(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the total improvement; with the signal's fraction where a study has one."""
    mixed = any("fraction" in row for row in content["improvement"])
    return "method", "row" if mixed else "input", *(("signal",) if mixed else ()), "smallest", "median", "largest"


def improvement_lines(content: Mapping[str, Any]) -> list[list[str]]:
    """The cells of `improvement_heads`."""
    return [
        [
            row["method"],
            row["row"],
            *([percent(row["fraction"])] if "fraction" in row else []),
            *(band_cell(row, key) for key in ("min", "median", "max")),
        ]
        for row in content["improvement"]
    ]


def _improvement_markdown(content: Mapping[str, Any]) -> list[str]:
    """The table of the total improvement under its title; nothing where there is one signal."""
    cells = [[escape_markdown(cell) for cell in line] for line in improvement_lines(content)]
    return [IMPROVEMENT_TITLE, markdown(list(improvement_heads(content)), cells)] if cells else []


def outlier_statement(content: Mapping[str, Any]) -> str:
    """What the numbers of outliers are."""
    return (
        f"Medians over runs with their 16-84 % bands; {content['background']} alone was fitted, "
        f"{content['n_background']} jets in each run. Maximum SIC with at least 25 background jets kept; that of a "
        "random score is a little above 1. Total improvement (arXiv:2105.14027): the best SIC of each signal at "
        "background efficiencies 1e-2, 1e-3 and 1e-4, of which the smallest, median and largest over signals are "
        f"given. Row {NO_SIGNAL}: background that was not fitted plays it, and must look like nothing. "
        f"Between runs varied: {content['varied']}."
    )


def outlier_markdown(content: Mapping[str, Any]) -> str:
    """Both tables with the statement and notes."""
    cells = [[escape_markdown(cell) for cell in line] for line in outlier_lines(content)]
    notes = [f"- {escape_markdown(note)}" for note in content["notes"]]
    parts = [markdown(list(OUTLIER_HEAD), cells), *_improvement_markdown(content)]
    return "\n\n".join([*parts, escape_markdown(outlier_statement(content)), *notes]) + "\n"
