"""jettag weak cathode, compare: methods side by side, a run without signal, and a study that goes on."""

import json

import numpy as np
import pytest

from .conftest import write_root

NAMES = ("m_j1", "delta_m_j", "tau21_j1", "tau21_j2")


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resonance")
    random = np.random.default_rng(0)
    for name, count in (("background", 5000), ("signal", 400), ("test", 2400)):
        is_signal = np.full(count, name == "signal") if name != "test" else np.arange(count) < 400
        mass = np.where(is_signal, random.normal(3500, 50, count), random.uniform(2500, 4500, count))
        columns = {key: random.normal(size=count) + 1.5 * is_signal for key in NAMES}
        labels = {"label_background": ~is_signal, "label_signal": is_signal}
        write_root(folder / f"{name}.root", {"m_jj": mass, **columns, **labels})
    return folder


def words(events, *more):
    files = [f"--{name}={events / name}.root" for name in ("background", "signal", "test")]
    return [*files, "--window", "3300:3700", "--range", "2500:4500", "--folds", 2, *more]


def test_methods_stand_beside_their_bounds_and_a_study_goes_on(events, jettag, call_json, tmp_path):
    more = ["--fraction", "0.03", "--runs", 1, "--epochs", 3, "--features", "m_j1,tau21_j1"]
    out = tmp_path / "study"
    found = call_json("weak", "cathode", *words(events, *more, "--out", out))
    assert [(row["method"], row["fraction"]) for row in found["rows"]] == [
        ("cathode", 0.0), ("cathode", 0.03), ("iad", 0.0), ("iad", 0.03), ("supervised", None)
    ]  # fmt: skip
    rows = {(row["method"], row["fraction"]): row for row in found["rows"]}
    assert rows["cathode", 0.0]["s_over_b_median"] == 0
    assert rows["cathode", 0.03]["s_over_b_median"] > 0.1
    assert rows["supervised", None]["auc_median"] > rows["iad", 0.0]["auc_median"]
    for row in found["rows"]:
        assert {"max_sic_median", "max_sic_low", "max_sic_high", "auc_median", "chi2_per_ndof_median"} <= set(row)
    assert rows["cathode", 0.03]["template_auc_median"] < 0.9
    assert rows["iad", 0.03]["template_auc_median"] is None
    assert rows["iad", 0.03]["argos_median"] > rows["iad", 0.0]["argos_median"]  # out of folds, without a label
    assert rows["cathode", 0.03]["template_fpd_median"] < 0.5
    assert rows["cathode", 0.03]["template_kpd_median"] is not None
    curve = rows["supervised", None]["sic_curve"]
    assert len(curve["median"]) == len(found["curve_efficiencies"])
    assert curve["median"][0] == pytest.approx(1)  # without a cut
    assert (out / "sic.png").stat().st_size > 1000
    before = {path.name: path.stat().st_mtime_ns for path in (out / "points").iterdir()}
    again = call_json("weak", "compare", *words(events, *more, "--out", out, "--methods", "cathode,f4f,combined,cwola"))
    assert [row["method"] for row in again["rows"][::2]] == ["cathode", "f4f", "combined", "cwola"]
    assert {name: (out / "points" / name).stat().st_mtime_ns for name in before} == before
    assert all(head in (out / "table.md").read_text() for head in ("chi2/ndof", "FPD", "KPD"))
    density = call_json("weak", "compare", *words(events, *more, "--methods", "anode"))
    assert [(row["method"], row["row"], row["fraction"]) for row in density["rows"]] == [
        ("anode", "flow", 0.0), ("anode", "flow", 0.03)
    ]  # fmt: skip
    assert density["rows"][1]["max_sic_median"] > 1.5
    assert density["rows"][1]["argos_median"] is None  # no classifier, no template
    both = call_json(
        "weak", "compare", *words(events, *more, "--out", out, "--methods", "cathode", "--classifier", "trees,network")
    )
    code, printed, _ = jettag("weak", "cathode", *words(events, *more, "--out", out))
    assert code == 0
    assert "templates without signal: cathode AUC 0." in printed
    assert not [line for line in printed.splitlines() if line.strip().isdigit()]  # half of a number
    assert [(row["method"], row["row"], row["fraction"]) for row in both["rows"]] == [
        ("cathode", name, fraction) for name in ("network", "trees") for fraction in (0.0, 0.03)
    ]


