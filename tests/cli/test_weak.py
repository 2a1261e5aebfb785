"""jettag weak: the contract's flags and keys, a run without signal beside every study, and no label in training."""

import json

import awkward as ak
import numpy as np
import pytest

from ..data.make import make_columns, without
from .conftest import SMALL, SMALL_DECODER, jets, write_root

QUICK = ["--runs", 2, "--folds", 2, "--features", "mass_like,width", "--card"]


def words(mixed, command, *more):
    files = ["--background", mixed / "QCD.root", "--signal", mixed / "Tbqq.root"]
    tests = ["--test", mixed / "QCD_test.root", mixed / "Tbqq_test.root"]
    return ["weak", command, *files, *tests, *QUICK, mixed / "card.yaml", *more]


@pytest.mark.parametrize("command", ["cwola", "iad", "supervised"])
def test_rows_have_the_contracts_keys_and_a_run_without_signal(mixed, call_json, command):
    found = call_json(*words(mixed, command, "--fraction", 0.5))
    fractions = [row["fraction"] for row in found["rows"]]
    assert fractions == ([None] if command == "supervised" else [0.0, 0.5])
    for row in found["rows"]:
        assert {"max_sic_median", "max_sic_low", "max_sic_high", "auc_median", "varied"} <= set(row)
        assert row["n_runs"] == 2
        runs = [run for run in found["runs"] if run["fraction"] == row["fraction"]]
        assert row["auc_median"] == pytest.approx(np.median([run["auc"] for run in runs]))
    assert found["rows"][-1]["auc_median"] > 0.9
    assert any("at least 10" in note for note in found["notes"])


@pytest.mark.parametrize("command", ["cwola", "iad", "scan"])
def test_shipped_features_and_card_read_jetclass_files(call_json, tmp_path, command):
    """As the contract writes it; the jet's mass is the sum's where no branch has it, as in JetClass."""
    found = []
    for stored in (True, False):
        for seed, name in enumerate(("QCD", "Tbqq", "QCD_test", "Tbqq_test")):
            columns = make_columns(200, seed=seed, class_name=name.removesuffix("_test"), longest=6 + 20 * (seed % 2))
            shapes = np.random.default_rng(seed).uniform(0.1, 1, (5, 200)).astype(np.float32)
            columns |= dict(zip(("jet_sdmass", "jet_tau1", "jet_tau2", "jet_tau3", "jet_tau4"), shapes, strict=True))
            if stored:
                total = [ak.sum(columns[f"part_{part}"], axis=1).to_numpy() for part in ("energy", "px", "py", "pz")]
                columns["jet_mass"] = np.sqrt(np.maximum(total[0] ** 2 - sum(p**2 for p in total[1:]), 0))
            write_root(tmp_path / f"{name}.root", columns)
        sources = ["--background", tmp_path / "QCD.root", "--signal", tmp_path / "Tbqq.root"]
        judges = ["--test", tmp_path / "QCD_test.root", tmp_path / "Tbqq_test.root"]
        shared = ["--runs", 2, "--folds", 2, "--fraction", "40%", "--rows", "trees", "--card", "jetclass"]
        found.append(call_json("weak", command, *sources, *judges, *shared)["rows"])
    assert [row["fraction"] for row in found[0]][:2] == [0.0, 0.4]
    aucs = [[row["auc_median"] for row in rows] for rows in found]
    assert aucs[0] == pytest.approx(aucs[1], abs=0.03)
    assert aucs[0][1] > 0.75


