"""Files of Delphes, and of sets made with it, with their traps, read back through the shipped cards."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_events, read_table

from .layouts import agree, classes, padded, records

h5py = pytest.importorskip("h5py")


def test_delphes(truth, tmp_path):
    counts, jet, track = truth
    path = tmp_path / "delphes.root"
    rng = np.random.default_rng(2)
    size = counts.reshape(8, 3).sum(axis=1)
    order = np.lexsort((rng.random(size.sum()), np.repeat(np.arange(8), size)))  # tracks of an event in any order
    names = {
        "PT": "pt",
        "Eta": "eta",
        "Phi": "phi",
        "DZ": "z0",
        "ErrorD0": "d0err",
        "ErrorDZ": "z0err",
        "Charge": "charge",
    }
    flat = {ours: track[name] for ours, name in names.items()} | {"D0": -track["d0"], "PID": 211 * track["charge"]}
    apart = {
        "PT": jet["pt"],
        "Eta": np.tile([-1.5, 0.0, 1.5], 8),
        "Phi": jet["phi"],
        "Mass": jet["mass"],
        "Flavor": jet["flavour"],
    }
    flat["Eta"] = track["deta"] + np.repeat(apart["Eta"], counts)
    kind = {"PID": np.int32, "Charge": np.int32, "Flavor": np.uint32}
    tree = {f"Track.{n}": ak.unflatten(v[order].astype(kind.get(n, np.float32)), size) for n, v in flat.items()}
    tree |= {f"Jet.{n}": ak.unflatten(v.astype(kind.get(n, np.float32)), 3) for n, v in apart.items()}
    with uproot.recreate(path) as file:
        file.mktree("Delphes", {name: ak.type(column).content for name, column in tree.items()}).extend(tree)
    table = classes(path, "delphes", truth)
    near = np.hypot(track["deta"], track["dphi"]) < 0.4
    owner = np.repeat(np.arange(24), counts)[near]
    assert np.diff(table.offsets).tolist() == np.bincount(owner)[np.bincount(owner) > 0].tolist()
    np.testing.assert_allclose(np.hypot(table.p4[:, 0], table.p4[:, 1]), track["pt"][near], rtol=1e-5)
    d0 = ak.to_numpy(ak.flatten(read_events(path, "delphes").constituents.d0))
    np.testing.assert_allclose(np.sort(d0), np.sort(track["d0"][near]), atol=1e-6)  # with the ATLAS and CMS sign


def test_delphes_flavour_has_its_own_order_of_origins(truth, tmp_path):
    counts, jet, track = truth
    owner = np.repeat(np.arange(24), counts)
    # Stored number of Pileup, Fake (there is none), Primary, FromB, FromBC, FromC, FromTau, OtherSecondary.
    origin = np.array([0, -1, 1, 3, 2, 4, 6, 7])[track["origin"]]
    consts = {
        "pt_frac": track["pt"] / jet["pt"][owner],
        "eta_rel": track["deta"],
        "phi_rel": track["dphi"],
        "d0": -track["d0"],
        "z0": track["z0"],
        "charge": track["charge"].astype("i4"),
        "truth_origin_label": origin.astype("i4"),
        "truth_vertex_idx": track["vertex"].astype("i4"),
        "is_charged_had": np.ones(len(owner), "i4"),
    }
    consts |= {f"is_{kind}": np.zeros(len(owner), "i4") for kind in ("neutral_had", "gamma", "electron", "muon")}
    path = tmp_path / "train.h5"
    with h5py.File(path, "w") as file:
        names = {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass"}
        order = np.array([{5: 0, 4: 1, 0: 2}[code] for code in jet["flavour"]])
        file["jets"] = records(
            {ours: jet[name].astype("f4") for ours, name in names.items()} | {"flavour_label": order}
        )
        file["jets"].attrs["flavour_label"] = ["bjets", "cjets", "ujets"]
        file["consts"] = padded(counts, consts)
    agree(path, "delphes_flavour", truth, origin=False, errors=False)
    found = ak.flatten(read_events(path, "delphes_flavour").constituents.origin)
    assert found.tolist() == np.where(track["origin"] == 1, -1, track["origin"]).tolist()
    classes(path, "delphes_flavour", truth)
    # The files have no errors: one for all makes significances of d0, and the default features of flavour tagging.
    table = read_table(expand_inputs([path]), load_card("delphes_flavour"), features="flavour", labels=True)
    column = table.features[:, table.feature_names.index("part_d0sig_lifetime")]
    np.testing.assert_allclose(np.abs(column), np.minimum(np.arcsinh(np.abs(track["d0"]) / 0.05), 5), atol=1e-4)


def test_secondary_vertex_finding(truth, tmp_path):
    counts, jet, track = truth
    path = tmp_path / "svf.root"
    names = {"pt": "pt", "eta": "eta", "phi": "phi", "d0": "d0", "d0err": "d0err", "z0": "z0", "z0err": "z0err"}
    tree = {f"trk_{ours}": ak.unflatten(track[name].astype(np.float32), counts) for ours, name in names.items()}
    tree |= {
        f"trk_{n}": ak.unflatten(track[m].astype(np.int32), counts)
        for n, m in (("charge", "charge"), ("vtx_index", "vertex"))
    }
    tree |= {
        f"jet_{n}": jet[m].astype(np.float32) for n, m in (("pt", "pt"), ("eta", "eta"), ("phi", "phi"), ("M", "mass"))
    }
    tree["jet_flav"] = jet["flavour"].astype(np.int32)
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: ak.type(ak.Array(column)).content for name, column in tree.items()}).extend(tree)
    agree(path, "secondary_vertex", truth, origin=False)
    classes(path, "secondary_vertex", truth)
