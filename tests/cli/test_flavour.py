"""Flavour tagging from the command line: trained, judged, asked, exported; and every wrong input in one line."""

import json

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

from jettag.config.flavour import ORIGINS
from jettag.data.card import load_card
from jettag.data.features import feature_set
from jettag.data.read import expand_inputs, read_table
from jettag.training import load_model_state

from ..data.make import make_columns, without
from .conftest import SMALL, write_root

CODES = {"b": 5, "c": 4, "light": 0}
HEADS = ["--set", "objective.origin.hidden=[8]", "--set", "objective.vertex.hidden=[8]"]
FLAVOUR = ["finetune", "--task", "flavour", "--card", "generated", *SMALL, *HEADS]


def with_truth(jets, flavour, *, seed):
    """Jets of one flavour; in b and c jets half of the tracks come from a vertex ahead along the jet's axis."""
    columns = make_columns(jets, seed=seed)
    rng = np.random.default_rng(seed)
    counts = ak.num(columns["part_charge"])
    charge, dphi = (np.asarray(ak.flatten(columns[f"part_{name}"])) for name in ("charge", "dphi"))
    displaced = (rng.random(len(charge)) < 0.5) & (charge != 0) & (flavour != 0)
    size = np.abs(rng.normal(0, 1.0 if flavour == 5 else 0.5, len(charge))) * (charge != 0)
    prompt = rng.normal(0, 0.05, len(charge)) * (charge != 0)
    d0 = np.where(displaced, np.sign(np.sin(-dphi)) * size, prompt)  # sin(phi_jet - phi) d0 > 0
    origin = np.where(charge == 0, -1, np.where(displaced, 3 if flavour == 5 else 5, 2))
    jagged = {
        "d0val": -d0.astype(np.float32),  # JetClass's sign
        "d0err": np.where(charge != 0, 0.05, 0).astype(np.float32),
        "origin": origin.astype(np.int32),
        "vertex": np.where(charge == 0, -1, displaced).astype(np.int32),
    }
    truth = {"jet_flavour": np.full(jets, flavour, np.int32), "jet_truth_pt": columns["jet_pt"] * np.float32(1.1)}
    return columns | {f"part_{name}": ak.unflatten(values, counts) for name, values in jagged.items()} | truth


@pytest.fixture(scope="module")
def flavour_files(tmp_path_factory):
    """Training and test files, one a flavour, and a file with tau jets."""
    folder = tmp_path_factory.mktemp("flavour")
    for seed, part in enumerate(("train", "test")):
        (folder / part).mkdir()
        for place, (name, code) in enumerate(CODES.items()):
            write_root(folder / part / f"{name}.root", with_truth(100, code, seed=10 * seed + place))
    write_root(folder / "tau.root", with_truth(40, 15, seed=99))
    return folder


@pytest.fixture(scope="module")
def tagger(flavour_files, jettag, tmp_path_factory):
    """A run from scratch with a regression beside the default tasks."""
    run = tmp_path_factory.mktemp("runs") / "my-tagger"
    regression = "objective.regression={truth_pt: {relative_to: pt}}"
    code, _, err = jettag(
        *(*FLAVOUR, "--data", flavour_files / "train" / "*.root", flavour_files / "tau.root", "--out", run),
        *("--max-steps", 12, "--set", "training.val_every=6", "--set", regression),
    )
    assert code == 0, err
    assert "40 other classes" in err  # tau jets are outside b, c, light
    return run


@pytest.fixture(scope="module")
def report(tagger, flavour_files, call_json, tmp_path_factory):
    """What is said of the test files, and the folder it is written into."""
    folder = tmp_path_factory.mktemp("judged") / "report"
    return call_json("eval", tagger, "--data", flavour_files / "test" / "*.root", "--out", folder), folder