def test_a_scan_goes_on_and_refuses_to_mix(mixed, call_json, jettag, tmp_path):
    out = tmp_path / "scan"
    more = ["--out", out, "--fraction", "30%"]
    found = call_json(*words(mixed, "scan", *more))
    assert {(row["method"], row["fraction"]) for row in found["rows"]} == {
        ("cwola", 0.0), ("cwola", 0.3), ("supervised", None)
    }  # fmt: skip
    assert json.loads((out / "weak.json").read_text())["rows"] == found["rows"]
    assert (out / "max_sic.png").stat().st_size > 1000
    assert "16-84 %" in (out / "table.md").read_text()
    lost = out / "points" / "cwola-trees-0.3-run1.json"
    kept = out / "points" / "cwola-trees-0-run0.json"
    before, content = kept.stat().st_mtime_ns, json.loads(lost.read_text())
    lost.unlink()
    again = call_json(*words(mixed, "scan", *more, "--fraction", "0.4"))
    assert kept.stat().st_mtime_ns == before
    assert {k: v for k, v in json.loads(lost.read_text()).items() if k != "seconds"} == {
        k: v for k, v in content.items() if k != "seconds"
    }
    assert len(again["rows"]) == 4
    code, _, err = jettag(*words(mixed, "scan", *more, "--folds", 3))
    assert (code, "another setting of folds" in err) == (2, True)


def test_several_signals_have_a_total_improvement(mixed, call_json, jettag, tmp_path):
    """One that stands out and one that does not: the smallest and the largest gain, and no table where there is one."""
    signals = [mixed / "Tbqq.root", write_root(tmp_path / "Hbb.root", jets(200, "Hbb", 0.3, 30))]
    tests = [
        mixed / "QCD_test.root",
        mixed / "Tbqq_test.root",
        write_root(tmp_path / "t.root", jets(200, "Hbb", 0.3, 31)),
    ]
    base = ["weak", "scan", "--background", mixed / "QCD.root", "--signal", *signals, "--test", *tests, *QUICK]
    out = tmp_path / "scan"
    found = call_json(*base, mixed / "card.yaml", "--fraction", 0.4, "--methods", "supervised", "--out", out)
    (row,) = found["improvement"]
    assert (row["method"], row["row"], row["fraction"], row["n_runs"]) == ("supervised", "trees", None, 2)
    for run in found["runs"]:
        each = run["improvement_by_signal"]
        assert each["Tbqq"] > each["Hbb"]
        assert run["improvement"] == {"min": each["Hbb"], "median": np.mean(list(each.values())), "max": each["Tbqq"]}
    assert row["min_median"] == np.mean([run["improvement"]["min"] for run in found["runs"]])
    assert any("signals Hbb, Tbqq train together" in note for note in found["notes"])
    assert "Total improvement over the signals" in (out / "table.md").read_text()
    words_again = [*base, mixed / "card.yaml", "--fraction", 0.4, "--methods", "supervised", "--out", out]
    assert "Total improvement over the signals" in jettag(*words_again)[1]
    assert call_json(*words(mixed, "supervised"))["improvement"] == []


def test_embeddings_in_every_form_and_networks_beside_them(mixed, call_json, jettag, tmp_path):
    train = [mixed / "QCD.root", mixed / "Tbqq.root"]
    decoder = ["--set", "objective.target.codes=16", "--set", "objective.decoder={dim: 16, layers: 1, heads: 2}"]
    call_json("pretrain", "mpm", "--data", *train, "--out", tmp_path / "mpm", *SMALL, *decoder, "--max-steps", 2)
    small = ["--set", "training.max_steps=3", "--set", "data.batch_size=64", "--rows"]
    rows = "trees,trees-embedding,trees-pca,trees-bagged,probe,finetuned,scratch"
    more = ["--from", tmp_path / "mpm", "--out", tmp_path / "scan", *small, rows, "--runs", 1, "--components", 4]
    found = call_json(*words(mixed, "scan", "--fraction", 0.4, "--methods", "cwola", *more))
    assert [row["row"] for row in found["rows"][::2]] == rows.split(",")
    assert not any("beside the backbone's" in note for note in found["notes"])
    alone = call_json(*words(mixed, "cwola", "--fraction", 0.4, "--rows", "probe", "--from", tmp_path / "mpm"))
    assert any("no row trees, finetuned, scratch beside" in note for note in alone["notes"])
    tuned = tmp_path / "scan" / "runs" / "cwola-finetuned-0.4-run0"
    facts = json.loads((tuned / "run.json").read_text())
    assert facts["class_names"] == ["M1", "M2"]
    assert facts["pretrained"]
    assert "best_val_argos" in facts
    direct = next(row for row in found["rows"] if (row["row"], row["fraction"]) == ("trees-embedding", 0.4))
    row = cached(mixed, call_json, tmp_path)
    assert row["row"] == "trees-embedding"
    assert row["auc_median"] == direct["auc_median"]