def test_several_resonances_have_names_and_a_total_improvement(events, call_json, jettag, tmp_path):
    random = np.random.default_rng(3)
    for name, count, away in (
        ("light", 300, 2.5),
        ("heavy", 300, 0.0),
        ("light_test", 200, 2.5),
        ("heavy_test", 200, 0.0),
    ):
        columns = {key: random.normal(size=count) + away for key in NAMES}
        write_root(tmp_path / f"{name}.root", columns | {"m_jj": random.normal(3500, 50, count)})
    signals = [f"{name}:{tmp_path / name}.root" for name in ("light", "heavy")]
    tests = [events / "test.root", *(f"{name}:{tmp_path / name}_test.root" for name in ("light", "heavy"))]
    region = ["--window", "3300:3700", "--range", "2500:4500", "--folds", 2, "--fraction", "0.05", "--runs", 1]
    base = ["weak", "compare", "--background", events / "background.root", "--signal", *signals, *region]
    found = call_json(*base, "--test", *tests, "--methods", "cwola,supervised")
    assert [(row["method"], row["fraction"]) for row in found["improvement"]] == [
        ("cwola", 0.0), ("cwola", 0.05), ("supervised", None)
    ]  # fmt: skip
    each = found["runs"][-1]["improvement_by_signal"]
    assert each["light"] > 2 > each["heavy"]
    code, _, err = jettag(*base, "--test", events / "test.root", f"lihgt:{tmp_path / 'light_test.root'}")
    assert (code, "did you mean light" in err) == (4, True), err


@pytest.mark.parametrize(
    ("command", "more", "code", "said"),
    [
        ("salad", [], 2, "--simulation"),
        ("feta", [], 2, "--simulation"),
        ("compare", ["--methods", "cathode,combined"], 2, "two methods"),
        ("cathode", ["--fraction", "x"], 2, "no number"),
        ("cathode", ["--classifier", "netwrk"], 2, "network"),
        ("cathode", ["--flow", "3"], 2, "is not NxW"),
        ("cathode", ["--methods", "cathod"], 2, "cathode"),
        ("cathode", ["--window", "2000:3700"], 2, "overlap the signal region"),
        ("cathode", ["--fraction", "0.5"], 4, "signal events needed"),
        ("cathode", ["--features", "m_jj,m_j1"], 2, "stands in --features"),
        ("cathode", ["--shift", "0.1", "--features", "m_j1"], 2, "delta_m_j"),
        ("cathode", ["--window", "3300:3310"], 4, "at least 50"),
    ],
)
def test_bad_input_is_one_line(events, jettag, command, more, code, said):
    found, out, err = jettag("weak", command, *words(events, "--fraction", "0.03", "--runs", 1, *more))
    assert (found, out) == (code, ""), err
    assert said in err.rstrip().splitlines()[-1]


