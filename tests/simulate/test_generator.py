import multiprocessing
import os
import signal

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.data.root import read_metadata
from jettag.errors import RecipeError, ResourceError, UsageError
from jettag.simulate import GenerateSettings, generate, simulate
from jettag.simulate import chunk as chunk_module
from jettag.simulate.chunk import Maker
from jettag.simulate.processes import LABELS
from jettag.simulate.workers import MAX_EMPTY, Workers, check_acceptance

pytest.importorskip("pythia8mc")

BRANCHES = [
    "part_px",
    "part_py",
    "part_pz",
    "part_energy",
    "part_deta",
    "part_dphi",
    "part_d0val",
    "part_d0err",
    "part_dzval",
    "part_dzerr",
    "part_charge",
    "part_isChargedHadron",
    "part_isNeutralHadron",
    "part_isPhoton",
    "part_isElectron",
    "part_isMuon",
    "jet_pt",
    "jet_eta",
    "jet_phi",
    "jet_energy",
    "jet_mass",
    "jet_sdmass",
    "jet_nparticles",
    "jet_tau1",
    "jet_tau2",
    "jet_tau3",
    "jet_tau4",
    "event_number",
    "jet_flavour",
    "part_origin",
    "part_vertex",
    "jet_truth_pt",
    "jet_truth_eta",
    "jet_truth_phi",
    "jet_truth_mass",
]


def read(path):
    return uproot.open(path)["tree"].arrays()


def same(first, second):
    assert first.fields == second.fields
    return all(ak.all(first[name] == second[name]) and len(first) == len(second) for name in first.fields)


@pytest.fixture(scope="module")
def tops(tmp_path_factory):
    """Forty top jets in two files."""
    out = tmp_path_factory.mktemp("tops")
    told = []
    settings = GenerateSettings(("Tbqq",), 40, seed=5, jets_per_file=30)
    files = generate(settings, out, on_progress=told.append)
    return settings, files, told


@pytest.fixture(scope="module")
def jets(tops):
    return ak.concatenate([read(path) for path in tops[1]])


def test_files_are_split_and_hold_what_was_asked_for(tops):
    _, files, told = tops
    assert [path.name for path in files] == ["Tbqq_000.root", "Tbqq_001.root"]
    assert [len(read(path)) for path in files] == [30, 10]
    assert told[-1] == 40
    assert told == sorted(told)
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["Tbqq_000.root", "Tbqq_001.root"]


def test_the_schema_is_the_contract_s(jets):
    assert set(BRANCHES) | set(LABELS) <= set(jets.fields)
    labels = np.stack([ak.to_numpy(jets[name]) for name in LABELS], axis=1)
    assert np.all(labels.sum(axis=1) == 1)
    assert np.all(labels[:, LABELS.index("label_Tbqq")] == 1)


def test_constituents_sum_to_the_jet(jets):
    px, py, pz, energy = (ak.to_numpy(ak.sum(jets[f"part_{name}"], axis=1)) for name in ("px", "py", "pz", "energy"))
    assert np.hypot(px, py) == pytest.approx(ak.to_numpy(jets.jet_pt), rel=1e-5)
    assert np.arcsinh(pz / np.hypot(px, py)) == pytest.approx(ak.to_numpy(jets.jet_eta), abs=1e-5)
    assert energy == pytest.approx(ak.to_numpy(jets.jet_energy), rel=1e-5)
    assert ak.all(ak.num(jets.part_px) == jets.jet_nparticles)


def test_jets_are_within_the_cuts_and_contain_a_top(jets):
    assert ak.all((jets.jet_pt >= 500) & (jets.jet_pt <= 1000) & (abs(jets.jet_eta) < 2))
    assert ak.all(jets.jet_truth_mass > 100)
    d_phi = np.angle(np.exp(1j * ak.to_numpy(jets.jet_phi - jets.jet_truth_phi)))
    assert np.all(np.hypot(ak.to_numpy(jets.jet_eta - jets.jet_truth_eta), d_phi) < 0.8)
    assert np.mean(jets.jet_flavour == 5) > 0.9
    assert 100 < np.median(jets.jet_sdmass) < 200


def test_relative_angles_are_jetclass_s(jets):
    eta = np.arcsinh(jets.part_pz / np.hypot(jets.part_px, jets.part_py))
    expected = np.where(jets.jet_eta > 0, 1, -1) * (eta - jets.jet_eta)
    assert ak.max(abs(jets.part_deta - expected)) < 1e-4
    phi = np.arctan2(jets.part_py, jets.part_px)
    assert ak.max(abs(np.cos(jets.part_dphi) - np.cos(phi - jets.jet_phi))) < 1e-4
    assert ak.max(abs(jets.part_dphi)) < 2.0


def test_every_constituent_has_one_identity_and_neutral_ones_no_track(jets):
    kinds = sum(
        ak.values_astype(jets[f"part_is{kind}"], int)
        for kind in ("ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon")
    )
    assert ak.all(kinds == 1)
    neutral = jets.part_charge == 0
    assert ak.all((jets.part_isPhoton | jets.part_isNeutralHadron) == neutral)
    for name in ("d0val", "d0err", "dzval", "dzerr"):
        assert ak.all(jets[f"part_{name}"][neutral] == 0)
    assert ak.all(jets.part_d0err[~neutral] > 0)
    assert ak.all((jets.part_origin == -1) == neutral)
    assert ak.all((jets.part_vertex == -1) == neutral)


