"""Dijet events: the lighter jet first, masses that add up, the resonance where it was asked for."""

import awkward as ak
import numpy as np
import pandas as pd
import pytest
import uproot

from jettag.data.card import load_card
from jettag.data.inputs import expand_inputs
from jettag.data.jet_columns import read_jet_columns
from jettag.data.lhco import HIGH_LEVEL, LhcoFile, high_level_columns
from jettag.data.read import read_table
from jettag.errors import DataError, UsageError
from jettag.runs.lhco import convert_lhco
from jettag.simulate.dijets import DijetSettings, simulate_dijets

FEATURES = ["m_jj", "m_j1", "delta_m_j", "tau21_j1", "tau21_j2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dijets")
    settings = DijetSettings(
        ("dijet_resonance",), 40, mass=2500, width=25, daughters=(400, 150), mjj=(1000, 4000), detector="none"
    )
    return folder, simulate_dijets(settings, folder)


def test_the_resonance_and_its_daughters_have_the_masses_asked_for(made):
    _, summary = made
    tree = uproot.open(summary.files[0])["tree"]
    columns = tree.arrays([*FEATURES, "j1_mass", "j2_mass"], library="np")
    assert tree.num_entries == 40
    assert np.median(columns["m_jj"]) == pytest.approx(2500, rel=0.06)
    assert np.median(columns["j2_mass"]) == pytest.approx(400, rel=0.15)
    assert np.median(columns["m_j1"]) == pytest.approx(150, rel=0.25)
    assert (columns["delta_m_j"] >= 0).all()
    assert np.allclose(columns["delta_m_j"], columns["j2_mass"] - columns["j1_mass"], atol=1e-2)


def test_jets_are_the_sums_of_their_constituents_and_the_card_reads_them(made):
    _, summary = made
    tree = uproot.open(summary.files[0])["tree"].arrays()
    total = 0
    for side in ("j1", "j2"):
        parts = [ak.sum(tree[f"{side}_part_{name}"], axis=1) for name in ("energy", "px", "py", "pz")]
        total = total + np.stack([ak.to_numpy(part).astype(float) for part in parts])
    mass = np.sqrt(total[0] ** 2 - (total[1:] ** 2).sum(0))
    assert np.allclose(mass, tree["m_jj"], rtol=1e-4)
    read = read_jet_columns(expand_inputs([summary.files[0]]), load_card("dijets"), FEATURES, ["background", "signal"])
    assert (read.label == 1).all()
    assert np.array_equal(read.values["m_jj"], ak.to_numpy(tree["m_jj"]))


def test_settings_that_make_no_sense_are_one_line():
    for values, said in (
        ({"processes": ("dijet_qdc",)}, "dijet_qcd"),
        ({"daughters": (3000.0, 600.0)}, "cannot decay"),
        ({"width": 0.0}, "width 0"),
        ({"mjj": (3.0, 2.0)}, "LOW:HIGH"),
    ):
        with pytest.raises(UsageError, match=said):
            DijetSettings(**{"processes": ("dijet_qcd",), "events": 1} | values)


def lhco_rows(n, seed=0):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(n, 14)) * 500
    rows[:, [3, 10]] = random.uniform(50, 500, (n, 2))
    rows[:, [4, 5, 6, 11, 12, 13]] = random.uniform(0.1, 0.9, (n, 6))
    return rows


