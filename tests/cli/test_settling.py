"""What a recipe leaves to jettag is chosen from files and backbone, told, and written into the run's recipe."""

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from ..data.make import make_columns
from .conftest import SMALL, SMALL_DECODER, widened, write_root

STEPS = ["--max-steps", 2, "--set", "data.val_fraction=0.2"]


@pytest.fixture(scope="module")
def momenta(tmp_path_factory):
    """Files with nothing but four-momenta and a label: card top_landscape's."""
    folder = tmp_path_factory.mktemp("momenta")
    for seed, (name, factor) in enumerate({"QCD": 1.0, "Tbqq": 3.0}.items()):
        columns = widened(make_columns(60, seed=seed), factor)
        kept = {f"part_{axis}": columns[f"part_{axis}"] for axis in ("px", "py", "pz", "energy")}
        write_root(folder / f"{name}.root", kept | {"label": np.full(60, seed, np.int32)})
    return [folder / "QCD.root", folder / "Tbqq.root"]


@pytest.fixture(scope="module")
def kin(momenta, jettag, tmp_path_factory):
    """A tagger from scratch on them, and what the command said."""
    run = tmp_path_factory.mktemp("kin") / "run"
    words = ["--task", "top", "--card", "top_landscape", "--data", *momenta, *SMALL, *STEPS]
    code, _, err = jettag("finetune", *words, "--out", run)
    assert code == 0, err
    return run, err


def recipe_of(run):
    return yaml.safe_load((run / "recipe.yaml").read_text())


def taken(run):
    return recipe_of(run)["data"]["features"]


def weights(run):
    return load_file(run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip() / "model.safetensors")


def test_files_of_momenta_give_their_richest_set(kin, momenta, call_json, jettag, tmp_path):
    run, err = kin
    said = "data.features: auto takes jetclass_kin, the richest that card top_landscape and these files give"
    assert err.count(said) == 1
    assert taken(run) == "jetclass_kin"
    assert call_json("eval", run, "--data", *momenta)["rows"]
    predict = ["predict", run, "--data", *momenta, "--out", tmp_path / "scores.parquet"]
    assert [jettag(*predict, *more)[0] for more in ([], [], ["--overwrite"])] == [0, 2, 0]
    code, _, err = jettag(
        *("finetune", "--card", "top_landscape", "--data", *momenta, "--out", tmp_path / "full"),
        *("--set", "data.features=jetclass_full"),
    )
    assert code == 3
    assert "it can give features jetclass_kin" in err


def test_the_runs_recipe_repeats_the_run_and_auto_resumes_it(kin, momenta, call_json, jettag, tmp_path):
    run, err = kin
    assert "backbone.size: auto takes tiny on cpu" in err
    assert recipe_of(run)["backbone"]["size"] == "tiny"
    words = ["finetune", "--card", "top_landscape", "--data", *momenta, *STEPS]
    call_json(*words, "--recipe", run / "recipe.yaml", "--out", tmp_path / "again")
    ours, theirs = weights(tmp_path / "again"), weights(run)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert recipe_of(tmp_path / "again") == recipe_of(run)
    code, _, err = jettag(*words, *SMALL, "--max-steps", 4, "--out", tmp_path / "again", "--resume")
    assert code == 0, err
    assert "auto takes jetclass" not in err
    begun = recipe_of(tmp_path / "again")
    begun["backbone"]["size"] = "auto"  # as it was written before
    (tmp_path / "again" / "recipe.yaml").write_text(yaml.safe_dump(begun))
    code, _, err = jettag(*words, *SMALL, "--max-steps", 5, "--out", tmp_path / "again", "--resume")
    assert code == 0, err


def test_a_backbone_brings_its_own_features(kin, runs, files, momenta, jettag, tmp_path):
    train = sorted((files / "train").glob("*.root"))
    words = ["finetune", *SMALL, *STEPS]
    for name, more, features in (("own", [], "jetclass_kin"), ("richer", ["--adapt-features"], "jetclass_full")):
        code, _, err = jettag(*words, "--from", kin[0], "--data", *train, *more, "--out", tmp_path / name)
        assert code == 0, err
        assert f"auto takes {features}" in err
        assert taken(tmp_path / name) == features
    # The recipe tells the backbone's own shape, whatever it said of one from scratch.
    backbone = recipe_of(tmp_path / "own")["backbone"]
    assert (backbone["size"], backbone["settings"]["dim"]) == ("tiny", 16)
    words += ["--card", "top_landscape", "--data", *momenta, "--from", runs / "pretrain", "--out", tmp_path / "poorer"]
    code, _, err = jettag(*words)
    assert code == 4
    assert "the network takes features jetclass_full, and these files give jetclass_kin at most" in err
    code, _, err = jettag(*words, "--adapt-features")
    assert code == 0, err
    assert taken(tmp_path / "poorer") == "jetclass_kin"
    code, _, err = jettag(*words, "--adapt-features", "--resume", "--max-steps", 3)
    assert code == 0, err


def test_prepared_shards_give_what_they_hold(runs, momenta, files, jettag, call_json, tmp_path):
    shards = tmp_path / "shards"
    words = ["--out", shards, "--split", "80:10:10", "--workers", 1]
    assert call_json("data", "prepare", "top_landscape", *momenta, *words)["features"] == "jetclass_kin"
    train = files / "train" / "*.root"
    words[1] = tmp_path / "full"
    assert call_json("data", "prepare", "jetclass", train, *words)["features"] == "jetclass_full"
    code, _, err = jettag("pretrain", "mpm", "--data", shards, *SMALL, *SMALL_DECODER, *STEPS, "--out", tmp_path / "p")
    assert code == 0, err
    assert "data.features: auto takes jetclass_kin, as prepared" in err
    words = ["finetune", "--data", shards, "--from", runs / "pretrain", "--out", tmp_path / "f", *SMALL, *STEPS]
    code, _, err = jettag(*words)
    assert code == 4
    assert "prepared with features jetclass_kin where the network takes jetclass_full" in err
    code, _, err = jettag(*words, "--adapt-features")
    assert code == 0, err


def test_a_scan_takes_one_set_for_all_its_points(momenta, jettag, tmp_path):
    test = [tmp_path / f"{path.stem}.root" for path in momenta]
    for seed, (name, path) in enumerate(zip(("QCD", "Tbqq"), test, strict=True)):
        columns = make_columns(40, seed=7 + seed, class_name=name)
        kept = {f"part_{axis}": columns[f"part_{axis}"] for axis in ("px", "py", "pz", "energy")}
        write_root(path, kept | {"label": np.full(40, seed, np.int32)})
    code, _, err = jettag(
        *("scan", "labels", "--card", "top_landscape", "--labels", "20", "--seeds", 2, "--modes", "scratch", *SMALL),
        *("--min-steps", 2, "--max-steps", 2, "--data", *momenta, "--test", *test, "--out", tmp_path / "scan"),
    )
    assert code == 0, err
    assert err.count("data.features: auto takes jetclass_kin") == 1
    assert taken(tmp_path / "scan" / "runs" / "scratch-20-seed1") == "jetclass_kin"


def test_validate_counts_with_what_the_card_gives(call_json):
    def parameters(*more):
        return call_json("validate", "top", *more)["parameters"]["tiny"]

    names = [f"data.features={name}" for name in ("jetclass_kin", "jetclass_full")]
    of_kin, of_full = (parameters("--set", name) for name in names)
    assert parameters() == of_full != of_kin
    assert parameters("--set", "data.card=top_landscape") == of_kin
