"""Converted files hold the same jets: read with the schema's card they give the numbers the originals gave."""

import numpy as np
import pytest
import uproot

from jettag.data.card import DataCard, load_card
from jettag.data.convert import convert
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.errors import UsageError

from .make import make_columns, without

SCHEMA = load_card("generated")
FLAGS = ("charged_hadron", "neutral_hadron", "photon", "electron", "muon")
FOREIGN = DataCard.model_validate(
    {
        "name": "foreign",
        "units": {"momentum": "MeV", "length": "um"},
        "constituents": {
            **{name: f"c_{name}" for name in ("px", "py", "pz", "energy")},
            "charge": "c_q",
            "d0": "c_d0",
            "d0_error": "c_d0e",
            "dz": {"branch": "c_dz", "unit": "mm"},
            "dz_error": {"branch": "c_dze", "unit": "mm"},
            **{
                f"is_{name}": f"c_{name}" for name in ("charged_hadron", "neutral_hadron", "photon", "electron", "muon")
            },
        },
        "jet": {"event_number": "event"},
        "labels": {"kind": "value", "branch": "truth", "classes": {"QCD": 0, "Tbqq": 1}},
    }
)


def foreign(seed, truth):
    """The jets of `make_columns` as someone else would store them: MeV, um, the ATLAS sign of d0, a class number."""
    columns = without(make_columns(40, seed=seed, dtype=np.float64), "label_", "jet_")
    renamed = {
        "charge": "q",
        "d0val": "d0",
        "d0err": "d0e",
        "dzval": "dz",
        "dzerr": "dze",
        "isChargedHadron": "charged_hadron",
    }
    renamed |= {"isNeutralHadron": "neutral_hadron", "isPhoton": "photon", "isElectron": "electron", "isMuon": "muon"}
    scale = dict.fromkeys(("px", "py", "pz", "energy", "d0err"), 1e3) | {"d0val": -1e3}
    result = {}
    for key, values in columns.items():
        name = key.removeprefix("part_")
        if name not in ("event_number", "deta", "dphi"):
            result[f"c_{renamed.get(name, name)}"] = values * scale.get(name, 1)
    return result | {"event": columns["event_number"], "truth": np.full(40, truth)}


@pytest.mark.parametrize("suffix", [".root", ".parquet"])
def test_a_converted_file_gives_the_same_jets(tmp_path, suffix):
    for seed in (0, 1):
        write_tree(tmp_path / f"{seed}.root", "tree", [foreign(seed, seed)], metadata={})
    inputs = expand_inputs([tmp_path / "*.root"])
    out = tmp_path / "out" / f"jets{suffix}"
    done = convert(inputs, FOREIGN, out)
    assert done.jets == 80
    options = {"features": "jetclass_full", "labels": True, "classes": ["QCD", "Tbqq"], "jet_columns": ["event_number"]}
    before = read_table(inputs, FOREIGN, **options)
    schema = SCHEMA.model_copy(
        update={"labels": SCHEMA.labels.model_copy(update={"classes": {n: f"label_{n}" for n in ("QCD", "Tbqq")}})}
    )
    after = read_table(expand_inputs([out]), schema, **options)
    np.testing.assert_array_equal(after.offsets, before.offsets)
    np.testing.assert_array_equal(after.label, before.label)
    np.testing.assert_array_equal(after.jet["event_number"], before.jet["event_number"])
    np.testing.assert_allclose(after.p4, before.p4, rtol=1e-6)
    np.testing.assert_allclose(after.features, before.features, atol=2e-5)
    # d0 is stored with JetClass's sign, which is how `make_columns` had it.
    original = make_columns(40, seed=0)["part_d0val"][0]
    if suffix == ".root":
        np.testing.assert_allclose(uproot.open(out)["tree/part_d0val"].array()[0], original, rtol=1e-6)


def test_other_suffixes_and_the_file_itself_are_refused(tmp_path):
    path = tmp_path / "a.root"
    write_tree(path, "tree", [make_columns(10)], metadata={})
    with pytest.raises(UsageError, match=r"end it in \.root or \.parquet"):
        convert(expand_inputs([path]), SCHEMA, tmp_path / "a.csv")
    with pytest.raises(UsageError, match="one of the files to read"):
        convert(expand_inputs([path]), SCHEMA, path)


def test_what_is_in_the_schema_already_stays_as_it_is(tmp_path):
    write_tree(tmp_path / "a.root", "tree", [make_columns(30)], metadata={})
    done = convert(expand_inputs([tmp_path / "a.root"]), SCHEMA, tmp_path / "b.root")
    assert {"part_d0val", "part_isMuon", "jet_pt", "jet_mass", "event_number", "label_Tbl"} <= set(done.branches)
    tables = [
        read_table(expand_inputs([tmp_path / name]), SCHEMA, features="jetclass_full", labels=True)
        for name in ("a.root", "b.root")
    ]
    np.testing.assert_array_equal(tables[0].features, tables[1].features)
    np.testing.assert_array_equal(tables[0].p4, tables[1].p4)
