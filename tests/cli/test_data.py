"""jettag data: tables for people, one JSON object for scripts, exit 4 for a file that does not keep its card."""

import json

import awkward as ak
import numpy as np
import pytest
from jettag_cli.data import app
from typer.testing import CliRunner

from jettag.config import list_shipped
from jettag.data.card import load_card
from jettag.data.root import write_tree

from ..data.make import make_columns, without


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def lifetime(columns, sign):
    """The columns with d0 as long-lived decays make it: ahead of the jet, in the convention of ``sign``."""
    ahead = -np.sign(columns["part_dphi"]) * (1 + abs(columns["part_d0val"]))
    return columns | {
        "part_d0val": ak.values_astype(sign * ahead, np.float32),
        "part_d0err": ak.values_astype(0.05 * ak.ones_like(ahead), np.float32),
    }


@pytest.fixture
def files(tmp_path):
    write_tree(tmp_path / "qcd.root", "tree", [lifetime(make_columns(30), sign=-1)], metadata={})
    write_tree(
        tmp_path / "top.root",
        "tree",
        [without(make_columns(20, seed=1, class_name="Tbqq"), "part_d0val")],
        metadata={},
    )
    return tmp_path


def test_ls_names_every_shipped_card():
    cards = json.loads(run("ls", "--json").stdout)["cards"]
    assert [card["name"] for card in cards] == sorted(list_shipped("data_cards"))
    assert "top_landscape" in run("ls").stdout


def test_show_is_a_card_again(tmp_path):
    path = tmp_path / "copy.yaml"
    path.write_text(run("show", "jetclass").stdout)
    assert run("show", path).stdout == path.read_text()
    assert json.loads(run("show", path, "--json").stdout)["card"] == load_card("jetclass").model_dump(mode="json")
    assert "null" not in path.read_text()
    assert "tree: null" in run("show", "top_landscape").stdout  # not null by default
    assert "no card named 'jetklass'" in run("show", "jetklass", code=3).stderr


def test_check_counts_the_classes_that_a_file_has(tmp_path):
    columns = make_columns(30)
    others = [name for name in columns if name.startswith("label_") and name not in ("label_QCD", "label_Tbqq")]
    place = np.arange(30)
    labels = {"label_QCD": place < 10, "label_Tbqq": place >= 14}
    write_tree(tmp_path / "two.root", "tree", [without(columns, *others) | labels], metadata={})
    result = run("check", "jetclass", tmp_path / "two.root", "--json")
    report = json.loads(result.stdout)["files"][0]
    assert report["classes"] == {"QCD": 10, "Tbqq": 16}
    assert report["notes"] == {"jets_of_none_of_these_classes": 4}


def test_check_counts_what_it_read(files):
    result = run("check", "jetclass", files / "qcd.root", files / "top.root", files / "qcd.root", "--json")
    found = json.loads(result.stdout)
    assert found["jets"] == 50
    assert found["classes"] == {"QCD": 30, "Tbqq": 20}
    assert found["repeated_files"] == 1
    qcd, top = found["files"]
    with_hits = {name: said for name, said in qcd["features"].items() if name.startswith("gn2")}
    assert {said for name, said in qcd["features"].items() if name not in with_hits} == {"ok"}
    assert set(with_hits.values()) == {"constituents.n_pixel_hits is needed and missing"}  # JetClass has no hits
    assert top["features"]["jetclass_full"] == "no branch part_d0val"
    assert top["features"]["jetclass_kinpid"] == "ok"
    counts = make_columns(30)["jet_nparticles"]
    assert qcd["constituents_mean"] == pytest.approx(counts.mean())
    assert qcd["problem"] is None
    text = run("check", "jetclass", files / "*.root")
    assert "Tbqq 20" in text.stdout
    assert "no branch part_d0val" in text.stderr


def test_check_sees_a_d0_of_the_other_sign(files):
    verdict = json.loads(run("check", "jetclass", files / "qcd.root", "--json").stdout)["d0_sign"]["verdict"]
    assert verdict == "agrees"
    write_tree(files / "flipped.root", "tree", [lifetime(make_columns(30), sign=1)], metadata={})
    result = run("check", "jetclass", files / "flipped.root", code=4)
    assert "sign of d0 is opposite to the card's" in result.stderr


def test_check_goes_on_after_a_bad_file_and_exits_with_4(files):
    (files / "bad.root").write_bytes(b"<html>")
    result = run("check", "jetclass", files / "bad.root", files / "qcd.root", "--json", code=4)
    bad, good = json.loads(result.stdout)["files"]
    assert "not a ROOT file" in bad["problem"]
    assert good["jets"] == 30
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "bad.root" in errors[0]


def test_check_of_nothing(tmp_path):
    assert "no file matches" in run("check", "jetclass", tmp_path / "*.root", code=4).stderr
