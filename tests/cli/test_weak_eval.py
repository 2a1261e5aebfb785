"""jettag eval of a tagger of two mixed samples: on the samples, and on true classes by its score of M1."""

import numpy as np
import pytest
import uproot

from ..data.make import make_columns, without
from .conftest import SMALL, widened, write_root


def sample(path, number, parts, seed):
    """Both classes in one file, without labels."""
    both = [
        widened(make_columns(round(share * number), seed=seed + place), factor)
        for place, (share, factor) in enumerate(parts)
    ]
    import awkward as ak

    joined = {name: ak.concatenate([part[name] for part in both]) for name in both[0]}
    flat = {name: column.to_numpy() if column.ndim == 1 else column for name, column in joined.items()}
    return write_root(path, without(flat, "label_"))


@pytest.fixture(scope="module")
def weak(call_json, tmp_path_factory):
    """A run on 90 % against 10 % of wide jets, and two samples like these to judge on."""
    folder = tmp_path_factory.mktemp("weak")
    for seed, name in ((50, "M1"), (60, "M2"), (70, "M1_test"), (80, "M2_test")):
        rich = name.startswith("M1")
        sample(folder / f"{name}.root", 200, ((0.1, 1.0), (0.9, 3.0)) if rich else ((0.9, 1.0), (0.1, 3.0)), seed)
    data = [f"{name}:{folder / name}.root" for name in ("M1", "M2")]
    call_json("finetune", "--task", "weak", "--data", *data, "--out", folder / "weak", *SMALL, "--max-steps", 60)
    return folder


def scores(jettag, run, out, *files):
    """The probability of M1 of each file's jets, as `predict` writes it."""
    code, _, err = jettag("predict", run, "--data", *files, "--out", out)
    assert code == 0, err
    with uproot.open(out) as file:
        columns = file["tree"].arrays(["score_M1", "file"], library="np")
    return [columns["score_M1"][columns["file"] == place] for place in range(len(files))]


def check(row, signal, background):
    """AUC from all pairs, and jets that pass a cut which keeps half of the signal."""
    above = signal[:, None] - background[None]
    assert row["auc"] == pytest.approx(np.mean((above > 0) + 0.5 * (above == 0)), abs=1e-4)  # predict writes float32
    cut = np.quantile(signal, 0.5, method="lower")
    assert row["n_background_pass"] == pytest.approx((background >= cut).sum(), abs=1)
    assert (row["n_signal"], row["n_background"]) == (len(signal), len(background))


def test_a_weak_run_is_judged_on_samples_and_on_truth_by_one_score(weak, files, runs, jettag, call_json, tmp_path):
    run, half = weak / "weak", ("--efficiency", 0.5)
    samples = [weak / "M1_test.root", weak / "M2_test.root"]
    found = call_json("eval", run, "--data", f"M1:{samples[0]}", f"M2:{samples[1]}", *half)["rows"]
    assert [(row["signal"], row["background"]) for row in found] == [("M1", "M2")]
    check(found[0], *scores(jettag, run, tmp_path / "samples.root", *samples))

    test = {name: files / "test" / f"{name}.root" for name in ("QCD", "Tbqq", "Hbb")}
    said = dict(zip(test, scores(jettag, run, tmp_path / "truth.root", *test.values()), strict=True))
    # Of three classes with jets the usual pair; beside a tagger that knows the classes.
    found = call_json("eval", run, runs / "scratch", "--data", *test.values(), *half)["rows"]
    assert [(row["run"], row["signal"], row["background"]) for row in found] == [
        ("weak", "Tbqq", "QCD"),
        ("scratch", "Tbqq", "QCD"),
    ]
    check(found[0], said["Tbqq"], said["QCD"])
    assert found[0]["auc"] > 0.7  # what the samples differ in is what the classes differ in

    named = ("--signal", "Tbqq", "--signal", "Hbb", "--background", "QCD", "--background", "QCD+Hbb")
    code, _, err = jettag("eval", run, "--data", *test.values(), *named)
    assert (code, "both signal and background" in err) == (2, True)
    named = ("--signal", "Tbqq", "--background", "QCD", "--background", "QCD+Hbb")
    found = call_json("eval", run, "--data", *test.values(), *named, *half, "--out", tmp_path / "report")["rows"]
    assert [row["background"] for row in found] == ["QCD", "QCD+Hbb"]
    check(found[0], said["Tbqq"], said["QCD"])
    check(found[1], said["Tbqq"], np.concatenate([said["QCD"], said["Hbb"]]))
    assert {"roc.png", "scores.png", "table.tex"} <= {path.name for path in (tmp_path / "report").iterdir()}

    # Classes that no card knows, and two others of the card: its first is the background.
    custom = (f"wide:{test['Tbqq']}", f"narrow:{test['QCD']}")
    row = call_json("eval", run, "--data", *custom, "--signal", "wide", "--background", "narrow", *half)["rows"][0]
    check(row, said["Tbqq"], said["QCD"])
    row = call_json("eval", run, "--data", test["Tbqq"], test["Hbb"], *half)["rows"][0]
    assert (row["signal"], row["background"]) == ("Tbqq", "Hbb")
    check(row, said["Tbqq"], said["Hbb"])


