"""jettag export: what another program computes from the file is what jettag says, and it knows what to feed it."""

import json
import multiprocessing
import os
import signal

import h5py
import numpy as np
import pytest
import torch
import uproot
from jettag_cli.main import app

from jettag.data.card import load_card
from jettag.data.features import feature_set
from jettag.data.read import expand_inputs, read_table
from jettag.interop import export as exporting

from .conftest import SMALL


@pytest.fixture(scope="module")
def lora(files, jettag, runs, tmp_path_factory):
    """A tagger that moved by low-rank updates."""
    run = tmp_path_factory.mktemp("export") / "lora"
    code, _, err = jettag(
        *("finetune", "--from", runs / "pretrain", "--mode", "lora", "--data", files / "train" / "*.root"),
        *("--out", run, "--max-steps", 20, "--set", "training.learning_rate=0.02", *SMALL),
    )
    assert code == 0, err
    return run


def onnx_file(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path))
    content = json.loads(session.get_modelmeta().custom_metadata_map["jettag"])
    return content, lambda *x: session.run(["probabilities"], dict(zip(["features", "p4", "mask"], x, strict=True)))[0]


def torch_file(path):
    extra = {"jettag.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    return json.loads(extra["jettag.json"]), lambda *x: program(*map(torch.from_numpy, x)).numpy()


def from_branches(tree, about):
    """The network's inputs from nothing but the metadata and the branches of a file, by NumPy alone, jet by jet."""
    arrays = {name: tree[name].array(library="np") for name in tree.keys()}  # noqa: SIM118
    shape = (tree.num_entries, max(map(len, arrays["part_px"])))
    features = np.zeros((*shape, len(about["features"])), np.float32)
    p4, mask = np.zeros((*shape, 4), np.float32), np.zeros(shape, bool)
    for jet in range(tree.num_entries):
        names = dict(vars(np))
        for name, column in about["columns"].items():
            if "branches" in column:
                names[name] = arrays[column["branches"][0]][jet] * column["factor"]
        for name, column in about["columns"].items():
            if "branches" not in column:
                names[name] = eval(column["formula"], {}, names)
        order = np.argsort(-names["pt"])[: about["max_constituents"]]
        count = len(order)
        for place, feature in enumerate(about["features"]):
            x = eval(feature["formula"], {}, names)[order]
            if "subtract" in feature:
                scaled = (x - feature["subtract"]) * feature["multiply"]
                x = np.clip(scaled, feature["lowest"], feature["highest"])
            features[jet, :count, place] = x
        p4[jet, :count] = np.stack([names[name] for name in ("px", "py", "pz", "energy")], axis=1)[order]
        mask[jet, :count] = True
    return features, p4, mask


@pytest.mark.parametrize(("kind", "opened"), [("onnx", onnx_file), ("torch", torch_file)])
def test_the_file_says_what_jettag_predicts(kind, opened, files, jettag, call_json, lora, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    out = tmp_path / "deep" / "tagger"
    found = call_json("export", lora, "--format", kind, "--out", out)
    assert found["max_difference"] == max(entry["max_difference"] for entry in found["parity"]) <= found["tolerance"]
    assert [path.name for path in out.parent.iterdir()] == ["tagger"]
    about, ask = opened(out)
    assert about == found["metadata"]
    assert about["class_names"] == ["QCD", "Tbqq"]
    assert [entry["name"] for entry in about["features"]] == list(feature_set(about["feature_set"]).names)
    assert about["features"][0] == {
        "name": "part_pt_log", "formula": "log(pt)", "subtract": 1.7, "multiply": 0.7, "lowest": -5, "highest": 5,
    }  # fmt: skip
    test = files / "test" / "Tbqq.root"
    code, _, err = jettag("predict", lora, "--data", test, "--out", tmp_path / "scores.h5")
    assert code == 0, err
    with h5py.File(tmp_path / "scores.h5") as file:
        expected = np.stack([file["jets"][f"score_{name}"] for name in about["class_names"]], axis=1)
    table = read_table(expand_inputs([str(test)]), load_card("jetclass"), features=about["feature_set"], labels=False)
    batch = table.batch(np.arange(len(table)))
    given = ask(batch.features.numpy(), batch.p4.numpy(), batch.mask.numpy())
    np.testing.assert_allclose(given, expected, atol=1e-4)
    given = ask(*from_branches(uproot.open(test)["tree"], about))
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_a_file_that_differs_is_not_kept(jettag, lora, tmp_path):
    code, _, err = jettag("export", lora, "--format", "torch", "--out", tmp_path / "t.pt2", "--tolerance", 0)
    assert code == 5
    assert "nothing was written" in err
    assert list(tmp_path.iterdir()) == []


def killed(path):
    torch.export.save = lambda *_args, **_kwargs: os.kill(os.getpid(), signal.SIGKILL)
    app(["export", str(path), "--format", "torch"])


def test_what_a_killed_export_leaves_is_gone_after_the_next(jettag, lora):
    """And nothing else: neither a live process's nor another file's."""
    before = {path.name for path in lora.iterdir()}
    process = multiprocessing.get_context("fork").Process(target=killed, args=(lora,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    (left,) = (path for path in lora.iterdir() if path.name not in before)
    assert left.name.startswith(".")
    others = [f".tagger.pt2.making-{os.getppid()}-x", ".tagger.onnx.making-x"]
    for name in others:
        (lora / name).mkdir()
    code, _, err = jettag("export", lora, "--format", "torch")
    assert code == 0, err
    assert {path.name for path in lora.iterdir()} == before | {"tagger.pt2", *others}


def test_what_cannot_be_exported_is_said(jettag, runs, lora, tmp_path, monkeypatch):
    code, _, err = jettag("export", lora, "--format", "onx")
    assert code == 2
    assert "did you mean onnx" in err
    code, _, err = jettag("export", runs / "pretrain", "--format", "torch")
    assert code == 5
    assert "no classes" in err
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda _: None)
    code, _, err = jettag("export", lora, "--format", "onnx", "--out", tmp_path / "t.onnx")
    assert code == 7
    assert "pip install 'jettag[onnx]'" in err
