"""Files as experiments and public sets write them, with their traps, read back through the shipped cards."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.data.card import load_card
from jettag.data.convert import convert
from jettag.data.read import expand_inputs, read_events, read_table
from jettag.errors import CardError, DataError

h5py = pytest.importorskip("h5py")
SAMPLE = Path("/work/shared/samples/cms_pfnano_10events.root")
PION = 0.13957


@pytest.fixture(scope="module")
def truth():
    """Tracks of 24 jets in GeV, mm, rad and the ATLAS sign, one jet without tracks; some cross the edge in azimuth."""
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 9, 24)
    counts[5] = 0
    size = counts.sum()
    owner = np.repeat(np.arange(24), counts)
    jet = {"pt": rng.uniform(25, 200, 24), "eta": rng.uniform(-2, 2, 24), "phi": rng.uniform(-3.1, 3.1, 24)}
    jet |= {"mass": rng.uniform(3, 15, 24), "flavour": np.tile([5, 4, 0, 0], 6), "event": np.arange(24) // 3 + 7}
    deta, dphi = rng.normal(0, 0.1, size), rng.normal(0, 0.1, size)
    pt = rng.exponential(5, size) + 0.6
    order = np.lexsort((-pt, owner))  # as they will be read
    track = {"pt": pt[order], "deta": deta, "dphi": dphi, "d0": rng.normal(0, 0.3, size), "z0": rng.normal(0, 2, size)}
    track |= {"d0err": rng.uniform(0.01, 0.1, size), "z0err": rng.uniform(0.05, 0.2, size)}
    track |= {
        "charge": rng.choice([-1, 1], size),
        "origin": rng.integers(0, 8, size),
        "vertex": rng.integers(-2, 4, size),
    }
    track |= {"eta": deta + jet["eta"][owner], "phi": (dphi + jet["phi"][owner] + np.pi) % (2 * np.pi) - np.pi}
    return counts, jet, track


def padded(counts, fields, width=10):
    """(J, width) records of tracks with `valid`; padding is NaN, -1 or 0."""
    kinds = [
        (name, values.dtype.newbyteorder("=") if values.dtype.kind != "f" else "f4") for name, values in fields.items()
    ]
    rows = np.zeros((len(counts), width), dtype=[*kinds, ("valid", "?")])
    rows["valid"] = np.arange(width) < counts[:, None]
    for name, values in fields.items():
        rows[name] = np.nan if values.dtype.kind == "f" else 0 if values.dtype.kind == "u" else -1
        rows[name][rows["valid"]] = values
    return rows


def records(fields):
    rows = np.zeros(len(next(iter(fields.values()))), dtype=[(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        rows[name] = values
    return rows


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


def agree(path, card, truth, *, vertex=True, origin=True, errors=True, atol=2e-4):
    """Momenta, impact parameters and truth of every track, as `read_events` gives them in the file's order."""
    _, _, track = truth
    found = ak.flatten(read_events(path, card).constituents)
    for name, values in (("pt", track["pt"]), ("eta", track["eta"]), ("d0", track["d0"]), ("dz", track["z0"])):
        np.testing.assert_allclose(ak.to_numpy(getattr(found, name)), values, rtol=1e-3, atol=atol)
    np.testing.assert_allclose(np.cos(ak.to_numpy(found.phi) - track["phi"]), 1, atol=1e-5)
    assert found.charge.tolist() == track["charge"].tolist()
    if errors:
        np.testing.assert_allclose(found.d0_error, track["d0err"], rtol=1e-3)
        np.testing.assert_allclose(found.dz_error, track["z0err"], rtol=1e-3)
    if vertex:
        assert found.vertex.tolist() == track["vertex"].tolist()
    if origin:
        assert found.origin.tolist() == track["origin"].tolist()


