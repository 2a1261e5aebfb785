"""jettag weak hunt: p-values with and without signal, for data without labels, and one line for what cannot be."""

import io

import numpy as np
import pandas as pd
import pytest
from jettag_cli.weak_table import print_hunt
from rich.console import Console

from jettag.data.lhco import HIGH_LEVEL

from .conftest import write_root

BAND = ("median", "low", "high")
REGION = ["--window", "3300:3700", "--folds", 3, "--efficiency", "0.02"]


def write_events(folder, seed, background, signal):
    """A falling spectrum and a resonance, in files that have no label and no constituent."""
    random = np.random.default_rng(seed)
    for name, count, mass, shift in (
        ("background", background, 2000 + random.exponential(800, background), 0.0),
        ("signal", signal, random.normal(3500, 50, signal), 2.0),
    ):
        columns = {key: random.normal(shift, 1, count) for key in ("m_j1", "delta_m_j", "tau21_j1", "tau21_j2")}
        write_root(folder / f"{name}.root", {"m_jj": mass, **columns})
    return folder


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return write_events(tmp_path_factory.mktemp("hunt"), 0, 6000, 500)


def test_a_study_has_a_run_without_signal_and_finds_the_one_with(events, call_json, tmp_path):
    words = ["--background", events / "background.root", "--signal", events / "signal.root"]
    more = ["--runs", 2, "--out", tmp_path / "hunt"]
    found = call_json("weak", "hunt", *words, "--fraction", 0.03, *REGION, *more)
    none, some = found["rows"]
    assert some["n_runs"] == 2
    assert found["notes"] == ["2 runs: a band wants at least 10"]
    assert (none["fraction"], some["fraction"]) == (0.0, 0.03)
    assert none["s_over_b"] == 0
    assert some["s_over_b"] > 0.1
    assert none["p_value_median"] > 1e-3
    assert some["p_value_median"] < 1e-4
    assert some["global_p_value_median"] < 0.05
    assert (tmp_path / "hunt" / "p_values.png").stat().st_size > 1000
    table = (tmp_path / "hunt" / "table.md").read_text()
    assert "local p" in table
    assert f"{some['p_value_median']:.2g} ({some['p_value_low']:.2g} to {some['p_value_high']:.2g})" in table
    assert "Between runs varied: signal draw" in table


def test_ten_runs_where_signal_is_put_in_and_one_of_data(events, jettag, monkeypatch):
    asked = []

    def hunt_study(study, *_, **__):
        asked.append(study.runs)
        return {"schema": 1}

    monkeypatch.setattr("jettag.run.hunt_study", hunt_study)
    words = ["--background", events / "background.root", "--signal", events / "signal.root", "--fraction", 0.03]
    for more in (words, [*words, "--runs", 3], ["--data", events / "background.root"]):
        assert jettag("weak", "hunt", *more, "--json")[0] == 0
    assert asked == [10, 3, 1]


def test_labelled_events_judge_what_the_hunt_learnt(events, call_json, jettag, tmp_path):
    judges = [f"{name}:{tmp_path / name}.root" for name in ("background", "signal")]
    write_events(tmp_path, 1, 3000, 300)
    words = ["--background", events / "background.root", "--signal", events / "signal.root"]
    found = call_json(
        *("weak", "hunt", *words, "--test", *judges, "--fraction", "3%", *REGION, "--runs", 1),
        *("--out", tmp_path / "hunt"),
    )
    none, some = found["rows"]
    assert some["auc_median"] > 0.9 > none["auc_median"]
    assert some["max_sic_low"] == some["max_sic_median"] > 2
    assert "max SIC" in (tmp_path / "hunt" / "table.md").read_text()
    code, _, err = jettag("weak", "hunt", "--data", events / "background.root", "--test", *judges, *REGION)
    assert code == 2
    assert "instead of --data" in err


def test_unlabelled_data_slides(events, call_json, jettag):
    more = ["--bins", 9, "--folds", 3, "--efficiency", "0.1", "--features", "m_j1,tau21_j1"]
    found = call_json("weak", "hunt", "--data", events / "background.root", *more)
    assert len(found["rows"]) == 3
    assert {row["s_over_b"] for row in found["rows"]} == {None}
    assert len({row["global_p_value_median"] for row in found["rows"]}) == 1


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--window", "3700:3300"], 2, "is empty"),
        (["--window", "3300:3700", "--sideband", "0"], 2, "overlap the signal region"),
        (["--window", "8000:8500", "--range", "2000:9000"], 4, "at least 50"),
        (["--window", "3300:3700", "--features", "m_jj"], 2, "stands in --features"),
        (["--window", "3300:3700", "--folds", "2"], 4, "cannot be nested"),
        (["--window", "3300:3700", "--mass", "tau21_j3"], 3, "tau21_j2"),
        (["--window", "3300:3700", "--fraction", "1"], 2, "signal fraction"),
        (["--sideband", "100"], 2, "belongs to --window"),
        (["--bins", "7", "--range", "20000:50000"], 4, "no event with m_jj"),
    ],
)
def test_bad_input_is_one_line(events, jettag, more, code, said):
    found, out, err = jettag("weak", "hunt", "--data", events / "background.root", *more)
    assert (found, out) == (code, ""), err
    assert said in err.rstrip().splitlines()[-1]


def test_the_table_fits_a_terminal():
    row = {"fraction": 0.05, "s_over_b": 0.26, "window": [3300, 3700], "efficiency": 0.05, "n_runs": 10}
    for name, value in (("observed", 161.5), ("expected", 31.4), ("p_value", 2.6e-4), ("global_p_value", 1e-3)):
        row |= {f"{name}_median": value, f"{name}_low": value / 2, f"{name}_high": 2 * value}
    row |= {f"{name}_{end}": value for name, value in (("max_sic", 2.67), ("auc", 0.947)) for end in BAND}
    console = Console(width=80, file=io.StringIO())
    print_hunt(console, {"rows": [row], "mass": "m_jj", "features": ["x"], "varied": "", "notes": ["a note"]})
    printed = console.file.getvalue()
    for whole in ("3300–3700", "161.5", "0.00026", "0.00013–", "0.00052", "2.67", "0.947", "- a note"):
        assert whole in printed, printed


def test_events_do_not_replace_a_file_unasked(jettag, tmp_path):
    """Nothing is read before; with --overwrite the file is."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(random.uniform(50, 500, (8, len(HIGH_LEVEL))), columns=list(HIGH_LEVEL))
    frame.to_hdf(tmp_path / "features.h5", key="df")
    target = tmp_path / "dijets.parquet"
    target.write_text("precious")
    words = ["weak", "events", tmp_path / "features.h5", "--out", target]
    code, _, err = jettag(*words[:2], tmp_path / "missing.h5", *words[3:])
    assert code == 2
    assert "the file exists already" in err
    assert "add --overwrite to replace it" in err
    assert target.read_text() == "precious"
    assert jettag(*words, "--overwrite")[0] == 0
    assert len(pd.read_parquet(target)) == 8