def cached(mixed, call_json, folder):
    """The row of trees on files of embeddings, trained as `QUICK` has it."""
    for part in ("QCD", "Tbqq", "QCD_test", "Tbqq_test"):
        call_json("embed", folder / "mpm", "--data", mixed / f"{part}.root", "--out", folder / f"{part}.parquet")
    words = [
        *("weak", "cwola", "--background", folder / "QCD.parquet", "--signal", folder / "Tbqq.parquet", "--test"),
        *(f"background:{folder / 'QCD_test.parquet'}", f"signal:{folder / 'Tbqq_test.parquet'}"),
        *("--features", "embedding", "--fraction", 0.4, "--runs", 1, "--folds", 2),
    ]
    return call_json(*words)["rows"][-1]


@pytest.mark.parametrize("most", [3, 6])
def test_no_row_depends_on_the_others(mixed, call_json, monkeypatch, tmp_path, most):
    """The backbone sees five constituents, networks three of them or six: embeddings are of five, and once for all."""
    train = [mixed / "QCD.root", mixed / "Tbqq.root"]
    wide = ["--max-steps", 2, "--set", "data.max_constituents=5"]
    call_json("pretrain", "mpm", "--data", *train, "--out", tmp_path / "mpm", *SMALL, *SMALL_DECODER, *wide)
    steps = ["training.max_steps=4", "mode=lpft", "adaptation.lpft.probe_share=0.5", "data.batch_size=64"]
    small = [word for step in [*steps, f"data.max_constituents={most}"] for word in ("--set", step)]
    shared = ["--fraction", 0.4, "--methods", "cwola", "--from", tmp_path / "mpm", "--runs", 1, *small, "--rows"]

    def scan(rows, out):
        found = call_json(*words(mixed, "scan", *shared, rows, "--out", tmp_path / out))
        return {row["row"]: row["auc_median"] for row in found["rows"] if row["fraction"] == 0.4}

    every = scan("trees-embedding,probe,finetuned", "every")
    assert every == {**scan("trees-embedding", "trees"), **scan("probe", "probe"), **scan("finetuned", "finetuned")}
    monkeypatch.setattr("jettag.runs.weak_network.KNOWN", "a column that nobody reads")  # the training embeds itself
    assert scan("finetuned", "again")["finetuned"] == pytest.approx(every["finetuned"], abs=1e-3)
    assert cached(mixed, call_json, tmp_path)["auc_median"] == every["trees-embedding"]
    shared[-1:-1] = ["--set", "data.features=jetclass_kin", "--set", "adaptation.adapt_features=true"]
    assert 0 < scan("finetuned", "adapted")["finetuned"] < 1  # of other features than the backbone's: it embeds itself


def test_finetune_of_two_samples_reads_no_true_label(mixed, call_json, jettag, tmp_path):
    """Files whose label branches are gone train a weak tagger as well, and it stops by ARGOS."""
    for sample, seed in (("M1", 1), ("M2", 2)):
        write_root(tmp_path / f"{sample}.root", without(jets(200, "QCD", 0.0, seed), "label_"))
    data = [f"{sample}:{tmp_path / sample}.root" for sample in ("M1", "M2")]
    out = tmp_path / "run"
    call_json("finetune", "--task", "weak", "--data", *data, "--out", out, *SMALL, "--max-steps", 25)
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    judged = {record["step"]: record["val_argos"] for record in records if "val_argos" in record}
    facts = json.loads((out / "run.json").read_text())
    assert facts["best_val_argos"] == max(judged.values())
    best = int((out / "checkpoints" / "best").read_text().strip().removeprefix("step-"))
    assert best == max(judged, key=lambda step: (judged[step], -step))
    code, _, err = jettag("finetune", "--task", "weak", "--data", data[0], "--out", tmp_path / "one", *SMALL)
    assert (code, "give its files as M2:GLOB" in err) == (4, True)
    code, _, err = jettag("validate", "weak", "--set", "classes=[A,B,C]")
    assert (code, "two samples" in err) == (3, True)