def test_the_run_keeps_its_choices_and_settings(tagger):
    facts = json.loads((tagger / "run.json").read_text())
    assert facts["class_names"] == ["b", "c", "light"]
    chosen = facts["flavour"]
    assert 0 < chosen["vertex_threshold"] < 1
    assert chosen["chosen_on"] > 0
    for name, others in (("b", {"c", "light"}), ("c", {"b", "light"})):
        found = chosen["discriminants"][name]
        assert set(found["fractions"]) == others
        assert sum(found["fractions"].values()) == pytest.approx(1)
        cuts = [found["cuts"][key] for key in ("0.6", "0.65", "0.7", "0.77", "0.85", "0.9")]
        assert cuts == sorted(cuts, reverse=True)
    records = [json.loads(line) for line in (tagger / "metrics.jsonl").read_text().splitlines()]
    validated = next(record for record in records if "val_loss" in record)
    assert {f"val_{task}_loss" for task in ("jet", "origin", "vertex", "truth_pt")} <= set(validated)


def test_eval_has_rows_of_the_contract_and_what_flavour_adds(tagger, flavour_files, report, call_json):
    found, folder = report
    pairs = {(row["signal"], row["background"]) for row in found["rows"]}
    assert pairs == {("b", "c"), ("b", "light"), ("c", "b"), ("c", "light")}
    flavour = found["flavour"][0]
    stored = json.loads((tagger / "run.json").read_text())["flavour"]["discriminants"]
    assert flavour["discriminants"]["b"]["fractions"] == stored["b"]["fractions"]
    truth = uproot.concatenate([str(path) + ":tree" for path in (flavour_files / "test").glob("*.root")])
    assert flavour["origins"]["tracks"] == int(ak.sum(truth.part_origin >= 0))
    rows = np.array(flavour["origins"]["confusion"]).sum(axis=1)
    assert rows.tolist() == [int(ak.sum(truth.part_origin == k)) for k in range(8)]
    assert flavour["vertices"]["exclusive"]["light"]["true"] == 0
    assert (folder / "eval.json").is_file()
    names = {path.name for path in folder.iterdir()}
    assert {"flavour.md", "rejection_b.png", "pt_b.pdf", "origins.png", "fractions_b.png", "roc.png"} <= names
    words = ["eval", tagger, "--data", flavour_files / "test" / "*.root", "--discriminant", "b:c=0.3,light=0.7"]
    given = call_json(*words)
    assert given["flavour"][0]["discriminants"]["b"]["fractions"] == {"c": 0.3, "light": 0.7}


def test_heads_whose_truth_the_files_lack_are_named(tagger, flavour_files, jettag, tmp_path):
    """Classes are judged; nothing is said of heads that are."""
    for code, flavour in ((5, "b"), (4, "c"), (0, "light")):
        bare = without(with_truth(30, code, seed=70 + code), "part_origin", "jet_truth_pt")
        write_root(tmp_path / f"{flavour}.root", bare)
    code, _, err = jettag("eval", tagger, "--data", tmp_path / "*.root")
    assert code == 0, err
    assert "my-tagger: origins, vertices, regression not judged: the files lack its truth" in err
    code, _, err = jettag("eval", tagger, "--data", flavour_files / "test" / "*.root")
    assert (code, "not judged" in err) == (0, False)


def test_eval_judges_what_predict_says_of_a_regression(tagger, flavour_files, report, call_json, jettag, tmp_path):
    test = flavour_files / "test" / "*.root"
    call_json("predict", tagger, "--data", test, "--out", tmp_path / "p.parquet")
    source = uproot.concatenate([f"{path}:tree" for path in sorted((flavour_files / "test").glob("*.root"))])
    said = ak.from_parquet(tmp_path / "p.parquet").predicted_truth_pt
    response = np.asarray(said * source.jet_pt / source.jet_truth_pt)
    code, out, err = jettag("eval", tagger, "--data", test)
    assert code == 0, err
    assert "truth_pt, predicted / true, learnt divided by pt" in " ".join(out.split())
    found = json.loads((report[1] / "eval.json").read_text())["flavour"][0]["regression"]
    assert list(found) == ["truth_pt"]
    assert found["truth_pt"]["median"] == pytest.approx(np.median(response), rel=1e-5)
    assert found["truth_pt"]["jets"] == len(response)
    inside = np.count_nonzero((source.jet_pt >= 20) & (source.jet_pt < 6000))
    assert sum(row["jets"] for row in found["truth_pt"]["by_pt"]) == inside


