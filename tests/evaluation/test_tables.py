import re

import pytest

from jettag.evaluation.blocks import blocks, rejection_parts, short_count
from jettag.evaluation.published import published
from jettag.evaluation.rows import Row, make_rows
from jettag.evaluation.tables import published_block, published_latex, to_latex, to_markdown

NASTY = r"a_b&c%d$e#f{g}h~i^j\k<l>m|n*o`p"


def changed(row, **values):
    return Row(**{**vars(row), **values})


@pytest.fixture
def row(make_scores):
    return make_rows(make_scores(parameters=2_140_000, n_train=20_000))[0]


def unescape_latex(text):
    words = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<", "textgreater": ">"}
    words["textbar"] = "|"
    return re.sub(r"\\(text\w+){}|\\([&%$#_{}])", lambda m: words[m[1]] if m[1] else m[2], text)


def test_latex_escapes_names(row):
    text = to_latex([changed(row, run=NASTY)])
    line = text.split(r"\midrule")[1].strip().splitlines()[0]
    cell = line.split(" & ")[0].strip()
    assert unescape_latex(cell) == NASTY
    # What is left when the escapes are taken out holds no character that TeX would act on.
    assert not re.search(r"[&%$#_{}~^\\]", re.sub(r"\\text\w+{}|\\[&%$#_{}]", "", cell))


def test_latex_is_balanced_booktabs(row):
    text = to_latex([row, changed(row, signal_efficiency=0.5)]) + published_latex()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 2
    stripped = re.sub(r"\\[{}]", "", text)
    assert stripped.count("{") == stripped.count("}")
    for tabular in re.findall(r"\\begin{tabular}{(\w+)}(.*?)\\end{tabular}", text, re.DOTALL):
        body = tabular[1].split(r"\midrule")[1].split(r"\bottomrule")[0]
        assert {line.count("&") + 1 for line in body.splitlines() if "&" in line} == {len(tabular[0])}


def test_markdown_has_as_many_cells_in_every_line(row):
    text = to_markdown([changed(row, run=NASTY), changed(row, signal_efficiency=0.5)]) + published_block()
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_tables_carry_counts_rule_interval_and_remarks(row):
    for text in (to_markdown([row], notes=["take care"]), to_latex([row], notes=["take care"])):
        assert "take care" in text
        assert "quantile" in text
        assert "Clopper-Pearson" in text
        assert str(row.n_background) in text.replace(" ", "")
        assert str(row.n_background_pass) in text
        assert "2.14M" in text
        assert "20k" in text
        assert "Top Landscape" not in text
    limit = changed(row, background_rejection=None, background_rejection_high=None, background_rejection_low=5464.2)
    assert r"\> 5400" in to_markdown([limit])
    assert "$> 5400$" in to_latex([limit])
    assert "84%" in to_markdown([limit])


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (172.41, 164.2, 181.3, ("172.4", "8.9", "8.2")),
        (4004.0, 1218.0, 22965.0, ("4000", "19000", "2800")),
        (1.0, 1.0, 1.2012, ("1.00", "0.20", "0.00")),
        (None, 9.79, None, ("9.7", "", "")),
        (None, 5463.9, None, ("5400", "", "")),
        (None, 1.19, None, ("1.1", "", "")),
    ],
)
def test_rounding_follows_the_interval_and_a_limit_is_never_rounded_up(row, value, low, high, expected):
    edges = {"background_rejection_low": low, "background_rejection_high": high}
    assert rejection_parts(changed(row, background_rejection=value, **edges)) == expected


def test_runs_stand_side_by_side_only_on_the_same_jets(row):
    rows = [row, changed(row, signal_efficiency=0.5), changed(row, run="b"), changed(row, run="c", n_background=5)]
    first, second = blocks(rows)
    assert [line.run for line in first.lines] == ["run", "b"]
    assert first.efficiencies == (0.3, 0.5)
    assert first.lines[1].cells[1] is None
    assert [line.run for line in second.lines] == ["c"]


def test_several_seeds_get_a_line_of_their_own(make_scores):
    rows = [row for seed in range(3) for row in make_rows(make_scores(f"top-seed{seed}", seed=seed))]
    text = to_markdown(rows)
    assert "### Over seeds" in text
    assert "| top | Tbqq against QCD | 0.3 | 3 |" in text
    assert "Over seeds" not in to_markdown(rows[:2])


@pytest.mark.parametrize(
    ("value", "expected"), [(None, ""), (7, "7"), (1200, "1.2k"), (2_140_000, "2.14M"), (1_058_000_000, "1.06G")]
)
def test_short_count(value, expected):
    assert short_count(value) == expected


def test_published_numbers_say_whose_they_are_and_cite():
    block = published()
    assert block.test_set == "Top Landscape"
    for text in (published_block(), published_latex()):
        head = text.split("OmniLearned")[0]
        assert "no comparison" in head
        assert "1902.09914" in head
        assert "2512.17011" in head
        for model in block.models:
            assert model.paper in text
    part = next(model for model in block.models if model.model == "ParT")
    assert (part.rejection_30, part.rejection_50, part.auc) == ((1602, 81), (413, 16), 0.9858)


def test_published_numbers_are_in_order():
    for model in published().models:
        # A higher signal efficiency lets more background through.
        assert model.rejection_30 is not None
        assert model.rejection_50 is None or model.rejection_30[0] > model.rejection_50[0]
