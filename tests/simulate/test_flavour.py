"""A small sample of top pairs under pile-up, judged by what experiments and their simulations know."""

import awkward as ak
import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_events, read_table
from jettag.data.root import read_metadata, write_tree
from jettag.simulate import chunk as chunk_module
from jettag.simulate.chunk import Maker, pythia_lines
from jettag.simulate.generator import _metadata
from jettag.simulate.processes import find_process
from jettag.simulate.settings import GenerateSettings

pytest.importorskip("pythia8mc")
SETTINGS = GenerateSettings(("ttbar",), 1, pileup=25.0, detector="atlas", seed=3)


@pytest.fixture(scope="session")
def made():
    """Columns of 120 events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jettag.simulate.pileup.LIBRARY", 60)
        patch.setattr(chunk_module, "chunk_events", lambda settings: 120)
        return Maker("ttbar", SETTINGS).make(0).columns


@pytest.fixture(scope="session")
def tracks(made):
    """(jet, origin, signed significance) of every track, and the flavour of its jet."""
    charged = made["part_charge"] != 0
    flavour = ak.flatten(ak.broadcast_arrays(made["jet_flavour"], made["part_charge"])[0][charged])
    d0, error, dphi = (ak.to_numpy(ak.flatten(made[f"part_{name}"][charged])) for name in ("d0val", "d0err", "dphi"))
    significance = np.sign(d0 * np.sin(dphi)) * np.abs(d0) / error
    return ak.to_numpy(flavour), ak.to_numpy(ak.flatten(made["part_origin"][charged])), significance


def test_jets_keep_the_cuts_of_the_process(made):
    assert ak.all((made["jet_pt"] >= 20) & (made["jet_pt"] <= 250) & (abs(made["jet_eta"]) < 2.5))
    assert 4 < len(made["jet_pt"]) / 120 < 6.5
    true = made["jet_truth_pt"] > 0
    assert np.mean(true) > 0.98
    assert np.median(made["jet_pt"][true] / made["jet_truth_pt"][true]) == pytest.approx(1.0, abs=0.05)
    events = np.unique(ak.to_numpy(made["event_number"]))
    assert len(events) < len(made["jet_pt"])  # several jets share an event
    assert 10 < np.mean(made["event_pileup"]) < 30  # of 25, those with a charged particle in the tracker


def test_flavours_of_top_pairs(made):
    flavour = ak.to_numpy(made["jet_flavour"])
    share = {value: np.mean(flavour == value) for value in (0, 4, 5, 15)}
    assert sum(share.values()) == pytest.approx(1.0)
    # ATLAS's open simulation: light 0.50, b 0.38, c 0.09, tau 0.04.
    assert 0.40 < share[0] < 0.65
    assert 0.22 < share[5] < 0.45
    assert 0.05 < share[4] < 0.16
    assert 0.002 < share[15] < 0.06
    assert np.mean(flavour == made["jet_flavour_ghost"]) > 0.95
    basic = {55: 5, 54: 5, 44: 4}
    for name in ("jet_flavour", "jet_flavour_ghost"):
        extended = ak.to_numpy(made[f"{name}_extended"])
        assert [basic.get(value, value) for value in extended.tolist()] == ak.to_list(made[name])


def test_a_labelled_jet_names_its_hadron(made):
    flavour = ak.to_numpy(made["jet_flavour"])
    heavy = np.isin(flavour, (4, 5))
    code = np.abs(ak.to_numpy(made["jet_hadron_pdgid"]))
    assert np.all(np.where(code > 1000, code // 1000 % 10, code // 100 % 10)[heavy] == flavour[heavy])
    assert np.all(code[flavour == 15] == 15)
    assert not code[flavour == 0].any()
    assert np.all(ak.to_numpy(made["jet_hadron_pt"])[heavy] > 5)
    assert np.all(made["jet_hadron_lxy"][heavy] > 0)
    beauty = flavour == 5
    ratio = ak.to_numpy(made["jet_hadron_pt"])[beauty] / ak.to_numpy(made["jet_pt"])[beauty]
    assert 0.6 < np.median(ratio) < 0.95


def test_origins_are_shared_as_in_full_simulation(tracks):
    flavour, origin, _ = tracks
    share = {
        value: np.bincount(origin[flavour == value], minlength=8) / np.sum(flavour == value) for value in (0, 4, 5)
    }
    assert share[0][[3, 4, 5]].sum() < 0.03
    assert 0.12 < share[4][5] < 0.40
    assert 0.15 < share[5][3] < 0.32
    assert 0.22 < share[5][4] < 0.42
    assert 1.1 < share[5][4] / share[5][3] < 1.9
    assert 0.003 < np.mean(origin == 1) < 0.02
    assert 0.01 < share[0][7] < 0.05
    assert np.mean(origin == 0) > 0.03
    assert np.bincount(origin, minlength=8).all()  # every class is there


def test_beauty_flies_and_light_jets_are_symmetric(tracks):
    flavour, origin, significance = tracks
    ahead = {value: np.mean(significance[flavour == value] > 3) for value in (0, 4, 5)}
    behind = {value: np.mean(significance[flavour == value] < -3) for value in (0, 4, 5)}
    assert ahead[0] < 0.05
    assert 0.03 < ahead[4] < 0.2
    assert 0.15 < ahead[5] < 0.45
    assert ahead[5] > 4 * behind[5]
    core = significance[(origin == 2) & (np.abs(significance) < 3)]
    assert 0.9 < np.std(core) < 1.1


def test_vertices_number_what_flew(made):
    vertex, origin = made["part_vertex"], made["part_origin"]
    assert ak.all(vertex[origin == 2] == 0)
    assert ak.all(vertex[(origin == 0) | (origin == 1)] == -2)
    assert ak.all(vertex[origin == -1] == -1)
    beauty = made["jet_flavour"] == 5
    from_b = (origin[beauty] == 3) | (origin[beauty] == 4)
    assert np.mean(vertex[beauty][from_b] > 0) > 0.9
    largest = ak.fill_none(ak.max(vertex, axis=1), 0)
    assert ak.all(largest < ak.num(vertex) + 1)


def test_tracks_pass_the_selection(made):
    charged = made["part_charge"] != 0
    pt = np.hypot(made["part_px"], made["part_py"])[charged]
    slant = abs(made["part_pz"])[charged] / pt
    assert ak.all(pt > 0.499)
    assert ak.all(abs(made["part_d0val"][charged]) < 3.5)
    assert ak.all(abs(made["part_dzval"][charged]) / np.sqrt(1 + slant**2) < 5.001)
    assert ak.all(made["part_nPixelHits"][charged] + made["part_nStripHits"][charged] >= 8)
    multiplicity = ak.sum(charged, axis=1)
    assert 4 < np.mean(multiplicity) < 10  # ATLAS's open simulation: 7.6


def test_ghost_association_gives_mostly_the_same_tracks(made, monkeypatch):
    monkeypatch.setattr("jettag.simulate.pileup.LIBRARY", 60)
    monkeypatch.setattr(chunk_module, "chunk_events", lambda settings: 15)
    counts = {}
    for association in ("cone", "ghost"):
        settings = GenerateSettings(("ttbar",), 1, association=association, seed=3)
        columns = Maker("ttbar", settings).make(0).columns
        counts[association] = ak.to_numpy(ak.sum(columns["part_charge"] != 0, axis=1))
    assert np.corrcoef(counts["cone"], counts["ghost"])[0, 1] > 0.7


def test_a_written_sample_is_read_by_its_card(made, tmp_path):
    path = tmp_path / "ttbar.root"
    write_tree(path, "tree", [made], metadata=_metadata("ttbar", SETTINGS, "8.3"))
    card = load_card("flavour")
    assert card.classes == ("b", "c", "light", "tau")
    table = read_table(
        expand_inputs([path]), card, features="jetclass_full", labels=True, jet_columns=("event_number", "hadron_lxy")
    )
    names = np.array(table.class_names)[table.label]
    codes = {"b": 5, "c": 4, "light": 0, "tau": 15}
    filled = ak.to_numpy(ak.num(made["part_px"]) > 0)
    assert [codes[name] for name in names] == ak.to_numpy(made["jet_flavour"])[filled].tolist()
    events = read_events(path, card)
    assert ak.all(events.constituents.d0 == -made["part_d0val"])
    assert {"n_pixel_hits", "origin", "vertex"} <= set(events.constituents.fields)
    facts = read_metadata(path)
    assert "extended" in facts["flavour"]
    assert facts["jets"].startswith("anti-kT R=0.4, 20 < pT < 250")


def test_the_hard_process_of_a_flavour_sample_has_no_cut_of_its_own():
    process = find_process("zprime")
    lines = [pythia_lines(process, GenerateSettings(("zprime",), 1), variant) for variant in range(8)]
    assert not any("pTHat" in line for part in lines for line in part)
    assert len({part[-3] for part in lines}) == 8
