"""NanoAOD with PF candidates of CMS, with its traps, read back through the shipped card."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.data.read import read_events
from jettag.errors import DataError

from .layouts import classes

SAMPLE = Path("/work/shared/samples/cms_pfnano_10events.root")
PION = 0.13957


def write_pfnano(path, truth, *, shift=0):
    """Events of three jets; candidates in random order with strangers between, cm, and -1 where there is no track."""
    counts, jet, track = truth
    rng = np.random.default_rng(1)
    events = 8
    of_jet = counts.reshape(events, 3)
    size = of_jet.sum(axis=1)
    strangers = rng.integers(1, 5, events)
    columns = {name: [] for name in ("pt", "eta", "phi", "mass", "d0", "d0Err", "dz", "dzErr", "charge", "pdgId")}
    links = {"jetIdx": [], "pFCandsIdx": []}
    begin = np.concatenate([[0], np.cumsum(size)])
    for event in range(events):
        rows = slice(begin[event], begin[event + 1])
        more = strangers[event]
        mixed = rng.permutation(size[event] + more)
        none = np.full(more, -1.0)
        values = {
            "pt": np.r_[track["pt"][rows], np.full(more, 3.0)],
            "eta": np.r_[track["eta"][rows], np.full(more, 4.0)],
            "phi": np.r_[track["phi"][rows], np.zeros(more)],
            "mass": np.r_[np.full(size[event], PION), np.zeros(more)],
            "d0": np.r_[track["d0"][rows] / 10, none],
            "d0Err": np.r_[track["d0err"][rows] / 10, none],
            "dz": np.r_[track["z0"][rows] / 10, none],
            "dzErr": np.r_[track["z0err"][rows] / 10, none],
            "charge": np.r_[track["charge"][rows], np.zeros(more, int)],
            "pdgId": np.r_[211 * track["charge"][rows], np.full(more, 22)],
        }
        for name, column in values.items():
            columns[name].append(column[mixed])
        place = np.argsort(mixed)[: size[event]]
        links["jetIdx"].append(np.r_[np.repeat(np.arange(3), of_jet[event]), -1])  # and one link to nothing
        links["pFCandsIdx"].append(np.r_[place + shift, 0])
    tree = {
        f"PFCands_{name}": ak.values_astype(ak.Array(lists), np.int32 if name in ("charge", "pdgId") else np.float32)
        for name, lists in columns.items()
    }
    tree |= {f"JetPFCands_{name}": ak.values_astype(ak.Array(lists), np.int32) for name, lists in links.items()}
    names = {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass", "hadronFlavour": "flavour"}
    tree |= {
        f"Jet_{ours}": ak.unflatten(jet[name].astype(np.int32 if name == "flavour" else np.float32), 3)
        for ours, name in names.items()
    }
    tree |= {"event": jet["event"][::3].astype(np.uint64), "run": np.ones(events, dtype=np.uint32)}
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: ak.type(ak.Array(column)).content for name, column in tree.items()}).extend(tree)
    return path


def test_pfnano_joins_candidates_to_jets(truth, tmp_path, monkeypatch):
    path = write_pfnano(tmp_path / "nano.root", truth)
    monkeypatch.setattr("jettag.data.joined.EVENTS", 3)  # the last piece has two events
    table = classes(path, "cms_pfnano", truth, jet_columns=("event_number", "entry"))
    counts, jet, track = truth
    filled = counts > 0
    assert np.diff(table.offsets).tolist() == counts[filled].tolist()
    np.testing.assert_allclose(np.hypot(table.p4[:, 0], table.p4[:, 1]), track["pt"], rtol=1e-5)
    assert table.jet["event_number"].tolist() == jet["event"][filled].tolist()
    assert table.jet["entry"].tolist() == np.flatnonzero(filled).tolist()
    found = read_events(path, "cms_pfnano")
    order = np.argsort(ak.to_numpy(ak.flatten(found.constituents.pt)))
    np.testing.assert_allclose(
        ak.to_numpy(ak.flatten(found.constituents.d0))[order],
        track["d0"][np.argsort(track["pt"])],
        rtol=1e-3,
        atol=1e-6,
    )
    assert ak.all(found.constituents.is_charged_hadron)


def test_a_neutral_candidate_has_no_impact_parameter_instead_of_minus_one(truth, tmp_path):
    path = write_pfnano(tmp_path / "nano.root", truth, shift=0)
    with uproot.open(path) as file:
        columns = file["Events"].arrays()
    neutral = columns["PFCands_charge"] == 0
    first = ak.fill_none(ak.argmax(neutral, axis=1), 0)
    tree = {name: columns[name] for name in columns.fields if not name.startswith("n")}
    tree["JetPFCands_pFCandsIdx"] = ak.values_astype(
        ak.broadcast_arrays(first, columns["JetPFCands_jetIdx"])[0], np.int32
    )
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: ak.type(column).content for name, column in tree.items()}).extend(tree)
    found = ak.flatten(read_events(path, "cms_pfnano").constituents)
    assert ak.all(found.is_photon)
    assert not ak.any((found.d0 != 0) | (found.d0_error != 0) | (found.dz != 0) | (found.dz_error != 0))


def test_links_beyond_the_candidates_are_an_error(truth, tmp_path):
    path = write_pfnano(tmp_path / "nano.root", truth, shift=500)
    with pytest.raises(DataError, match=r"a link to candidate 5\d\d of the .* its event has"):
        classes(path, "cms_pfnano", truth)


def test_a_plain_nanoaod_has_no_links(truth, tmp_path):
    path = tmp_path / "nano.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"Jet_pt": "var * float32"}).extend({"Jet_pt": ak.Array([[30.0]])})
    with pytest.raises(DataError, match="no branch JetPFCands_jetIdx or JetPFCand_jetIdx, by which"):
        classes(path, "cms_pfnano", truth)


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of CMS events is not on this machine")
def test_real_cms_events():
    found = read_events(SAMPLE, "cms_pfnano")
    with uproot.open(SAMPLE) as file:
        tree = file["Events"].arrays(["Jet_pt", "Jet_rawFactor", "JetPFCands_jetIdx", "Jet_nConstituents"])
    assert len(found) == ak.count(tree["Jet_pt"])
    assert ak.num(found.constituents).tolist() == ak.flatten(tree["Jet_nConstituents"]).tolist()
    raw = ak.flatten(tree["Jet_pt"] * (1 - tree["Jet_rawFactor"]))
    px, py = ak.sum(found.constituents.px, axis=1), ak.sum(found.constituents.py, axis=1)
    np.testing.assert_allclose(np.hypot(px, py), raw, rtol=0.02)  # the candidates add up to the uncorrected jet
    prompt = abs(found.constituents.d0)[(found.constituents.charge != 0) & (found.constituents.pt > 1)]
    assert 0.001 < np.median(ak.flatten(prompt)) < 0.1  # mm, so cm were understood
