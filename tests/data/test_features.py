"""Features against the vector library, and against weaver-core itself."""

import logging

import awkward as ak
import numpy as np
import pytest
import vector

from jettag.data.card import load_card
from jettag.data.features import FEATURE_SETS, feature_set
from jettag.data.read import expand_inputs, read_events, read_table
from jettag.data.root import write_tree
from jettag.errors import RecipeError

from .make import CLASSES, make_columns, without

# What weaver is told in the published configuration, here rebuilt for ten constituents.
LENGTH = 10
STANDARDISED = {
    "part_pt_log": (1.7, 0.7),
    "part_e_log": (2.0, 0.7),
    "part_logptrel": (-4.7, 0.7),
    "part_logerel": (-4.7, 0.7),
    "part_deltaR": (0.2, 4.0),
}
ERRORS = ("part_d0err", "part_dzerr")
NEW = {
    "part_mask": "ak.ones_like(part_energy)",
    "part_pt": "np.hypot(part_px, part_py)",
    "part_pt_log": "np.log(part_pt)",
    "part_e_log": "np.log(part_energy)",
    "part_logptrel": "np.log(part_pt/jet_pt)",
    "part_logerel": "np.log(part_energy/jet_energy)",
    "part_deltaR": "np.hypot(part_deta, part_dphi)",
    "part_d0": "np.tanh(part_d0val)",
    "part_dz": "np.tanh(part_dzval)",
}


def weaver_features(path, names, tmp_path):
    """(J, F, LENGTH) features and (J, LENGTH) mask that weaver-core computes from the file."""
    dataset = pytest.importorskip("weaver.utils.dataset")
    inputs = []
    for name in names:
        if name in STANDARDISED:
            inputs.append([name, *STANDARDISED[name]])
        else:
            inputs.append([name, 0, 1, 0, 1] if name in ERRORS else [name, None])
    lines = ["new_variables:"]
    lines += [f"   {name}: {formula}" for name, formula in NEW.items()]
    lines += ["preprocess:", "   method: manual", "inputs:"]
    for group, variables in (("features", inputs), ("mask", [["part_mask", None]])):
        mode = "wrap" if group == "features" else "constant"
        lines += [f"   pf_{group}:", f"      length: {LENGTH}", f"      pad_mode: {mode}", "      vars:"]
        lines += [f"         - {str(variable).replace('None', 'null')}" for variable in variables]
    lines += ["labels:", "   type: simple", f"   value: [{', '.join(f'label_{name}' for name in CLASSES)}]"]
    config = tmp_path / "weaver.yaml"
    config.write_text("\n".join(lines) + "\n")
    logging.getLogger("weaver").setLevel(logging.ERROR)
    data = dataset.SimpleIterDataset(
        {"_": [str(path)]}, str(config), for_training=False, fetch_by_files=True, fetch_step=1, name="test"
    )
    rows = [x for x, _, _ in data]
    return np.stack([x["pf_features"] for x in rows]), np.stack([x["pf_mask"] for x in rows])[:, 0] > 0


@pytest.mark.parametrize("name", sorted(name for name, one in FEATURE_SETS.items() if one.jet_pt is None))
def test_features_are_those_of_weaver(tmp_path, name):
    path = tmp_path / "jets.root"
    write_tree(path, "tree", [make_columns(60, longest=LENGTH)], metadata={})
    table = read_table(expand_inputs([path]), load_card("jetclass"), features=name, labels=True)
    expected, mask = weaver_features(path, table.feature_names, tmp_path)
    assert np.array_equal(mask.sum(1), table.counts)
    ours = np.swapaxes(table.batch(np.arange(len(table))).features.numpy(), 1, 2)
    np.testing.assert_allclose(
        ours * mask[:, None, : ours.shape[2]],
        expected[:, :, : ours.shape[2]] * mask[:, None, : ours.shape[2]],
        atol=1e-6,
        rtol=0,
    )


def test_features_follow_from_the_momenta_by_the_vector_library(tmp_path):
    """A file without jet branches, deta and dphi: everything from vector's own jet."""
    columns = make_columns(50)
    path = tmp_path / "jets.root"
    write_tree(path, "tree", [without(columns, "jet_", "part_deta", "part_dphi", "label_")], metadata={})
    table = read_table(expand_inputs([path]), load_card("jetclass"), features="jetclass_kin", labels=False)
    names = ("px", "py", "pz", "energy")
    p4 = vector.zip({name: ak.values_astype(columns[f"part_{name}"], np.float64) for name in names})
    jet = ak.sum(p4, axis=1)
    expected = [
        0.7 * (np.log(p4.pt) - 1.7),
        0.7 * (np.log(p4.energy) - 2.0),
        0.7 * (np.log(p4.pt / jet.pt) + 4.7),
        0.7 * (np.log(p4.energy / jet.energy) + 4.7),
        4.0 * (p4.deltaR(jet) - 0.2),
        (p4.eta - jet.eta) * np.where(jet.eta < 0, -1, 1),
        p4.deltaphi(jet),
    ]
    for place, values in enumerate(expected):
        values = np.clip(ak.to_numpy(ak.flatten(values)), -5, 5)
        np.testing.assert_allclose(table.features[:, place], values, atol=2e-6, err_msg=table.feature_names[place])


def test_d0_has_the_atlas_sign_inside_and_jetclass_s_in_the_published_set(tmp_path):
    columns = make_columns(20)
    path = tmp_path / "jets.root"
    write_tree(path, "tree", [columns], metadata={})
    stored = ak.to_numpy(ak.flatten(columns["part_d0val"]))
    inside = ak.to_numpy(ak.flatten(read_events(path, "jetclass").constituents.d0))
    np.testing.assert_array_equal(inside, -stored)
    table = read_table(expand_inputs([path]), load_card("jetclass"), features="jetclass_full", labels=False)
    feature = table.features[:, table.feature_names.index("part_d0")]
    np.testing.assert_allclose(feature, np.tanh(stored), atol=1e-7)


def test_deta_and_dphi_come_last_in_every_set():
    sizes = {"jetclass_kin": 7, "jetclass_kinpid": 13, "jetclass_full": 17, "jetclass_full_500": 17}
    assert {name: len(features.names) for name, features in FEATURE_SETS.items()} == sizes
    assert all(features.names[-2:] == ("part_deta", "part_dphi") for features in FEATURE_SETS.values())


def test_an_unknown_set_is_answered_with_the_nearest():
    with pytest.raises(RecipeError, match="jetclass_kin"):
        feature_set("jetclass_kine")


def test_scaled_jets_look_alike_whatever_their_momentum_and_those_at_500_gev_are_left_alone():
    """All momenta of a jet times a constant are one jet; at its own pT it is that of the set without scaling."""
    rng = np.random.default_rng(0)
    pt = np.array([300.0, 150.0, 50.0])
    phi = rng.normal(0, 0.1, 3)
    columns = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * 0.3, "energy": pt * 1.2, "pt": pt}
    columns |= {"jet_pt": np.full(3, 500.0), "jet_energy": np.full(3, 600.0)}
    chosen, plain = FEATURE_SETS["jetclass_full_500"], FEATURE_SETS["jetclass_full"]
    others = {field: rng.normal(size=3) for field in chosen.fields}
    expected = plain(columns | others)
    assert chosen.names == plain.names
    for factor in (1.0, 0.1, 4.0):
        jet = {name: values * factor for name, values in columns.items()} | others
        scaled = chosen.scaled(jet)
        np.testing.assert_allclose(chosen(scaled), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scaled["px"], columns["px"])
    assert plain.scaled(columns) is columns