def test_negated_impact_parameters_make_b_look_light_and_shuffled_ones_say_nothing(tagger, flavour_files, call_json):
    """Exactly so for the mean signed significance: its area is reflected, and is one half for tracks of anyone."""
    area = {}
    for how in ("kept", "negated", "shuffled"):
        found = call_json("eval", tagger, "--data", flavour_files / "test" / "*.root", "--impact", how)
        area[how] = found["flavour"][0]["discriminants"]["b"]["baseline_auc"]["light"]
    assert area["kept"] > 0.9
    assert area["negated"] == pytest.approx(1 - area["kept"], abs=1e-6)
    assert area["shuffled"] == pytest.approx(0.5, abs=0.12)


def test_predict_writes_what_puma_and_salt_read(tagger, flavour_files, call_json, tmp_path):
    test = flavour_files / "test" / "b.root"
    call_json("predict", tagger, "--data", test, "--out", tmp_path / "p.h5")
    call_json("predict", tagger, "--data", test, "--out", tmp_path / "p.root")
    call_json("predict", tagger, "--data", test, "--out", tmp_path / "p.parquet")
    source = uproot.open(test)["tree"].arrays()
    flat, arrow = uproot.open(tmp_path / "p.root")["tree"].arrays(), ak.from_parquet(tmp_path / "p.parquet")
    with h5py.File(tmp_path / "p.h5") as file:
        jets, tracks = file["jets"][:], file["tracks"][:]
        assert file["jets"].attrs["class_names"] == "b,c,light"
        assert json.loads(file["jets"].attrs["flavour"])["discriminants"]["b"]["fractions"]
    name = "my_tagger"
    for ours, theirs in (("b", "pb"), ("c", "pc"), ("light", "pu")):
        np.testing.assert_allclose(jets[f"{name}_{theirs}"], flat[f"score_{ours}"], rtol=1e-6)
        np.testing.assert_allclose(arrow[f"score_{ours}"], flat[f"score_{ours}"], rtol=1e-6)
    np.testing.assert_allclose(jets["pt"], 1000 * source.jet_pt, rtol=1e-5)
    assert jets["HadronConeExclTruthLabelID"].tolist() == [5] * 100
    assert jets["eventNumber"].tolist() == source.event_number.tolist()
    charged = source.part_charge != 0
    assert tracks["valid"].sum(axis=1).tolist() == ak.sum(charged, axis=1).tolist()
    valid = tracks["valid"]
    np.testing.assert_array_equal(tracks["mask"], ~valid)  # salt's is true of padding
    assert tracks["ftagTruthOriginLabel"][valid].tolist() == ak.flatten(source.part_origin[charged]).tolist()
    np.testing.assert_array_equal(tracks[f"{name}_aux_VertexIndex"], tracks["VertexIndex"])
    said = np.stack([tracks[f"{name}_p{origin}"] for origin in ORIGINS], -1)
    np.testing.assert_allclose(said[valid].sum(-1), 1, rtol=1e-5)
    assert tracks[f"{name}_aux_TrackOrigin"][valid].tolist() == said[valid].argmax(-1).tolist()
    assert (tracks["VertexIndex"][~valid] == -1).all()
    for table in (flat, arrow):
        is_track = table.part_is_track
        assert ak.all(table.part_index == ak.local_index(source.part_charge))  # written in descending pT already
        assert ak.all(is_track == charged)
        assert ak.flatten(table.part_predicted_vertex[is_track]).tolist() == tracks["VertexIndex"][valid].tolist()
        assert ak.all(table.part_predicted_vertex[~is_track] == -1)


