"""Laws of reading: format, order of files and order of constituents leave no trace; only needed branches count."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.config import Section
from jettag.data.card import DataCard, load_card
from jettag.data.read import expand_inputs, read_events, read_table
from jettag.data.root import write_tree
from jettag.errors import CardError, DataError

from .make import FLAGS, make_columns, without

CARD = load_card("jetclass")


def write(path, *chunks, kind="ttree"):
    write_tree(path, "tree", chunks, metadata={}, kind=kind)
    return path


def read(*paths, card=CARD, features="jetclass_full", labels=True, **options):
    return read_table(expand_inputs(paths), card, features=features, labels=labels, **options)


def same(one, other):
    for name in ("features", "p4", "offsets", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    return True


def altered(card: Section, **changes):
    """The card with changes, as a user would have written them."""
    return DataCard.model_validate(card.model_dump() | changes)


def test_ttree_rntuple_and_parquet_are_the_same_jets(tmp_path):
    chunks = [make_columns(30, seed=1), make_columns(20, seed=2, class_name="Tbqq")]
    tables = [
        read(write(tmp_path / f"{kind}.{'parquet' if kind == 'parquet' else 'root'}", *chunks, kind=kind))
        for kind in ("ttree", "rntuple", "parquet")
    ]
    assert len(tables[0]) == 50
    assert np.bincount(tables[0].label).tolist() == [30, 0, 0, 0, 0, 0, 0, 0, 20]
    assert same(tables[0], tables[1])
    assert same(tables[0], tables[2])


def test_the_order_of_files_permutes_jets_and_changes_none(tmp_path):
    a = write(tmp_path / "a.root", make_columns(30, seed=1))
    b = write(tmp_path / "b.root", make_columns(20, seed=2, class_name="Hbb"))
    assert same(read(a, b), read(b, a).select(np.roll(np.arange(50), 30)))


def test_constituents_can_be_cut_afterwards(tmp_path):
    path = write(tmp_path / "a.root", make_columns(30, seed=1))
    cut = read(path).select(np.arange(30), 3)
    assert cut.counts.max() == 3
    assert same(cut, read(path, max_constituents=3))


def test_many_chunks_are_one_table(tmp_path, monkeypatch):
    path = write(tmp_path / "a.root", make_columns(57, seed=1))
    whole = read(path)
    monkeypatch.setattr("jettag.data.source.CHUNK", 10)
    assert same(whole, read(path))


def test_constituents_are_sorted_and_cut(tmp_path):
    columns = make_columns(40, seed=3)
    rng = np.random.default_rng(0)
    counts = ak.num(columns["part_px"])
    shuffle = ak.argsort(ak.unflatten(rng.random(int(ak.sum(counts))), counts))
    mixed = {name: values[shuffle] if name.startswith("part_") else values for name, values in columns.items()}
    whole = read(write(tmp_path / "a.root", columns))
    assert same(whole, read(write(tmp_path / "b.root", mixed)))
    cut = read(tmp_path / "b.root", max_constituents=4)
    assert cut.counts.max() == 4
    assert cut.notes["jets_cut_to_max_constituents"] == np.count_nonzero(whole.counts > 4)
    for jet in range(len(whole)):
        rows = slice(whole.offsets[jet], whole.offsets[jet] + min(whole.counts[jet], 4))
        np.testing.assert_array_equal(cut.p4[cut.offsets[jet] : cut.offsets[jet + 1]], whole.p4[rows])
    pt = np.hypot(whole.p4[:, 0], whole.p4[:, 1])
    rises = np.flatnonzero(np.diff(pt) > 0) + 1
    assert set(rises) <= set(whole.offsets)


def test_only_the_branches_that_are_needed_must_exist(tmp_path):
    momenta = {f"part_{name}" for name in ("px", "py", "pz", "energy")}
    path = write(tmp_path / "a.root", {k: v for k, v in make_columns(20).items() if k in momenta})
    assert len(read(path, features="jetclass_kin", labels=False)) == 20
    with pytest.raises(DataError, match="label_QCD"):
        read(path, features="jetclass_kin")
    with pytest.raises(DataError, match="part_charge"):
        read(path, features="jetclass_kinpid", labels=False)
    assert set(read(f"Hbb:{path}", features="jetclass_kin").label) == {1}


def test_labels_that_are_not_asked_for_are_not_touched(tmp_path):
    columns = make_columns(20) | {"label_QCD": np.full(20, 7.5)}
    path = write(tmp_path / "a.root", columns)
    assert read(path, labels=False).label is None
    with pytest.raises(DataError, match="neither 0 nor 1"):
        read(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.bool_])
def test_one_hot_branches_of_any_type(tmp_path, dtype):
    columns = make_columns(20, class_name="Wqq")
    columns |= {name: values.astype(dtype) for name, values in columns.items() if name.startswith("label_")}
    assert set(read(write(tmp_path / "a.root", columns)).label) == {7}


def test_classes_keep_their_own_and_count_the_others(tmp_path):
    path = write(
        tmp_path / "a.root", *(make_columns(10, seed=i, class_name=c) for i, c in enumerate(("QCD", "Hbb", "Tbqq")))
    )
    table = read(path, classes=("Tbqq", "QCD"))
    assert table.class_names == ("Tbqq", "QCD")
    assert table.label.tolist() == [1] * 10 + [0] * 10
    assert table.notes["other_classes"] == 10
    with pytest.raises(DataError, match="did you mean Tbqq"):
        read(path, classes=("Tbq",))
    with pytest.raises(DataError, match="40 other classes"):
        read(
            tmp_path / "a.root", f"Zqq:{write(tmp_path / 'b.root', make_columns(10))}", classes=("Wqq",), max_jets=None
        )


def test_fewer_jets_come_equally_from_classes_and_files(tmp_path):
    files = [
        write(tmp_path / "a.root", make_columns(40, seed=1), make_columns(5, seed=2, class_name="Hbb")),
        write(tmp_path / "b.root", make_columns(40, seed=3)),
        write(tmp_path / "c.root", make_columns(30, seed=4, class_name="Tbqq")),
    ]
    table = read(*files, max_jets=45)
    assert np.bincount(table.label)[[0, 1, 8]].tolist() == [20, 5, 20]
    generated = load_card("generated")
    table = read(*files, card=generated, max_jets=45, jet_columns=["event_number"])
    seeds, counts = np.unique(table.jet["event_number"] // 1000, return_counts=True)
    assert dict(zip(seeds.tolist(), counts.tolist(), strict=True)) == {1: 10, 2: 5, 3: 10, 4: 20}
    assert len(read(*files, labels=False, max_jets=30)) == 30
    assert len(read(*files, max_jets=10_000)) == 115


def test_jets_without_constituents_are_dropped_and_counted(tmp_path):
    columns = make_columns(30)
    keep = np.arange(30) % 3 > 0
    emptied = {
        name: ak.where(keep, values, values[:, :0]) if name.startswith("part_") else values
        for name, values in columns.items()
    }
    table = read(write(tmp_path / "a.root", emptied))
    assert table.notes["jets_without_constituents"] == 10
    assert same(table, read(write(tmp_path / "b.root", columns)).select(keep))


def test_units_and_polar_momenta_are_the_same_jets(tmp_path):
    """The same jets in MeV, cm and um, with pt, eta, phi, mass: another card, nothing else."""
    columns = make_columns(30, dtype=np.float64)
    reference = read(write(tmp_path / "a.root", columns))
    px, py, pz, energy = (columns[f"part_{name}"] for name in ("px", "py", "pz", "energy"))
    pt = np.hypot(px, py)
    other = {name: values for name, values in columns.items() if name.startswith(("part_is", "part_charge", "label_"))}
    other |= {
        "c_pt": 1e3 * pt,
        "c_eta": np.arcsinh(pz / pt),
        "c_phi": np.arctan2(py, px) % (2 * np.pi),
        "c_m": 1e3 * np.sqrt(energy**2 - pt**2 - pz**2),
        "c_d0": -columns["part_d0val"] / 10,
        "c_d0e": columns["part_d0err"] / 10,
        "c_dz": columns["part_dzval"] * 1e3,
        "c_dze": columns["part_dzerr"] * 1e3,
    }
    flags = {
        field: f"part_{flag}"
        for field, flag in zip(
            ("is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon"), FLAGS, strict=True
        )
    }
    card = DataCard.model_validate(
        {
            "name": "mine",
            "units": {"momentum": "MeV", "length": "cm"},
            "constituents": {
                "pt": "c_pt",
                "eta": "c_eta",
                "phi": "c_phi",
                "mass": "c_m",
                "d0": "c_d0",
                "d0_error": "c_d0e",
                "dz": {"branch": "c_dz", "unit": "um"},
                "dz_error": {"branch": ["nowhere", "c_dze"], "unit": "um"},
                "charge": "part_charge",
                **flags,
            },
            "labels": CARD.labels.model_dump(),
        }
    )
    table = read(write(tmp_path / "b.root", other), card=card)
    np.testing.assert_allclose(table.p4, reference.p4, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table.features, reference.features, atol=2e-5)


def test_a_plain_deta_is_mirrored_by_the_card(tmp_path):
    columns = make_columns(30, dtype=np.float64)
    plain = columns["part_deta"] * np.where(columns["jet_eta"] < 0, -1, 1)
    path = write(tmp_path / "a.root", columns | {"plain": plain})
    constituents = CARD.constituents.model_dump() | {"deta": {"branch": "plain", "sign": "jet_eta"}}
    assert same(read(path), read(path, card=altered(CARD, constituents=constituents)))


def test_one_tree_of_another_name_is_read_and_several_are_not(tmp_path):
    path = tmp_path / "a.root"
    write_tree(path, "Events", [make_columns(10)], metadata={})
    assert read(path).notes["files_with_another_tree"] == 1
    with uproot.update(path) as file:
        file.mktree("Runs", {"x": "f8"})
    with pytest.raises(DataError, match="Events, Runs"):
        read(path)


def test_every_jet_knows_its_file_and_entry(tmp_path):
    files = [write(tmp_path / f"{name}.root", make_columns(20, seed=seed)) for seed, name in enumerate("ab")]
    table = read(*files, jet_columns=["file", "entry"])
    for place, file in enumerate(files):
        alone = read(file, jet_columns=["entry"])
        chosen = table.select(table.jet["file"] == place)
        np.testing.assert_array_equal(chosen.jet["entry"], alone.jet["entry"])
        np.testing.assert_array_equal(chosen.p4, alone.p4)


def test_jet_columns_come_from_the_file_or_the_sum(tmp_path):
    columns = make_columns(20, dtype=np.float64)
    wanted = ["pt", "eta", "phi", "energy", "nparticles"]
    stored = read(write(tmp_path / "a.root", columns), jet_columns=wanted)
    summed = read(write(tmp_path / "b.root", without(columns, "jet_")), jet_columns=[*wanted, "mass"])
    for name in wanted:
        np.testing.assert_allclose(summed.jet[name], stored.jet[name], rtol=1e-9, err_msg=name)
    assert (summed.jet["mass"] >= 0).all()
    with pytest.raises(CardError, match="did you mean tau"):
        read(tmp_path / "a.root", jet_columns=["tau"])
    with pytest.raises(DataError, match="jet_tau1"):
        read(tmp_path / "a.root", jet_columns=["tau1"])


def test_progress_counts_to_the_end(tmp_path):
    path = write(tmp_path / "a.root", make_columns(30))
    seen: list[int] = []
    read(path, on_progress=seen.append)
    assert seen == [30]


def test_events_are_vectors(tmp_path):
    columns = make_columns(20, dtype=np.float64)
    events = read_events(write(tmp_path / "a.root", columns), "jetclass")
    total = ak.sum(events.constituents, axis=1)
    np.testing.assert_allclose(total.pt, columns["jet_pt"], rtol=1e-9)
    assert ak.all(abs(events.constituents.pt - np.hypot(columns["part_px"], columns["part_py"])) < 1e-9)
    assert ak.array_equal(events.constituents.is_muon, columns["part_isMuon"])
    assert len(read_events(tmp_path / "a.root", "jetclass", max_jets=7)) == 7


def test_a_file_given_twice_is_read_once(tmp_path):
    path = write(tmp_path / "a.root", make_columns(10))
    (tmp_path / "link.root").symlink_to(path)
    table = read(str(tmp_path / "*.root"), path)
    assert len(table) == 10
    assert table.notes["repeated_files"] == 2


def test_values_map_to_classes(tmp_path):
    labels = {"kind": "value", "branch": "flavour", "classes": {"light": [0, 21], "c": 4, "b": 5}}
    card = altered(CARD, labels=labels)
    path = write(tmp_path / "a.root", make_columns(5) | {"flavour": np.array([0, 4, 5, 21, 5])})
    assert read(path, card=card).label.tolist() == [0, 1, 2, 0, 2]
    assert read(path, card=card, classes=["b"]).notes["other_classes"] == 3
    with pytest.raises(DataError, match=r"15 \(1 jets\).*add them to the card"):
        read(write(tmp_path / "b.root", make_columns(2) | {"flavour": np.array([15, 5])}), card=card)


def test_a_card_without_labels_takes_the_files_classes(tmp_path):
    card = altered(CARD, labels=None)
    a, b = (write(tmp_path / f"{n}.root", make_columns(5, seed=n)) for n in (1, 2))
    table = read(f"signal:{a}", f"background:{b}", card=card)
    assert table.class_names == ("signal", "background")
    assert table.label.tolist() == [0] * 5 + [1] * 5
    with pytest.raises(DataError, match="CLASS:GLOB"):
        read(a, card=card)