@pytest.mark.parametrize("kind", ["fixed", "table"])
def test_high_level_files_of_the_lhc_olympics(tmp_path, kind):
    rows = lhco_rows(30)
    frame = pd.DataFrame(rows, columns=list(HIGH_LEVEL))
    frame["label"] = (np.arange(30) % 3 == 0).astype(float)
    path = tmp_path / "features.h5"
    frame.to_hdf(path, key="df", format=kind)
    assert convert_lhco([path], tmp_path / "out.parquet") == 30
    read = read_jet_columns(
        expand_inputs([tmp_path / "out.parquet"]), load_card("dijets"), FEATURES, ["background", "signal"]
    )
    assert read.label.tolist() == frame["label"].astype(int).tolist()
    direct = read_jet_columns(expand_inputs([path]), load_card("lhco_features"), FEATURES, ["background", "signal"])
    assert direct.label.tolist() == read.label.tolist()
    assert all(np.array_equal(direct.values[name], read.values[name]) for name in FEATURES)
    table = read_table(expand_inputs([path]), load_card("lhco_features"), features="jetclass_kin", labels=False)
    summed = np.add.reduceat(table.p4, table.offsets[:-1])  # the two jets are the event's constituents
    assert np.allclose(summed[:, :3], rows[:, :3] + rows[:, 7:10], rtol=1e-4, atol=1e-2)
    frame.drop(columns="label").to_hdf(tmp_path / "box.h5", key="df", format=kind)  # as the black boxes are
    box = read_jet_columns(
        expand_inputs([tmp_path / "box.h5"]), load_card("lhco_features"), ["m_jj"], ["x"], default="x"
    )
    assert np.array_equal(box.values["m_jj"], direct.values["m_jj"])
    lighter = np.minimum(frame["mj1"], frame["mj2"])
    assert np.allclose(read.values["m_j1"], lighter)
    one = frame.iloc[0]
    energy = sum(
        np.sqrt(one[f"px{j}"] ** 2 + one[f"py{j}"] ** 2 + one[f"pz{j}"] ** 2 + one[f"m{j}"] ** 2) for j in ("j1", "j2")
    )
    momentum = sum((one[f"p{c}j1"] + one[f"p{c}j2"]) ** 2 for c in "xyz")
    assert read.values["m_jj"][0] == pytest.approx(np.sqrt(energy**2 - momentum), rel=1e-5)
    swapped = np.concatenate([rows[:, 7:], rows[:, :7]], axis=1)
    for name, values in high_level_columns(swapped).items():
        assert np.array_equal(values, high_level_columns(rows)[name]), name


def test_constituent_files_are_clustered_and_other_tables_refused(tmp_path):
    random = np.random.default_rng(1)
    rows = np.zeros((5, 21 * 3 + 1))
    for event in rows:
        for place in range(20):
            back = place % 2
            event[3 * place : 3 * place + 3] = (
                random.uniform(50, 100),
                random.normal(0, 0.2),
                random.normal(0, 0.2) + np.pi * back,
            )
        event[-1] = 1
    pd.DataFrame(rows).to_hdf(tmp_path / "events.h5", key="df")
    file = LhcoFile(tmp_path / "events.h5")
    assert (file.events, file.is_high_level, file.has_label) == (5, False, True)
    table = read_table(
        expand_inputs([tmp_path / "events.h5"]), load_card("lhco_constituents"), features="jetclass_kin", labels=True
    )
    assert table.label.tolist() == [1] * 5
    assert table.counts.tolist() == [20] * 5  # without the padding
    assert np.allclose(np.sort(np.hypot(*table.p4[:20, :2].T)), np.sort(rows[0, 0:60:3]), rtol=1e-5)
    assert convert_lhco([tmp_path / "events.h5"], tmp_path / "out.root") == 5
    tree = uproot.open(tmp_path / "out.root")["tree"].arrays()
    assert tree["label_signal"].tolist() == [True] * 5
    assert ak.all(ak.num(tree["j1_part_px"]) + ak.num(tree["j2_part_px"]) <= 20)
    pd.DataFrame({"x": [1.0]}).to_hdf(tmp_path / "other.h5", key="df")
    with pytest.raises(DataError, match="no pxj1"):
        LhcoFile(tmp_path / "other.h5")
    pd.DataFrame(np.zeros((2, 5))).to_hdf(tmp_path / "five.h5", key="df")
    with pytest.raises(DataError, match="neither columns"):  # three for each particle, and perhaps a label
        LhcoFile(tmp_path / "five.h5")
    with pytest.raises(DataError, match="no such file"):
        LhcoFile(tmp_path / "absent.h5")


def test_any_number_of_workers_makes_the_same_events(tmp_path):
    settings = DijetSettings(("dijet_qcd",), 30, mjj=(1000, 4000), detector="none", seed=5)
    one, two = (simulate_dijets(settings, tmp_path / str(n), workers=n).files[0] for n in (1, 2))
    first, second = (uproot.open(path)["tree"].arrays() for path in (one, two))
    for name in first.fields:
        assert ak.array_equal(first[name], second[name]), name
    assert not first["label_signal"][0]
    with pytest.raises(UsageError, match="exists already"):
        simulate_dijets(settings, tmp_path / "1")