@pytest.mark.parametrize("command", ["compare", "hunt"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [("leak", "m_j1 tells the mass"), ("valley", "m_j1 tells the mass"), ("nan", "feature m_j1 are NaN")],
)
def test_features_that_tell_the_mass_or_nothing_are_one_line(events, jettag, tmp_path, command, kind, said):
    random = np.random.default_rng(1)
    mass = random.uniform(2500, 4500, 900)
    columns = {key: random.normal(size=900) for key in NAMES} | {"m_jj": mass}
    columns["m_j1"] = {
        "leak": mass / 20,
        "valley": np.abs(mass - 3500),  # falls and rises again
        "nan": np.where(np.arange(900) == 7, np.nan, columns["m_j1"]),
    }[kind]
    columns |= {"label_background": np.ones(900, dtype=bool), "label_signal": np.zeros(900, dtype=bool)}
    path = write_root(tmp_path / "bad.root", columns)
    more = ["--signal", events / "signal.root", "--fraction", "0.03", "--runs", 1, "--folds", 3]
    more += ["--test", events / "test.root"] if command == "compare" else []
    region = ["--window", "3300:3700", "--range", "2500:4500"]
    code, out, err = jettag("weak", command, "--background", path, *more, *region)
    assert (code, out) == (4, ""), err
    assert err.rstrip().splitlines()[-1].startswith("error: ")
    assert said in err
    assert kind != "nan" or "bad.root" in err


def test_salad_says_how_many_of_its_weighted_events_count(events, call_json, tmp_path):
    more = ["--fraction", "0.03", "--runs", 1, "--methods", "salad", "--simulation", events / "background.root"]
    none, some = call_json("weak", "salad", *words(events, *more, "--out", tmp_path / "study"))["rows"]
    assert 0.5 < none["effective_share_median"] <= 1
    assert f"effective sample size of the weighted events is {some['effective_share_median']:.2f}" in (
        (tmp_path / "study" / "table.md").read_text()
    )


def test_a_simulation_without_the_region_is_told_before_anything_is_trained(events, jettag, tmp_path):
    random = np.random.default_rng(2)
    mass = random.uniform(2500, 3200, 900)
    path = write_root(tmp_path / "low.root", {key: random.normal(size=900) for key in NAMES} | {"m_jj": mass})
    code, out, err = jettag("weak", "salad", *words(events, "--fraction", "0.03", "--simulation", path))
    assert (code, out) == (4, ""), err
    assert "no events in the signal region 3300:3700" in err
    assert "low.root" in err


def test_too_few_judges_are_told_before_anything_is_trained(events, jettag, tmp_path):
    random = np.random.default_rng(4)

    def judges(name, mass):
        labels = {"label_background": mass < 4000, "label_signal": mass >= 4000}
        columns = {key: random.normal(size=len(mass)) for key in NAMES}
        return write_root(tmp_path / f"{name}.root", columns | {"m_jj": mass} | labels)

    few = judges("few", np.repeat([3500.0, 4200.0], [20, 40]))
    away = judges("away", np.repeat([3500.0, 4200.0], [40, 40]))  # all signal outside of the region
    files = [f"--{name}={events / name}.root" for name in ("background", "signal")]
    region = ["--window", "3300:3700", "--range", "2500:4500"]
    for command, path, more, said in (
        ("cathode", few, region, "20 background events judge, at least 25 are needed"),
        ("cathode", away, region, "no signal event of --test in the signal region 3300:3700"),
        ("cwola", few, ["--card", "dijets", "--features", "m_j1"], "20 background events judge"),
    ):
        code, out, err = jettag("weak", command, *files, "--test", path, "--fraction", "0.03", *more)
        assert (code, out) == (4, ""), err
        assert said in err.rstrip().splitlines()[-1]


@pytest.mark.parametrize("command", ["cwola", "cathode", "hunt"])
def test_too_little_signal_is_told_before_anything_is_trained(events, jettag, tmp_path, command):
    """Half of signal in the last of several fractions, and in a study with a folder."""
    more = ["--background", events / "background.root", "--signal", events / "signal.root", "--runs", 1]
    more += ["--fraction", "0.5", "--out", tmp_path / "study"]
    if command != "hunt":
        more += ["--test", events / "test.root"]
    more += ["--card", "dijets", "--features", "m_j1"] if command == "cwola" else ["--window", "3300:3700"]
    code, out, err = jettag("weak", command, *more)
    assert (code, out) == (4, ""), err
    assert "there; give more --signal" in err.rstrip().splitlines()[-1]
    assert not list((tmp_path / "study").glob("points/*"))


def test_a_study_in_parts_is_its_parts_side_by_side(events, call_json, jettag, tmp_path):
    recipe = tmp_path / "mine.yaml"
    lines = ["command: weak compare", "options: {methods: [cwola, supervised], fractions: 0.05, runs: 1, folds: 2}"]
    recipe.write_text("\n".join([*lines, "parts: {plain: {}, noise: {noise-features: 3, methods: cwola}}"]))
    files = [f"--{name}={events / name}.root" for name in ("background", "signal", "test")]
    region = ["--set", "options.window='3300:3700'", "--set", "options.range='2500:4500'", *files]
    study, out = ["weak", "study", recipe, *region], tmp_path / "out"
    first = call_json(*study, "--part", "noise", "--out", out)
    assert list(first["parts"]) == ["noise"]
    assert (out / "table.md").read_text().count("plain") == 0
    both = call_json(*study, "--out", out)
    assert both["parts"]["noise"] == first["parts"]["noise"]
    assert both["parts"]["plain"]["rows"] == call_json("weak", "compare", *words(
        events, "--methods", "cwola,supervised", "--fraction", "0.05", "--runs", 1
    ))["rows"]  # fmt: skip
    assert json.loads((out / "weak.json").read_text()) == both
    head, _, cwola, supervised, *_ = (out / "table.md").read_text().splitlines()
    assert head.split(" | ")[2] == "plain: no signal"
    assert [text.split(": ")[0] for text in head.split(" | ")[2:]] == ["plain"] * 2 + ["noise"] * 2 + ["plain", "noise"]
    rows = {(row["method"], row["fraction"]): row for row in both["parts"]["plain"]["rows"]}
    for line, row in ((cwola, rows["cwola", 0.05]), (supervised, rows["supervised", None])):
        assert line.split(" | ")[3].startswith(f"{row['max_sic_median']:.2f} (")
    assert [cell.strip() for cell in supervised.split("|")[5:7]] == ["", ""]  # the part without labels
    before = {path: path.stat().st_mtime_ns for path in out.rglob("points/*")}
    code, printed, _ = jettag(*study, "--part", "plain", "--out", out)
    assert (code, "plain" in printed, "noise" in (out / "table.md").read_text()) == (0, True, True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    labels = call_json(*study, "--set", "options.methods=supervised", "--set", "parts={a: {}}", "--out", tmp_path / "a")
    (row,) = labels["parts"]["a"]["rows"]
    assert row["fraction"] is None
    assert f"| supervised | trees | {row['max_sic_median']:.2f} (" in (tmp_path / "a" / "table.md").read_text()
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "plan.json").write_text("{}")
    for more, code, said in (
        (["--out", tmp_path / "single"], 2, "plan.json"),
        (["--part", "nose"], 2, "did you mean noise"),
        (["--set", "parts.noise.noise=3"], 3, "parts.noise.noise"),
        (["--set", "command=weak hunt"], 3, "side by side"),
        (["--set", "parts={'../x': {}}"], 3, "parts"),
    ):
        found, _, err = jettag(*study, *more)
        assert (found, said in err) == (code, True), err