def test_of_a_weak_run_the_score_is_told_and_what_cannot_be_known_is_asked(weak, files, jettag, tmp_path):
    run, qcd, top = weak / "weak", files / "test" / "QCD.root", files / "test" / "Tbqq.root"
    code, _, err = jettag("eval", run, "--data", qcd, top)
    assert (code, err.count("weak: the score is the probability of M1")) == (0, 1)
    other = write_root(tmp_path / "Hcc.root", make_columns(20, seed=3, class_name="Hcc"))
    for words, number, said in (
        ([top, files / "test" / "Hbb.root", other], 2, "of Hbb, Hcc, Tbqq: which are signal and background?"),
        ([qcd, top, "--signal", "M1"], 2, "no class 'M1' in card jetclass"),
        ([qcd, top, "--background", "QCD+Tbqk"], 2, "Tbqq"),
        ([qcd], 4, "all jets are of QCD"),
        ([weak / "M1_test.root"], 4, "CLASS:GLOB"),
        ([f"M1:{qcd}", f"M2:{top}", "--signal", "Tbqq"], 2, "M1"),
    ):
        code, _, err = jettag("eval", run, "--data", *words)
        assert (code, err.count("\n"), said in err) == (number, 1, True), err
    assert (
        "--signal CLASS --background CLASS" in jettag("eval", run, "--data", top, other, files / "test" / "Hbb.root")[2]
    )


def test_a_weak_run_reads_files_with_two_label_branches_and_prepared_jets(weak, files, jettag, call_json, tmp_path):
    """The numbers are those of the same jets in files with every branch."""
    run, half = weak / "weak", ("--efficiency", 0.5)
    full = call_json("eval", run, "--data", files / "test" / "QCD.root", files / "test" / "Tbqq.root", *half)
    few = []
    for place, (name, factor) in enumerate({"QCD": 1.0, "Tbqq": 3.0}.items()):
        columns = widened(make_columns(150, seed=10 + place, class_name=name), factor)
        absent = [f"label_{other}" for other in ("Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbl")]
        few.append(write_root(tmp_path / f"{name}.root", without(columns, *absent)))
    assert call_json("eval", run, "--data", *few, *half) == full
    both = [files / "test" / f"{name}.root" for name in ("QCD", "Tbqq")]
    code, _, err = jettag("data", "prepare", "jetclass", *both, "--out", tmp_path / "shards", "--split", "1:0:0")
    assert code == 0, err
    row = call_json("eval", run, "--data", tmp_path / "shards" / "train", *half)["rows"][0]
    assert (row["signal"], row["background"]) == ("Tbqq", "QCD")
    assert row["auc"] == pytest.approx(full["rows"][0]["auc"], abs=1e-3)
