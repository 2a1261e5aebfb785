"""Observables as targets, from the command line: shards train as files do, and what is missing is named."""

import json

from .conftest import SMALL, SMALL_DECODER

FEW = [*SMALL, *SMALL_DECODER, "--set", "objective.observables.names=[mass, nparticles]"]


def losses(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record["val_observables_loss"] for record in records if "val_observables_loss" in record]


def test_files_and_shards_give_batches_their_observables(files, call_json, tmp_path):
    train = sorted((files / "train").glob("*.root"))
    call_json("data", "prepare", "jetclass", *train, "--out", tmp_path / "shards", "--split", "80:10:10")
    for name, data in (("files", train), ("shards", [tmp_path / "shards"])):
        run = tmp_path / name
        call_json("pretrain", "mpm-observables", "--data", *data, "--out", run, "--max-steps", 4, *FEW)
        assert losses(run)
        assert all(0 < loss < 3 for loss in losses(run))  # of standardised numbers
        call_json("embed", run, "--data", files / "test" / "QCD.root", "--out", tmp_path / f"{name}.parquet")


def test_a_file_without_the_columns_is_named(files, jettag, tmp_path):
    source = files / "train" / "QCD.root"
    code, _, err = jettag("pretrain", "mpm-observables", "--data", source, "--out", tmp_path / "run", *SMALL)
    assert code == 4
    assert "jet_sdmass" in err
    assert "QCD.root" in err
    assert err.strip().splitlines()[-1].startswith("error: ")