def classes(path, card, truth, **columns):
    """The table has every jet with tracks, in order, of the class that it was given."""
    counts, jet, _ = truth
    table = read_table(expand_inputs([path]), load_card(card), features="jetclass_kin", labels=True, **columns)
    names = {5: "b", 4: "c", 0: "light"}
    assert [table.class_names[label] for label in table.label] == [names[code] for code in jet["flavour"][counts > 0]]
    assert table.notes["jets_without_constituents"] == 1
    return table


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
    with pytest.raises(DataError, match=r"a link to candidate 5\d\d of .* in its event"):
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


@pytest.mark.parametrize("join", ["delphes", "cms_pfnano"])
def test_events_without_jets_or_without_candidates(tmp_path, join):
    # Jets of the four events: none, one, two, none; candidates: two, none, one near the second jet, none.
    jets, candidates = ([], [0.0], [-1.0, 1.0], []), ([0.3, 0.4], [], [1.1], [])
    names = {"delphes": ("Jet.", "Track.", "Delphes"), "cms_pfnano": ("Jet_", "PFCands_", "Events")}
    jet, candidate, tree = names[join]
    card = load_card(join)

    def lists(values, kind=np.float32, number=None):
        filled = ak.Array([[number if number is not None else x for x in event] for event in values])
        return ak.values_astype(filled, kind)

    columns = {}
    for prefix, values in ((jet, jets), (candidate, candidates)):
        own = {column.branches[0] for column in card.jet.values()} | {
            column.branches[0] for _, column in card.constituents if column and column.branches
        }
        for branch in (name for name in own if name.startswith(prefix)):
            integer = branch.lower().endswith(("flavor", "flavour", "pid", "pdgid", "charge"))
            number = None if branch.lower().endswith("eta") else 5 if integer and prefix == jet else 1
            columns[branch] = lists(values, np.int32 if integer else np.float32, number)
    if join == "cms_pfnano":
        columns["JetPFCands_jetIdx"] = lists(([-1, -1], [], [1], []), np.int32)
        columns["JetPFCands_pFCandsIdx"] = lists(([0, 1], [], [0], []), np.int32)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree(tree, {name: ak.type(column).content for name, column in columns.items()}).extend(columns)
    found = read_events(tmp_path / "a.root", card)
    assert ak.num(found.constituents).tolist() == [0, 0, 1]
    assert found.eta.tolist() == [0.0, -1.0, 1.0]


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


CARD = """
name: mine
constituents: {{pt: a, eta: b, phi: c, mass: {{value: 0.1}}, {column}}}
jet: {{{jet}}}
"""


@pytest.mark.parametrize(
    ("column", "jet", "says"),
    [
        ("d0: {value: 1, branch: x}", "", "a branch or a value, and not both"),
        ("d0: {branch: x, to_jet: ratio}", "", "a difference for eta and phi and a ratio for pt"),
        ("origin: {branch: x, names: [Primary, FromSpace]}", "", "names are for origin, of Pileup, Fake"),
        ("d0: x", "pt: {branch: x, missing: -1}", "missing is for constituents only"),
    ],
)
def test_keys_that_do_not_fit_a_column(tmp_path, column, jet, says):
    (tmp_path / "mine.yaml").write_text(CARD.format(column=column, jet=jet))
    with pytest.raises(CardError, match=says):
        load_card(tmp_path / "mine.yaml")


def test_a_join_is_by_links_or_by_a_cone(tmp_path):
    (tmp_path / "mine.yaml").write_text(CARD.format(column="d0: x", jet="") + "join: {jets: Jet_, candidates: P_}\n")
    with pytest.raises(CardError, match="needs jet_index and candidate_index, or cone"):
        load_card(tmp_path / "mine.yaml")


def test_an_origin_that_the_card_does_not_name(truth, tmp_path):
    path = write_atlas(tmp_path / "a.h5", truth)
    card = load_card("atlas_ftag")
    column = card.constituents.origin.model_copy(update={"names": ("Pileup", "Primary")})
    card = card.model_copy(update={"constituents": card.constituents.model_copy(update={"origin": column})})
    with pytest.raises(DataError, match=r"ftagTruthOriginLabel has \d, and the card names 0 to 1"):
        read_events(path, card)
