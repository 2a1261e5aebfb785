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


@pytest.mark.parametrize("name", ["jetclass_full", "jetclass_kin", "jetclass_kinpid"])
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
    published = {name: chosen.names for name, chosen in FEATURE_SETS.items() if name in sizes}
    assert {name: len(names) for name, names in published.items()} == sizes
    assert all(names[-2:] == ("part_deta", "part_dphi") for names in published.values())


def test_lifetime_signs_are_those_of_a_decay_in_flight_along_the_jet():
    """Tracks from a vertex ahead of the collision on the jet axis are positive, from one behind it negative.

    A straight line from the vertex: its closest points to the beam line, and there z, by geometry and not by a sign.
    """
    rng = np.random.default_rng(0)
    number = 200
    jet_phi, jet_eta = rng.uniform(-np.pi, np.pi, number), rng.uniform(-2, 2, number)
    phi, eta = jet_phi + rng.normal(0, 0.1, number), jet_eta + rng.normal(0, 0.1, number)
    flight = rng.choice([-1, 1], number) * rng.exponential(2.0, number) + 1e-3
    along = np.stack([np.cos(jet_phi), np.sin(jet_phi), np.sinh(jet_eta)]) / np.cosh(jet_eta)
    x, y, z = flight * along
    way = -(x * np.cos(phi) + y * np.sin(phi))  # from the vertex to the closest point
    closest = np.stack([x + way * np.cos(phi), y + way * np.sin(phi)])
    d0 = -closest[0] * np.sin(phi) + closest[1] * np.cos(phi)
    dz = z + way * np.sinh(eta)
    columns = {"pt": np.full(number, 3.0), "pz": 3.0 * np.sinh(eta), "charge": rng.choice([-1.0, 1.0], number)}
    columns |= {"d0": d0, "dz": dz, "d0_error": np.full(number, 0.02), "dz_error": np.full(number, 0.1)}
    columns |= {"dphi": phi - jet_phi, "deta": (eta - jet_eta) * np.where(jet_eta < 0, -1, 1), "jet_eta": jet_eta}
    told = {feature.name: feature.formula(columns) for feature in FEATURE_SETS["flavour"].features[-5:]}
    d0_signed, z0_signed = np.sinh(told["part_d0sig_lifetime"]), np.sinh(told["part_z0sig_lifetime"])
    np.testing.assert_allclose(d0_signed, np.sign(flight) * np.hypot(*closest) / 0.02, rtol=1e-6)
    # In z the turn in phi shortens the way to the beam line: it must be small against the difference in eta.
    clear = np.abs(np.sinh(eta) - np.sinh(jet_eta)) > np.abs(np.sinh(eta)) * (1 - np.cos(phi - jet_phi))
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(np.sign(z0_signed)[clear], np.sign(flight)[clear])
    np.testing.assert_allclose(np.abs(z0_signed), np.abs(dz) / 0.1, rtol=1e-6)
    np.testing.assert_allclose(told["part_z0sintheta"], np.tanh(dz / np.cosh(eta)), rtol=1e-6)
    np.testing.assert_allclose(told["part_qoverp"], columns["charge"] / (3.0 * np.cosh(eta)), rtol=1e-6)
    columns |= {"d0_error": np.zeros(number)}
    with np.errstate(all="raise"):
        assert not FEATURE_SETS["flavour"].features[-5].formula(columns).any()  # as of neutral constituents


@pytest.mark.parametrize("sorted_by_pt", [True, False])
def test_the_jet_s_pseudorapidity_stands_beside_each_constituent(tmp_path, sorted_by_pt):
    """Of a jet column, and of the constituents' sum where the file has none."""
    columns = make_columns(30, seed=2)
    if not sorted_by_pt:
        columns = {k: v[:, ::-1] if k.startswith("part_") else v for k, v in columns.items()}
    read = {"features": "flavour", "labels": False, "jet_columns": ("eta",)}
    for number, dropped in enumerate(((), ("jet_",))):
        path = tmp_path / f"jets{number}.root"
        write_tree(path, "tree", [without(columns, *dropped)], metadata={})
        table = read_table(expand_inputs([path]), load_card("generated"), **read)
        feature = table.features[:, table.feature_names.index("part_jet_abseta")]
        np.testing.assert_allclose(feature, np.repeat(np.abs(table.jet["eta"]) - 1, table.counts), atol=1e-6)


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