def test_onnx_gives_tracks_and_vertices_for_any_number_of_them(tagger, flavour_files, call_json, jettag, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = call_json("export", tagger, "--format", "onnx", "--out", tmp_path / "t.onnx")
    assert found["max_difference"] < 1e-4
    assert list(found["metadata"]["outputs"]) == [
        "probabilities", "origin_probabilities", "vertex_probabilities", "vertex_index",
    ]  # fmt: skip
    assert found["metadata"]["flavour"]["vertex_threshold"] > 0
    session = onnxruntime.InferenceSession(str(tmp_path / "t.onnx"))
    test = flavour_files / "test" / "c.root"
    code, _, err = jettag("predict", tagger, "--data", test, "--out", tmp_path / "p.root")
    assert code == 0, err
    said = uproot.open(tmp_path / "p.root")["tree"].arrays()
    table = read_table(expand_inputs([str(test)]), load_card("generated"), features="flavour", labels=False)
    for rows in (np.arange(60), np.arange(60, 61)):
        batch = table.batch(rows)
        fed = {name: getattr(batch, name).numpy() for name in ("features", "p4", "mask")}
        jet, origin, pair, vertex = session.run(None, fed)
        np.testing.assert_allclose(jet[:, 0], said.score_b[rows], atol=1e-4)
        mask = batch.mask.numpy()
        np.testing.assert_allclose(origin[mask][:, 3], ak.flatten(said.part_pFromB[rows]), atol=1e-4)
        assert vertex[mask].tolist() == ak.flatten(said.part_predicted_vertex[rows]).tolist()
        np.testing.assert_allclose(pair, pair.transpose(0, 2, 1), atol=1e-6)


def test_a_backbone_of_large_jets_is_adapted_with_new_inputs_at_zero_weight(flavour_files, jettag, runs, tmp_path):
    """From fewer features, whose columns keep their places; the d0 that is fed has the sign the sets were made with."""
    train = flavour_files / "train" / "*.root"
    small = ["--set", "objective.target.codes=16", "--set", "objective.decoder={dim: 16, layers: 1, heads: 2}"]
    pretrain = ["pretrain", "mpm", "--card", "generated", "--data", train, *SMALL, *small, "--max-steps", 3]
    code, _, err = jettag(*pretrain, "--set", "data.features=jetclass_kinpid", "--out", tmp_path / "backbone")
    assert code == 0, err
    start = [*FLAVOUR, "--data", train, "--from", tmp_path / "backbone", "--max-steps", 1]
    code, _, err = jettag(*start, "--set", "adaptation.adapt_features=false", "--out", tmp_path / "refused")
    assert code == 5
    assert "--adapt-features" in err
    for mode, features in (("full", "flavour"), ("head", "flavour_500"), ("lora", "flavour")):
        run = tmp_path / mode
        scaled = ["--set", f"data.features={features}"]
        quiet = ["--set", "training.learning_rate=1e-9"]  # so that what is saved is what it began with
        code, _, err = jettag(*start, "--mode", mode, *quiet, *scaled, "--out", run)
        assert code == 0, err
        assert "part_d0sig_lifetime" in err
        assert "new ones start at zero weight" in err
    state, _, _ = load_model_state(tmp_path / "full")
    assert state["backbone.embedding.joining_linear.weight"].abs().max() < 1e-6
    place = feature_set("jetclass_full").names.index("part_d0")
    inputs = expand_inputs([str(flavour_files / "test" / "b.root")])
    read = {"features": "jetclass_full", "labels": False, "constituent_columns": ("d0",)}
    table = read_table(inputs, load_card("generated"), **read)
    np.testing.assert_allclose(table.features[:, place], np.tanh(-table.constituent["d0"]), atol=1e-6)


WRONG = {
    "no target": (without, "x", ["objective.regression={flight: {}}"], "--set objective.regression={}"),
    "a scheme that is none": (without, "x", ["objective.scheme=b_c_lihgt"], "did you mean b_c_light"),
    "classes the card lacks": (without, "x", ["objective.scheme=deepjet"], "label scheme deepjet"),
    "a class outside": (without, "x", ["classes=[b, top]"], "not in label scheme b_c_light"),
    "a mode without the heads": (without, "x", ["mode=probe"], "one linear layer"),
    "a class without jets": (without, "x", [], "no training jet of class c"),
    "codes of nobody": (dict, {"jet_flavour": np.full(40, 7, np.int32)}, [], "7 (40 jets)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_named_in_one_line(what, jettag, tmp_path):
    change, how, settings, said = WRONG[what]
    base = with_truth(40, 5, seed=1)
    columns = without(base, how) if change is without else base | how
    path = write_root(tmp_path / "jets.root", columns)
    words = [word for setting in settings for word in ("--set", setting)]
    code, _, err = jettag(*FLAVOUR, "--data", path, "--out", tmp_path / "run", *words)
    assert code in (2, 3, 4), err
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert said in line


SIGN, UNIT = "the sign of d0 looks opposite to the card's", "looks like cm where the card says mm"


@pytest.mark.parametrize(
    ("d0", "error", "told"), [(1, 1, ()), (-1, 1, (SIGN,)), (0.1, 0.1, (UNIT,)), (-0.1, 0.1, (SIGN, UNIT))]
)
def test_a_wrong_sign_or_unit_of_d0_is_told_before_the_training(d0, error, told, jettag, tmp_path):
    """Each in one line of its own, and nothing of what is right."""
    files = []
    for name, code in CODES.items():
        columns = with_truth(100, code, seed=code)
        columns |= {"part_d0val": d0 * columns["part_d0val"], "part_d0err": error * columns["part_d0err"]}
        files.append(write_root(tmp_path / f"{name}.root", columns))
    code, _, err = jettag(*FLAVOUR, "--data", *files, "--max-steps", 1, "--out", tmp_path / "run")
    assert code == 0, err
    warnings = [line for line in err.splitlines() if "warning: " in line and "d0" in line]
    assert len(warnings) == len(told), err
    for line, said in zip(warnings, told, strict=True):
        assert said in line


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--scheme", "resonance", "b, c, light do not add up to resonance"),
        ("--discriminant", "b:c=0.2,light=0.9", "fractions on the simplex"),
        ("--discriminant", "b:tau=1", "no class 'tau'"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_jets_are(option, value, said, tagger, flavour_files, jettag):
    code, _, err = jettag("eval", tagger, "--data", flavour_files / "test" / "b.root", option, value)
    assert code == 2
    assert said in err.replace("\n", " ")
    assert "jets/s" not in err


def test_origins_of_another_tool_are_refused(jettag, tmp_path):
    base = with_truth(40, 5, seed=1)
    path = write_root(tmp_path / "jets.root", base | {"part_origin": base["part_origin"] + 6})
    code, _, err = jettag(*FLAVOUR, "--data", path, "--out", tmp_path / "run")
    assert code == 4
    assert "none of the 8 classes" in err.splitlines()[-1]


@pytest.mark.parametrize("prepared", [False, True])
def test_files_bring_the_flavour_with_a_card_of_none(prepared, jettag, tmp_path):
    """Without labels, flavour and truth, as JetClass; from files, or from what was prepared of them."""
    given: dict[str, list[str]] = {"train": [], "val": []}
    for seed, part in enumerate(given):
        for name, code in reversed(CODES.items()):
            columns = without(
                with_truth(60, code, seed=10 * seed + code), "part_origin", "part_vertex", "label_", "jet_"
            )
            given[part].append(f"{name}:{write_root(tmp_path / f'{part}_{name}.root', columns)}")
    data = given
    if prepared:
        for part, files in given.items():
            words = ["--features", "flavour", "--split", "1:0:0", "--workers", 1, "--out", tmp_path / part]
            code, _, err = jettag("data", "prepare", "jetclass", *files, *words)
            assert code == 0, err
        data = {"train": [tmp_path / "train"], "val": [tmp_path / "val" / "train"]}
    words = [*FLAVOUR[:3], *SMALL, "--card", "jetclass", "--max-steps", 2, "--out", tmp_path / "run"]
    code, _, err = jettag(*words, "--data", *data["train"], "--val", *data["val"])
    assert code == 0, err
    assert "origin=null and vertex=null" in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["class_counts"] == dict.fromkeys(CODES, 60)
    for files in (data["val"], given["val"][:2]):
        code, out, err = jettag("eval", tmp_path / "run", "--data", *files, "--json")
        assert code == 0, err
        assert "origins" not in json.loads(out)["flavour"][0]
    code, _, err = jettag("predict", tmp_path / "run", "--data", *given["val"], "--out", tmp_path / "p.parquet")
    assert code == 0, err
    assert len(ak.from_parquet(tmp_path / "p.parquet")) == 180
    code, _, err = jettag("eval", tmp_path / "run", "--data", given["val"][0].replace("light:", "l:"))
    assert (code, err.strip().endswith("give files as CLASS:GLOB of b, c, light")) == (4, True), err


def test_prepared_jets_of_other_classes_are_refused(files, jettag, tmp_path):
    words = ["--features", "flavour", "--split", "1:0:0", "--workers", 1, "--out", tmp_path / "s"]
    code, _, err = jettag("data", "prepare", "jetclass", files / "train" / "*.root", *words)
    assert code == 0, err
    code, _, err = jettag(*FLAVOUR, "--data", tmp_path / "s", "--out", tmp_path / "run")
    assert code == 4
    assert err.strip().endswith("prepare CLASS:GLOB of b, c, light")
    assert "no class 'b', 'c', 'light'" in err


def test_classes_of_another_tool_are_matched_by_name_and_files_may_bring_theirs(jettag, tmp_path):
    """Order and codes of the card do not matter: ujets 0 first, taujets beside."""
    card = load_card("generated").model_dump(mode="json")
    card["labels"] = {
        "kind": "value",
        "branch": "jet_flavour",
        "classes": {"ujets": 0, "taujets": 15, "cjets": 4, "bjets": 5},
    }
    (tmp_path / "theirs.yaml").write_text(json.dumps(card))
    files = [write_root(tmp_path / f"{n}.root", with_truth(40, c, seed=c)) for n, c in CODES.items()]
    words = [*FLAVOUR[:3], *SMALL, *HEADS, "--max-steps", 1, "--json"]
    code, out, err = jettag(*words, "--card", tmp_path / "theirs.yaml", "--data", *files, "--out", tmp_path / "a")
    assert code == 0, err
    by_name = json.loads(out)["class_counts"]
    given = [f"{name}:{path}" for name, path in zip(CODES, files, strict=True)]
    code, out, err = jettag(*words, "--card", "generated", "--data", *given, "--out", tmp_path / "b")
    assert code == 0, err
    assert by_name == json.loads(out)["class_counts"]
    assert list(by_name) == ["b", "c", "light"]


def test_jets_without_constituents_get_the_answer_to_an_empty_jet(tagger, jettag, tmp_path):
    columns = with_truth(6, 5, seed=4)
    columns = {
        name: ak.where(np.arange(6) == 2, values[:, :0], values) if name.startswith("part_") else values
        for name, values in columns.items()
    }
    code, _, err = jettag(
        "predict", tagger, "--data", write_root(tmp_path / "e.root", columns), "--out", tmp_path / "p.h5"
    )
    assert code == 0, err
    with h5py.File(tmp_path / "p.h5") as file:
        scores = np.stack([file["jets"][f"score_{name}"] for name in CODES], -1)
        assert not file["tracks"]["valid"][2].any()
        # What the file says of the jet is there all the same: puma refuses files with NaN.
        np.testing.assert_allclose(file["jets"]["pt"], 1000 * columns["jet_pt"], rtol=1e-5)
        np.testing.assert_allclose(file["jets"]["eta"], columns["jet_eta"], rtol=1e-5)
        assert file["jets"]["HadronConeExclTruthLabelID"].tolist() == list(columns["jet_flavour"])
    np.testing.assert_allclose(scores.sum(-1), 1, rtol=1e-5)
