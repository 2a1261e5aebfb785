import json

import numpy as np
import pytest

from jettag.evaluation.plots import render
from jettag.evaluation.training_curves import draw_training

DRAWN = {
    "mpm": ["loss", "observables_loss", "token_accuracy"],
    "jetclr": ["loss", "alignment", "uniformity", "spread", "rank"],
    "both": ["loss", "masked_loss", "token_accuracy", "contrastive_loss", "alignment", "uniformity", "spread", "rank"],
    "flavour": ["loss", "jet_loss", "origin_loss", "vertex_loss", "accuracy", "origin_accuracy"],
    "tokenizer": ["loss", "reconstruction", "commitment", "identity_accuracy", "codes_used", "code_perplexity"],
}


def written(names, *, probe=True, seed=0):
    """Lines of a ``metrics.jsonl`` as the loop writes them: probe first, a batch every 5 steps, validation every 10."""
    rng = np.random.default_rng(seed)
    lines = [{"step": 0, "probe_accuracy": 0.5, "probe_auc": 0.5, "seconds": 0.1}] if probe else []
    for step in range(5, 45, 5):
        batch = dict(zip(names, rng.uniform(1, 2, len(names)), strict=True))
        lines.append({"step": step, "jets": 32 * step, "learning_rate": 1e-3 / step, **batch, "gradient_norm": 7.0})
        if step % 10 == 0:
            judged = {f"val_{name}": value for name, value in zip(names, rng.uniform(1, 2, len(names)), strict=True)}
            asked = {"probe_accuracy": 0.7, "probe_auc": 0.8 + step / 1000} if probe else {}
            lines.append({"step": step, **judged, **asked, "alarm": "words"})
    return [json.loads(json.dumps(line)) for line in lines]


def shown(figure):
    """(steps, values) of every curve, by the name it has in the file."""
    lines = {line.get_label(): line.get_data() for place in figure.axes for line in place.lines}
    found = {label.replace("validation ", "val_"): data for label, data in lines.items() if label[0] != "_"}
    rate = next(place for place in figure.axes if place.get_ylabel() == "Learning rate").lines[0].get_data()
    named = {key.replace("val_probe", "probe"): value for key, value in found.items() if "best" not in key}
    return named | {"learning_rate": rate}


def expected(records, key):
    return [(record["step"], record[key]) for record in records if key in record]


@pytest.mark.parametrize("kind", DRAWN)
def test_the_figure_shows_the_files_numbers_and_no_others(kind):
    records = written(DRAWN[kind])
    curves = shown(draw_training(records, name="run", best=20))
    wanted = set(DRAWN[kind]) | {f"val_{name}" for name in DRAWN[kind]}
    assert set(curves) == wanted | {"probe_accuracy", "probe_auc", "learning_rate"}
    for key, (step, value) in curves.items():
        assert list(zip(step, value, strict=True)) == expected(records, key), key


@pytest.mark.parametrize("kind", DRAWN)
def test_there_are_at_most_four_panels_over_one_axis(kind):
    figure = draw_training(written(DRAWN[kind]), name="run", best=20)
    panels = [place for place in figure.axes if place.get_ylabel() != "Rank"]
    assert 2 <= len(panels) <= 4
    assert len({place.get_xlim() for place in panels}) == 1
    assert panels[-1].get_xlabel() == "Step"
    assert all(place.get_ylabel() for place in figure.axes)
    assert render(figure, "png").startswith(b"\x89PNG")


def test_the_star_is_on_the_best_checkpoint():
    records = written(["loss"])
    star = next(line for line in draw_training(records, name="run", best=30).axes[0].lines if line.get_marker() == "*")
    assert [(x, y) for x, y in zip(*star.get_data(), strict=True)] == [
        pair for pair in expected(records, "val_loss") if pair[0] == 30
    ]


@pytest.mark.parametrize(
    ("losses", "scale"), [([1, 0.5, 0.2], "linear"), ([1, 0.5, 0.1], "log"), ([1, 0.0, -9], "linear")]
)
def test_the_loss_is_logarithmic_where_it_spans_decades(losses, scale):
    records = [{"step": i, "learning_rate": 1.0, "loss": loss} for i, loss in enumerate(losses)]
    assert draw_training(records, name="run").axes[0].get_yscale() == scale


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_leave_a_gap(value):
    records = [{"step": 5, "learning_rate": 1e-3, "loss": 1.0}, {"step": 10, "learning_rate": 1e-3, "loss": value}]
    for lines in (records, records[1:], [{"step": 0, "probe_auc": value, "probe_accuracy": 0.5}]):
        assert render(draw_training(lines, name="of $5$ and _"), "pdf").startswith(b"%PDF")