def test_selection_reaches_trees_and_networks(mixed, call_json, jettag, tmp_path):
    small = ["--rows", "trees,scratch", "--fraction", 0.4, "--runs", 1, "--out", tmp_path / "loss", *SMALL]
    few = [*small, "--set", "training.max_steps=2"]
    found = call_json(*words(mixed, "cwola", *few, "--selection", "loss"))["runs"]
    default = call_json(*words(mixed, "cwola", "--fraction", 0.4, "--runs", 1))["runs"]
    ranked = call_json(*words(mixed, "cwola", "--fraction", 0.4, "--runs", 1, "--selection", "argos"))["runs"]
    trees = [[run["auc"] for run in runs if run["row"] == "trees"] for runs in (found, default, ranked)]
    assert trees[0] != trees[1] == trees[2]
    facts = json.loads((tmp_path / "loss" / "runs" / "cwola-scratch-0.4-run0" / "run.json").read_text())
    assert "best_val_argos" not in facts
    code, _, err = jettag(*words(mixed, "cwola", *few, "--selection", "argos"))
    assert (code, "another setting of recipe, selection" in err) == (2, True)
    plan = tmp_path / "loss" / "plan.json"
    older = json.loads(plan.read_text())
    assert older.pop("selection") == "loss"
    plan.write_text(json.dumps(older))  # as before there was a choice
    again = call_json(*words(mixed, "cwola", *few, "--selection", "loss"))
    assert (again["selection"], again["runs"]) == ("loss", found)


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--fraction", "1"], 2, "one class after the mixing"),
        (["--fraction", "0.9"], 4, "signal jets needed"),
        (["--fraction", "0.1", "--rows", "tree"], 2, "trees"),
        (["--fraction", "0.1", "--rows", "finetuned"], 2, "--from"),
        (["--fraction", "0.1", "--rows", "scratch"], 2, "--out"),
        (["--fraction", "0.1", "--rows", "probe"], 2, "--from"),
        (["--fraction", "0.1", "--features", "mas_like"], 3, "did you mean mass_like"),
        (["--fraction", "0.1", "--features", "sdmass"], 4, "no branch jet_sdmass"),
        (["--fraction", "0.1", "--signal-class", "Hbb"], 4, "no signal jet"),
        (["--fraction", "0.1", "--folds", "40"], 4, "too few for 40 folds"),
        (["--fraction", "0.1", "--selection", "argus"], 2, "argos"),
    ],
)
def test_bad_input_is_one_line(mixed, jettag, more, code, said):
    found, out, err = jettag(*words(mixed, "cwola", *more))
    assert (found, out) == (code, ""), err
    last = err.rstrip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last


def test_roles_that_share_jets_are_refused(mixed, jettag):
    background = ["--background", mixed / "QCD.root", "--fraction", "0.1", "--features", "width"]
    common = ["weak", "cwola", *background, "--card", mixed / "card.yaml"]
    code, _, err = jettag(*common, "--signal", mixed / "QCD.root", "--test", mixed / "Tbqq_test.root")
    assert (code, "class QCD stands in --background and in --signal" in err) == (2, True)
    code, _, err = jettag(*common, "--signal", mixed / "Tbqq.root", "--test", mixed / "QCD.root")
    assert (code, "twice in --background and --test" in err) == (4, True)
    bad = jets(100, "QCD", 0.0, 5) | {"jet_width": np.full(100, np.nan, np.float32)}
    path = write_root(mixed / "nan.root", bad)
    tests = ["--test", mixed / "QCD_test.root", mixed / "Tbqq_test.root"]
    wrong = ["weak", "cwola", "--background", path, *common[4:]]
    code, _, err = jettag(*wrong, "--signal", mixed / "Tbqq.root", *tests)
    assert (code, "feature width are NaN" in err) == (4, True)


