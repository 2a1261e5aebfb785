import copy

import matplotlib
import numpy as np
import pytest

from jettag.evaluation import plots
from jettag.evaluation.metrics import background_rejection
from jettag.evaluation.scores import Pair, Scores, choose_pairs

PAIR = Pair("Tbqq", ("QCD",))


def test_the_users_matplotlib_stays_as_it_is(make_scores, tmp_path):
    before = copy.deepcopy(dict(matplotlib.rcParams))
    figure = plots.draw_roc([make_scores()], [PAIR])
    plots.save(figure, tmp_path / "roc")
    plots.save(plots.draw_scores([make_scores()], [PAIR]), tmp_path / "scores")
    assert dict(matplotlib.rcParams) == before
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


def test_files_are_png_and_pdf_and_the_same_every_time(make_scores, tmp_path):
    figure = plots.draw_roc([make_scores()], [PAIR])
    paths = plots.save(figure, tmp_path / "roc")
    assert [path.name for path in paths] == ["roc.png", "roc.pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")
    again = plots.draw_roc([make_scores()], [PAIR])
    for path in paths:
        assert plots.render(again, path.suffix[1:]) == path.read_bytes()


def test_the_curve_shows_the_tables_numbers(make_scores):
    scores = make_scores()
    axes = plots.draw_roc([scores], [PAIR]).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "run")
    signal, background = scores.split(PAIR)
    for x, y in list(zip(*line.get_data(), strict=True))[::50]:
        value = background_rejection(signal, background, x).value
        assert y == pytest.approx(np.nan if value is None else value, nan_ok=True)
    assert axes.get_yscale() == "log"
    assert "Simulation" in [text.get_text() for text in axes.texts]


def test_several_runs_have_a_ratio_panel_that_is_one_for_the_first(make_scores):
    figure = plots.draw_roc([make_scores("a"), make_scores("b", seed=1)], [PAIR])
    assert len(figure.axes) == 2
    ratio = figure.axes[1].lines[0].get_ydata()
    assert np.all(ratio[np.isfinite(ratio)] == 1)


def test_histograms_are_normalised(make_scores):
    axes = plots.draw_scores([make_scores(separation=0.5)], [PAIR]).axes[0]
    for patch in axes.patches:
        data = patch.get_data()
        assert np.nansum(data.values * np.diff(data.edges)) == pytest.approx(1)
    assert len(axes.patches) == 2


@pytest.mark.parametrize("separation", [0.0, 60.0])
@pytest.mark.parametrize("jets", [4, 500])
def test_extreme_samples_are_drawn(make_scores, separation, jets, recwarn):
    flat = Scores("flat", ("QCD", "Tbqq"), np.full((jets, 2), 0.5), np.arange(jets) % 2)
    table = make_scores("r", separation=separation, jets=jets)
    runs = [Scores("r", table.class_names, table.probabilities, np.arange(jets) % 2), flat]
    for figure in (plots.draw_roc(runs, [PAIR]), plots.draw_scores(runs, [PAIR])):
        plots.render(figure, "png")
    low, high = plots.draw_roc(runs, [PAIR]).axes[0].get_ylim()
    assert low == 1 < high
    assert not [str(warning.message) for warning in recwarn if "jettag" in str(warning.filename)]


def test_names_with_dollars_and_many_runs_and_pairs_are_drawn(make_scores):
    names = ("QCD", "Tbqq", "W_{qq}$")
    runs = [make_scores(f"run $x_{i} with a very long name indeed, number {i}", class_names=names) for i in range(5)]
    pairs = choose_pairs(runs[0])
    assert len(pairs) == 2
    for figure in (plots.draw_roc(runs, pairs), plots.draw_scores(runs, pairs)):
        assert plots.render(figure, "pdf")
