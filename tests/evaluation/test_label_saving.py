import math

import pytest

from jettag.evaluation.label_curves import draw_label_curves
from jettag.evaluation.label_report import HEAD, lines, write_scan
from jettag.evaluation.label_saving import ScanPoint, label_savings, labels_needed, scan_json
from jettag.evaluation.rows import Row

# Rejection grows as the square root of the labels: four times the labels for twice the rejection.
CURVE = [(n, 3.0 * math.sqrt(n)) for n in (100, 1000, 10000)]
SEEDS = (0.9, 1.0, 1.2)  # each seed's rejection, relative to the median


@pytest.mark.parametrize("labels", [100, 150, 1000, 4321, 10000])
def test_the_labels_of_a_power_law_are_found_between_its_points(labels):
    needed, bound = labels_needed(CURVE, 3.0 * math.sqrt(labels))
    assert needed == pytest.approx(labels)
    assert bound == ""


def test_beyond_the_curve_there_are_only_bounds():
    assert labels_needed(CURVE, 1e6) == (10000.0, ">")
    assert labels_needed(CURVE, 1.0) == (100.0, "<")


def point(mode, labels, seed, rejection):
    """A trained point; no background jet passes where the rejection is infinite, and its limit is 5000."""
    passes = math.isfinite(rejection)
    row = Row(
        f"{mode}-{labels}-seed{seed}", "Tbqq", "QCD", 9000, 9000, 0.9, 0.8, 0.3,
        rejection if passes else None, 0.9 * rejection if passes else 5000.0, 1.1 * rejection if passes else None,
        9 if passes else 0, 0.5, seed, 7, labels,
    )  # fmt: skip
    return ScanPoint(mode, row, labels // 4, 500, 60.0)


def points(modes, seeds=SEEDS):
    """``modes``: name to a function of the number of labels that gives the median rejection."""
    return [
        point(mode, n, seed, factor * rejection(n))
        for mode, rejection in modes.items()
        for n, _ in CURVE
        for seed, factor in enumerate(seeds)
    ]


def scratch(labels):
    return 3.0 * math.sqrt(labels)


def test_a_mode_of_twice_the_rejection_saves_four_times_the_labels_until_scratch_ends():
    found = label_savings(points({"scratch": scratch, "full": lambda n: 2 * scratch(n)}))
    assert [item.n_train for item in found] == [100, 1000, 10000]
    for item in found:
        assert item.rejection_ratio == pytest.approx(2)
        assert item.rejection_ratio_low < 2 < item.rejection_ratio_high
        # Medians of seeds lie between the seeds' own, so their ratio and its square between those of the extremes.
        assert item.rejection_ratio_low >= 2 * 0.9 / 1.2
        assert item.rejection_ratio_high <= 2 * 1.2 / 0.9
    for item in found[:2]:
        assert (item.label_saving, item.bound) == (pytest.approx(4), "")
        assert 4 * (0.9 / 1.2) ** 2 <= item.label_saving_low < 4 < item.label_saving_high
    # Scratch never reaches the last: all its labels are a lower bound.
    assert (found[2].n_scratch, found[2].label_saving, found[2].bound) == (10000.0, 1.0, ">")
    assert found[2].label_saving_high is None


def test_a_mode_below_scratch_everywhere_has_an_upper_bound_and_no_band():
    for item in label_savings(points({"scratch": scratch, "probe": lambda n: 2.0})):
        assert (item.n_scratch, item.bound) == (100.0, "<")
        assert item.label_saving == pytest.approx(100 / item.n_train)
        assert (item.label_saving_low, item.label_saving_high) == (None, None)


def test_a_rejection_of_which_only_a_limit_is_known_gives_a_lower_bound():
    found = label_savings(points({"scratch": scratch, "full": lambda n: math.inf}))
    assert all((item.bound, item.n_scratch, item.rejection_ratio) == (">", 10000.0, None) for item in found)
    beyond = label_savings(points({"scratch": lambda n: math.inf, "full": scratch}))
    assert all((item.bound, item.n_scratch) == ("<", 100.0) for item in beyond)


def test_one_seed_has_no_band_and_without_scratch_nothing_is_claimed():
    modes = {"scratch": scratch, "full": lambda n: 2 * scratch(n)}
    for item in label_savings(points(modes, seeds=(1.0,))):
        assert (item.label_saving_low, item.rejection_ratio_high) == (None, None)
    assert label_savings(points({"full": scratch})) == []


def test_the_table_says_what_is_a_bound(tmp_path):
    modes = {
        "scratch": scratch, "full": lambda n: 2 * scratch(n), "probe": lambda n: 2.0, "lora": lambda n: math.inf,
    }  # fmt: skip
    content = write_scan(tmp_path, points(modes))
    ((title, body),) = lines(content).items()
    assert title == "Tbqq against QCD at 30 % signal"
    saving = {(row[0], row[1]): row[HEAD.index("label saving")] for row in body}
    assert saving["scratch", "1k"] == ""
    assert saving["full", "1k"].startswith("4.00 (")
    assert saving["full", "10k"].startswith("at least 1.00")
    assert saving["probe", "10k"] == "at most 0.0100"
    assert saving["lora", "100"] == "at least 100"
    assert {path.name for path in tmp_path.iterdir()} == {
        "scan.json", "table.md", "table.tex", "label_efficiency.png", "label_efficiency.pdf",
    }  # fmt: skip


def test_the_figure_shows_medians_factors_and_bounds_as_arrow_heads():
    modes = {"scratch": scratch, "full": lambda n: 2 * scratch(n), "probe": lambda n: 2.0}
    upper, middle, lower = draw_label_curves(scan_json(points(modes))).axes
    curves = [line for line in upper.lines if len(line.get_xdata()) == 3 and line.get_linestyle() == "-"]
    assert list(curves[0].get_ydata()) == pytest.approx([value for _, value in CURVE])
    assert list(curves[1].get_ydata()) == pytest.approx([2 * value for _, value in CURVE])
    ratio = next(line for line in middle.lines if len(line.get_xdata()) == 3)
    assert list(ratio.get_ydata()) == pytest.approx([2, 2, 2])
    marks = {(float(m.get_xdata()[0]), m.get_marker()): m.get_ydata()[0] for m in lower.lines if m.get_marker() in "^v"}
    assert marks[10000.0, "^"] == 1.0
    assert {key[0] for key in marks if key[1] == "v"} == {100.0, 1000.0, 10000.0}
    legend = upper.get_legend_handles_labels()[1]
    assert legend == ["scratch", "full", "probe", "lower limit", "upper limit"]


def test_without_scratch_there_is_nothing_to_compare_with():
    assert len(draw_label_curves(scan_json(points({"full": scratch, "probe": scratch}))).axes) == 1