def test_decorrelation_takes_the_mass_out(mixed, call_json, jettag, tmp_path):
    """A tagger on a feature that is the mass but for noise: forgetting it leaves background that is flat in it."""
    random = np.random.default_rng(0)
    files = {}
    for place, (name, factor) in enumerate({"QCD": 0.0, "Tbqq": 1.0}.items()):
        for part, count in (("train", 2400), ("test", 1200)):
            columns = jets(count, name, factor, 20 + place)
            columns["jet_mass_like"] = (columns["jet_width"] + random.normal(factor, 0.5, count)).astype(np.float32)
            files[name, part] = write_root(tmp_path / f"{name}_{part}.root", columns)
    words = [
        *("weak", "decorrelate", "--background", files["QCD", "train"], "--signal", files["Tbqq", "train"], "--test"),
        *(files["QCD", "test"], files["Tbqq", "test"], "--card", mixed / "card.yaml", "--features", "mass_like"),
        *("--on", "width", "--runs", 1, "--folds", 2),
    ]
    found = call_json(
        *words, "--methods", "none,binned,planing,ot,disco", "--strength", "5,30", "--out", tmp_path / "out"
    )
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == ["none", "binned", "planing", "ot", "disco 5", "disco 30", "no signal"]
    assert rows["no signal"]["background_rejection_median"] == pytest.approx(2, abs=0.4)
    assert rows["no signal"]["auc_median"] == pytest.approx(0.5, abs=0.1)
    assert (tmp_path / "out" / "rejection_divergence.png").stat().st_size > 1000
    for method in ("binned", "ot"):
        assert rows[method]["jsd_nats_median"] < 0.2 * rows["none"]["jsd_nats_median"]
    assert rows["binned"]["largest_deviation_median"] < rows["none"]["largest_deviation_median"]
    assert rows["none"]["chi2_per_ndof_median"] > 5
    assert "divergence in nats" in (tmp_path / "out" / "table.md").read_text()
    some = {name: mixed / f"{name}_test.root" for name in ("QCD", "Tbqq")}  # 200 jets: hardly one of QCD passes
    few = [*words[:6], "--test", *some.values(), *words[9:], "--methods", "none", "--out", tmp_path / "few"]
    row, _ = call_json(*few)["rows"]
    assert row["inverse_jsd_median"] is None
    assert row["auc_median"] > 0.5
    assert "more files in --test" in (tmp_path / "few" / "table.md").read_text()
    code, _, err = jettag(*words, "--methods", "bined")
    assert (code, "binned" in err) == (2, True)
    code, _, err = jettag(*words, "--features", "jet_width,mass_like")
    assert (code, "width, which is to be forgotten, stands in --features" in err) == (2, True)
    code, _, err = jettag(*few[:3], mixed / "QCD.root", *few[4:-4], "--methods", "binned")
    assert (code, "give more files in --background" in err) == (4, True)


def test_closure_tells_the_same_from_another(mixed, call_json, jettag):
    words = ["weak", "closure", "--card", mixed / "card.yaml", "--features", "mass_like,width", "--folds", 2]
    same = call_json(*words, "--first", mixed / "QCD.root", "--second", mixed / "QCD_test.root")
    other = call_json(*words, "--first", mixed / "QCD.root", "--second", mixed / "Tbqq.root")
    assert same["classifier_p_value"] > 1e-3 > other["classifier_p_value"]
    assert other["fpd"] > 10 * abs(same["fpd"])
    assert (same["n_first"], same["n_second"]) == (200, 200)
    assert "classifier AUC" in jettag(*words, "--first", mixed / "QCD.root", "--second", mixed / "Tbqq.root")[1]
