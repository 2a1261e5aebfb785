"""Files of ATLAS's training-dataset-dumper, with their traps, read back through the shipped cards."""

import awkward as ak
import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.convert import convert
from jettag.data.read import expand_inputs, read_events, read_table
from jettag.errors import DataError

from .layouts import agree, classes, padded, records

h5py = pytest.importorskip("h5py")


def write_atlas(path, truth, **changed):
    """The layout of the training-dataset-dumper: MeV, z0 sin(theta), q/p, angles to the jet, half precision."""
    counts, jet, track = truth
    sin = 1 / np.cosh(track["eta"])
    jets = {
        "pt_btagJes": (jet["pt"] * 1000).astype("f4"),
        "eta_btagJes": jet["eta"].astype("f4"),
        "phi": jet["phi"].astype("f4"),
        "mass": (jet["mass"] * 1000).astype("f4"),
        "eventNumber": jet["event"].astype("u8"),
        "HadronConeExclTruthLabelID": jet["flavour"].astype("i4"),
        "flavour_label": np.array([{4: 0, 0: 1, 5: 2}[code] for code in jet["flavour"]], dtype="i4"),
    }
    tracks = {
        "pt": track["pt"] * 1000,
        "deta": track["deta"],
        "dphi": track["dphi"],
        "d0": track["d0"],
        "d0Uncertainty": track["d0err"],
        "z0SinTheta": track["z0"] * sin,
        "z0RelativeToBeamspotUncertainty": track["z0err"],
        "qOverP": track["charge"] * sin / track["pt"] / 1000,
        "numberOfPixelHits": np.full(len(sin), 4, dtype="u1"),
        "ftagTruthOriginLabel": track["origin"].astype("i4"),
        "ftagTruthVertexIndex": track["vertex"].astype("i4"),
    }
    with h5py.File(path, "w") as file:
        file["jets"] = records(jets | changed)
        file["jets"].attrs["flavour_label"] = ["cjets", "ujets", "bjets"]  # an order of its own
        file["tracks"] = padded(counts, tracks)
        file["eventwise"] = np.zeros(3, dtype=[("n", "i4")])  # another length, and nobody's concern
    return path


def test_atlas(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth)
    agree(path, "atlas_ftag", truth)
    table = classes(path, "atlas_ftag", truth, jet_columns=("event_number", "pt", "energy"))
    counts, jet, _ = truth
    filled = counts > 0
    assert table.jet["event_number"].tolist() == jet["event"][filled].tolist()
    # Jets have their own momentum, which is not the sum of their tracks.
    np.testing.assert_allclose(table.jet["pt"], jet["pt"][filled], rtol=1e-6)
    energy = np.sqrt((jet["pt"] * np.cosh(jet["eta"])) ** 2 + jet["mass"] ** 2)
    np.testing.assert_allclose(table.jet["energy"], energy[filled], rtol=1e-5)


def test_classes_of_an_attribute_go_by_name_and_not_by_number(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth)
    table = read_table(
        expand_inputs([path]), load_card("atlas_upp"), features="jetclass_kin", labels=True, classes=("b", "c", "light")
    )
    names = {5: "b", 4: "c", 0: "light"}
    assert [table.class_names[x] for x in table.label] == [names[x] for x in truth[1]["flavour"][truth[0] > 0]]
    with pytest.raises(DataError, match="flavour_label=taujets"):
        read_table(
            expand_inputs([path]), load_card("atlas_upp"), features="jetclass_kin", labels=True, classes=("tau",)
        )


def test_half_precision_is_read_as_single(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth, eta_btagJes=truth[1]["eta"].astype("f2"))
    found = read_events(path, "atlas_ftag")
    assert np.asarray(found.eta).dtype == np.float32
    np.testing.assert_allclose(found.eta, truth[1]["eta"], atol=2e-3)


def test_a_label_outside_the_scheme_is_named(truth, tmp_path):
    strange = np.where(np.arange(24) == 3, -99, truth[1]["flavour"]).astype("i4")
    path = write_atlas(tmp_path / "a.h5", truth, HadronConeExclTruthLabelID=strange)
    with pytest.raises(DataError, match=r"values without a class: -99 \(1 jets\).*add them to the card"):
        classes(path, "atlas_ftag", truth)


def test_momenta_in_gev_where_the_card_says_mev(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth, pt_btagJes=(truth[1]["pt"] / 1000).astype("f4"))
    with pytest.raises(DataError, match=r"units: \{momentum: GeV\}"):
        classes(path, "atlas_ftag", truth)


def test_a_track_that_is_valid_and_not_a_number(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth)
    with h5py.File(path, "a") as file:
        rows = file["tracks"][:]
        rows["d0"][2, 0] = np.nan
        file["tracks"][...] = rows
    with pytest.raises(DataError, match=r"1 of .* values of tracks/d0 are NaN"):
        read_events(path, "atlas_ftag")


def test_what_atlas_wrote_is_converted_to_a_flavour_file(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth)
    done = convert(expand_inputs([path]), load_card("atlas_ftag"), tmp_path / "b.root")
    counts, _, track = truth
    assert done.jets == np.count_nonzero(counts)
    before = read_table(expand_inputs([path]), load_card("atlas_ftag"), features="jetclass_full", labels=True)
    written = tmp_path / "b.root"
    after = read_table(expand_inputs([written]), load_card("flavour"), features="jetclass_full", labels=True)
    np.testing.assert_allclose(after.features, before.features, atol=1e-4)
    assert after.label.tolist() == before.label.tolist()
    found = ak.flatten(read_events(written, "flavour").constituents)
    assert found.origin.tolist() == track["origin"].tolist()


def test_an_origin_that_the_card_does_not_name(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth)
    card = load_card("atlas_ftag")
    column = card.constituents.origin.model_copy(update={"names": ("Pileup", "Primary")})
    card = card.model_copy(update={"constituents": card.constituents.model_copy(update={"origin": column})})
    with pytest.raises(DataError, match=r"ftagTruthOriginLabel has \d, and the card names 0 to 1"):
        read_events(path, card)