def test_metadata_say_how_to_make_the_file_again(tops):
    facts = read_metadata(tops[1][0])
    assert facts["seed"] == "5"
    assert facts["process"] == "Tbqq"
    assert "Top:gg2ttbar = on" in facts["pythia"]
    assert facts["detector"] == "cms"
    assert facts["generator"].startswith("Pythia 8.")
    for key in ("jettag", "tune", "jets", "d0_convention"):
        assert facts[key]


def test_two_workers_and_another_split_give_the_same_jets(tops, jets, tmp_path):
    settings = GenerateSettings(("Tbqq",), 40, seed=5)
    with Workers(2) as pool:
        columns = [chunk.columns for chunk in pool.chunks("Tbqq", settings, 40)]
    for name in jets.fields:
        if name != "npart":
            assert ak.all(ak.concatenate([c[name] for c in columns])[:40] == jets[name]), name


def test_a_worker_that_dies_ends_the_run_with_one_line():
    settings = GenerateSettings(("QCD",), 10_000)
    with Workers(2) as pool:
        chunks = pool.chunks("QCD", settings, 10_000)
        assert next(chunks).jets
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(ResourceError, match="worker process died"):
            list(chunks)


def test_other_seeds_give_other_jets(tops, jets):
    other = Maker("Tbqq", GenerateSettings(("Tbqq",), 1, seed=6)).make(0).columns
    assert not np.isin(ak.to_numpy(other["jet_pt"]), ak.to_numpy(jets.jet_pt)).any()


def test_a_chunk_does_not_depend_on_what_was_made_before(monkeypatch):
    monkeypatch.setattr(chunk_module, "EVENTS", 5)
    settings = GenerateSettings(("Hqql",), 1)
    maker = Maker("Hqql", settings)
    used = [maker.events(index)[0] for index in range(4)][3]
    fresh = Maker("Hqql", settings).events(3)[0]
    assert np.array_equal(used.p4, fresh.p4)
    assert np.array_equal(used.pdg, fresh.pdg)


def test_pile_up_adds_soft_neutral_energy_and_close_tracks(monkeypatch):
    monkeypatch.setattr(chunk_module, "EVENTS", 20)
    monkeypatch.setattr("jettag.simulate.pileup.LIBRARY", 40)
    monkeypatch.setattr(chunk_module, "chunk_events", lambda settings: 20)
    made = {mu: Maker("QCD", GenerateSettings(("QCD",), 1, pileup=mu)).make(0).columns for mu in (0.0, 30.0)}
    neutral = {mu: float(np.mean(ak.sum(c["part_charge"] == 0, axis=1))) for mu, c in made.items()}
    assert neutral[30.0] > neutral[0.0] + 3
    origin = ak.flatten(made[30.0]["part_origin"])
    pile_up = np.mean(origin[origin >= 0] == 0)
    assert pile_up < 0.05  # far tracks are removed; those within 0.1 mm stay, and are known for what they are
    assert not ak.any(made[0.0]["part_origin"] == 0)


def test_existing_files_are_not_replaced_unless_asked(tops, tmp_path):
    settings, files, _ = tops
    with pytest.raises(UsageError, match="--overwrite"):
        generate(settings, files[0].parent)
    (tmp_path / "QCD.root").write_text("mine")
    with pytest.raises(UsageError, match=r"QCD\.root"):
        generate(GenerateSettings(("QCD",), 1), tmp_path)
    assert (tmp_path / "QCD.root").read_text() == "mine"


def test_a_cut_that_nothing_passes_stops_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("jettag.simulate.workers.MAX_EMPTY", 20)
    monkeypatch.setattr(chunk_module, "EVENTS", 10)
    settings = GenerateSettings(("Hbb",), 5, radius=0.05, pt_max=600.0)
    with pytest.raises(RecipeError, match=r"no jet of Hbb out of 20 events passed \(acceptance 0") as caught:
        simulate(settings, tmp_path)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_acceptance_is_judged_by_the_jets_found():
    settings = GenerateSettings(("QCD",), 10)
    check_acceptance("QCD", settings, MAX_EMPTY - 1, 0)
    check_acceptance("QCD", settings, 10 * MAX_EMPTY, 10)
    with pytest.raises(RecipeError, match="2 jets of QCD"):
        check_acceptance("QCD", settings, 3 * MAX_EMPTY, 2)


def test_folders_that_cannot_be_used(tmp_path):
    settings = GenerateSettings(("QCD",), 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="found a file"):
        generate(settings, tmp_path / "file")
    with pytest.raises((UsageError, ResourceError)):
        generate(settings, tmp_path / "file" / "below")
    with pytest.raises(UsageError, match="--workers"):
        generate(settings, tmp_path, workers=0)


def test_a_missing_generator_names_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pythia8mc", None)
    with pytest.raises(ResourceError, match="pip install") as caught:
        generate(GenerateSettings(("QCD",), 1), tmp_path)
    assert caught.value.exit_code == 7
