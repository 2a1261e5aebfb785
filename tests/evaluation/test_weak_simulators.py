"""The picture of two simulations: every number that it shows is one of the report's."""

import numpy as np
import pytest

from jettag.evaluation.plots import render
from jettag.evaluation.weak_simulators import (
    EDGES,
    EFFICIENCIES,
    NOTHING_HEAD,
    NOTHING_TITLE,
    correction_lines,
    draw_simulators,
    nothing_lines,
    simulators_markdown,
    tagger_lines,
)

METHODS = ("none", "reweight", "ot-score", "ot-features")


def with_band(runs, name):
    low, median, high = np.quantile(runs, [0.16, 0.5, 0.84]).tolist()
    return {f"{name}_median": median, f"{name}_low": low, f"{name}_high": high}


def make_report(count, *, without=None):
    """As the command leaves it; in run ``without`` no background passes the simulation's tagger."""
    random = np.random.default_rng(count)
    taggers = {name: random.uniform(20, 90, count).tolist() for name in ("simulation", "data")}
    same = {name: random.normal(0.53, 0.01, count).tolist() for name in ("background", "signal")}
    true = {name: random.uniform(0.1, 0.6, count).tolist() for name in EFFICIENCIES if name.endswith("true")}
    rows = {
        method: true | {name: random.uniform(0.1, 0.6, count).tolist() for name in EFFICIENCIES if name not in true}
        for method in METHODS
    }
    lost = [1 - mine / own for mine, own in zip(taggers["simulation"], taggers["data"], strict=True)]
    content = {
        "features": ["tau1"],
        "varied": "jets",
        "notes": [],
        "taggers": [
            {"trained": name, **with_band(runs, "background_rejection"), **with_band(runs, "auc")}
            | with_band(lost if name == "simulation" else [0.0], "lost")
            for name, runs in taggers.items()
        ],
        "same": [
            {"class": name, "two_sample_sigma_median": 0.01, **with_band(runs, "two_sample_auc")}
            for name, runs in same.items()
        ],
        "rows": [
            {"method": method, **with_band([0.2], "distance"), **with_band([1.0], "effective_share")}
            | {"distance_floor_median": 0.1}
            | {key: value for name, runs in found.items() for key, value in with_band(runs, name).items()}
            for method, found in rows.items()
        ],
    }
    excess = {method: random.normal(0, 1, count).tolist() for method in METHODS}
    label_free = random.normal(0.5, 0.02, count).tolist()
    kinds = "distance", "effective_share", *EFFICIENCIES[:2]
    content["no_signal"] = {
        "signal_kept": 0.9,
        "taggers": [
            {"trained": "parts of the background", "auc_sigma_median": 0.02}
            | {**with_band(label_free, "auc"), **with_band([2.0], "background_rejection")}
        ],
        "rows": [
            {"method": method, "distance_floor_median": 0.1, **with_band(runs, "excess_sigma")}
            | {key: value for kind in kinds for key, value in with_band([0.2], kind).items()}
            for method, runs in excess.items()
        ],
    }
    if without is not None:
        taggers["simulation"][without] = None
        content["taggers"][0] |= {f"{name}_{edge}": None for name in ("background_rejection", "lost") for edge in EDGES}
    content["runs"] = [
        {
            "taggers": [{"trained": name, "background_rejection": runs[i]} for name, runs in taggers.items()],
            "same": [{"class": name, "two_sample_auc": runs[i]} for name, runs in same.items()],
            "rows": [{"method": name, **{key: runs[i] for key, runs in found.items()}} for name, found in rows.items()],
            "no_signal": {
                "taggers": [{"auc": label_free[i]}],
                "rows": [{"excess_sigma": runs[i]} for runs in excess.values()],
            },
        }
        for i in range(count)
    ]
    return content


def heights(place):
    """Every height that a line of the panel goes through, rounded."""
    return {round(float(y), 9) for line in place.lines for y in np.atleast_1d(line.get_ydata())}


@pytest.mark.parametrize("count", [1, 2, 10])
def test_every_method_stands_at_its_median_with_its_runs(count, recwarn):
    content = make_report(count)
    figure = draw_simulators(content)
    same, taggers, label_free, *efficiencies, excess = figure.axes
    for place, kind in zip(efficiencies, ("background", "signal"), strict=True):
        assert [text.get_text() for text in place.get_xticklabels()] == list(METHODS)
        drawn = heights(place)
        for x, row in enumerate(content["rows"]):
            point = next(c for c in place.containers if c.lines[0].get_xdata()[0] == x).lines[0]
            assert point.get_ydata()[0] == row[f"{kind}_efficiency_said_median"]
            runs = [run["rows"][x][f"{kind}_efficiency_said"] for run in content["runs"]]
            assert {round(value, 9) for value in runs} <= drawn
        assert round(content["rows"][0][f"{kind}_efficiency_true_median"], 9) in drawn
    assert {round(row["two_sample_auc_median"], 9) for row in content["same"]} | {0.5} <= heights(same)
    assert {round(row["background_rejection_median"], 9) for row in content["taggers"]} <= heights(taggers)
    nothing = content["no_signal"]
    assert {round(nothing["taggers"][0]["auc_median"], 9), 0.5} <= heights(label_free)
    assert {round(row["excess_sigma_median"], 9) for row in nothing["rows"]} | {0.0} <= heights(excess)
    drawn = heights(label_free) | heights(excess)
    assert {round(run["no_signal"]["rows"][1]["excess_sigma"], 9) for run in content["runs"]} <= drawn
    assert {round(run["no_signal"]["taggers"][0]["auc"], 9) for run in content["runs"]} <= drawn
    lost = f"{100 * content['taggers'][0]['lost_median']:.0f} %"
    assert any(lost in text.get_text() for text in taggers.texts)
    assert render(figure, "png").startswith(b"\x89PNG")
    assert render(figure, "pdf").startswith(b"%PDF")
    assert not recwarn.list


def test_a_run_in_which_no_background_passes_is_an_arrow():
    content = make_report(3, without=1)
    taggers = draw_simulators(content).axes[1]
    assert [line.get_xdata()[0] for line in taggers.lines if line.get_marker() == "^"] == [1.0]
    assert any("no background passes" in text.get_text() for text in taggers.texts)
    cells = {line[0]: line[1:] for line in tagger_lines(content)}
    assert cells["rejection at 0.5, trained in the simulation"] == ["n/a"] * 3


def test_small_background_efficiencies_keep_two_digits():
    row = make_report(1)["rows"][0]
    row |= dict.fromkeys([f"background_efficiency_said_{edge}" for edge in EDGES], 0.000123)
    assert correction_lines({"rows": [row]})[0][4] == "0.012 (0.012 to 0.012)"


def test_what_is_found_without_signal_stands_apart():
    content = make_report(3)
    cells = nothing_lines(content)
    assert [line[0] for line in cells] == list(METHODS)
    assert {len(line) for line in cells} == {len(NOTHING_HEAD)}
    row = content["no_signal"]["rows"][1]
    assert cells[1][-1] == "{:.1f} ({:.1f} to {:.1f})".format(*(row[f"excess_sigma_{edge}"] for edge in EDGES))
    assert {line[0]: line[1] for line in tagger_lines(content)}["no signal: rejection at 0.5 (2)"] == "2.00"
    written = simulators_markdown(content)
    assert written.index(f"{NOTHING_TITLE}:") < written.index("excess [σ]")
    assert "keeps 90% of the simulation's signal" in written
