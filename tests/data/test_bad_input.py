"""Everything that can be wrong with a file: one line, exit code 4, the file, the place and the cure."""

import os

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.errors import DataError

from .make import make_columns, without

CARD = load_card("jetclass")


def write(path, columns, kind="ttree"):
    write_tree(path, "tree", [columns], metadata={}, kind=kind)
    return path


def fails(*inputs, features="jetclass_full", labels=True, **options):
    """The message of the one DataError that reading ends in."""
    with pytest.raises(DataError) as caught:
        read_table(expand_inputs(inputs), CARD, features=features, labels=labels, **options)
    message = str(caught.value)
    assert caught.value.exit_code == 4
    assert "\n" not in message
    return message


def edit(columns, branch, jet, value, place=0):
    """The columns with one number of one jet changed."""
    lists = columns[branch].to_list()
    lists[jet][place] = value
    return columns | {branch: ak.values_astype(ak.Array(lists), np.float32)}


def test_a_missing_file_names_the_nearest_folder(tmp_path):
    write(tmp_path / "jets.root", make_columns(5))
    message = fails(tmp_path / "none" / "jets.root")
    assert "no such file" in message
    assert f"the nearest existing folder is {tmp_path}, with jets.root" in message


def test_a_glob_that_matches_nothing(tmp_path):
    assert "no file matches" in fails(tmp_path / "*.root")
    assert "no input files" in fails()
    assert "found a folder" in fails(tmp_path)


@pytest.mark.parametrize("name", ["a.root", "a.parquet", "a.h5"])
@pytest.mark.parametrize("content", [b"", b"ro", b"<!DOCTYPE html><html>404</html>", bytes(1000)])
def test_files_that_are_nothing(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    message = fails(tmp_path / name)
    assert name in message
    expected = {b"": "empty file (0 bytes)", b"ro": "truncated (2 bytes)", b"<": "'<!DOCTYPE html><'"}
    assert expected.get(content, expected.get(content[:1], "not a")) in message


def test_a_file_of_another_kind_than_its_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.root", "w") as file:
        file["x"] = np.arange(3)
    assert "not a ROOT file, it is an HDF5 file" in fails(tmp_path / "a.root")
    write(tmp_path / "b.root", make_columns(5)).rename(tmp_path / "b.parquet")
    assert "not a Parquet file, it is a ROOT file" in fails(tmp_path / "b.parquet")


@pytest.mark.parametrize("kind", ["ttree", "rntuple", "parquet"])
def test_truncated_anywhere(tmp_path, kind):
    path = write(tmp_path / f"a.{'parquet' if kind == 'parquet' else 'root'}", make_columns(20), kind)
    content = path.read_bytes()
    for fraction in (0.0005, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.99999):
        path.write_bytes(content[: int(fraction * len(content))])
        message = fails(path)
        assert "truncated" in message or "empty" in message
        assert path.name in message


def test_a_file_that_was_not_closed(tmp_path):
    path = tmp_path / "a.root"
    with uproot.recreate(path):
        pass
    assert "probably not closed" in fails(path)


def test_missing_branches_are_answered_with_the_nearest(tmp_path):
    columns = make_columns(5)
    path = write(tmp_path / "a.root", without(columns, "part_d0val") | {"part_d0": columns["part_d0val"]})
    message = fails(path)
    assert "no branch part_d0val" in message
    assert "did you mean" in message
    assert "did you mean part_d0 for part_d0val?" in message
    assert "part_dzval" not in message  # which the card uses
    assert "a.root, tree tree" in message
    assert "no branches part_px, part_py, part_pz, part_energy" in fails(
        write(tmp_path / "b.root", {"Jet_pt": np.ones(3)}), features="jetclass_kin", labels=False
    )


def test_missing_branches_are_named_once_with_the_features_that_are_possible(tmp_path):
    path = write(tmp_path / "a.root", without(make_columns(5), "part_d0val", "part_d0err", "part_dzval", "part_dzerr"))
    message = fails(path)
    assert [message.count(name) for name in ("part_d0val", "part_dzerr", "did you mean")] == [1, 1, 0]
    assert "it can give features jetclass_kin, jetclass_kinpid: --set data.features=jetclass_kinpid" in message
    assert len(read_table(expand_inputs([path]), CARD, features="jetclass_kinpid", labels=True)) == 5


def test_missing_labels_are_one_short_line(tmp_path):
    message = fails(write(tmp_path / "a.root", without(make_columns(5), "label_")))
    assert "no label branches label_QCD, label_Hbb, label_Hcc and 7 more in " in message
    assert message.endswith("tree tree; give the class with the file, as CLASS:GLOB")


def test_the_last_file_is_checked_before_the_first_is_read(tmp_path):
    good = write(tmp_path / "a.root", make_columns(5))
    bad = write(tmp_path / "b.root", without(make_columns(5), "part_charge"))
    seen = []
    assert "b.root" in fails(good, bad, on_progress=seen.append)
    assert not seen


def test_counts_that_differ_in_one_jet(tmp_path):
    columns = make_columns(10)
    pz = columns["part_pz"].to_list()
    pz[7] = pz[7][:-1]
    path = tmp_path / "a.root"
    with uproot.recreate(path) as file:
        # One counter cannot disagree with itself: these branches have their own.
        columns |= {"part_pz": ak.values_astype(ak.Array(pz), np.float32)}
        file.mktree("tree", {k: ak.type(ak.Array(v)).content for k, v in columns.items()}).extend(columns)
    message = fails(path)
    count = len(pz[7])
    assert f"part_px has {count + 1} constituents and part_pz {count}" in message
    assert "entry 7" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("branch", ["part_px", "part_d0val", "part_deta"])
def test_numbers_that_are_none(tmp_path, value, branch):
    message = fails(write(tmp_path / "a.root", edit(make_columns(10), branch, 6, value)))
    assert f" values of {branch} are NaN or infinite" in message
    assert message.startswith("1 of")
    assert "first in entry 6" in message


def test_numbers_that_are_none_are_found_by_entry_in_later_chunks_and_after_selection(tmp_path, monkeypatch):
    monkeypatch.setattr("jettag.data.source.CHUNK", 4)
    columns = edit(make_columns(10, class_name="Tbqq"), "part_py", 9, np.nan)
    path = tmp_path / "a.root"
    write_tree(path, "tree", [make_columns(5), columns], metadata={})
    assert "first in entry 14" in fails(path, classes=["Tbqq"])
    assert len(read_table(expand_inputs([path]), CARD, features="jetclass_kin", labels=True, classes=["QCD"])) == 5


def test_numbers_nobody_needs_may_be_anything(tmp_path):
    path = write(tmp_path / "a.root", edit(make_columns(10), "part_d0val", 6, np.nan))
    assert len(read_table(expand_inputs([path]), CARD, features="jetclass_kin", labels=True)) == 10


def test_mev_where_the_card_says_gev(tmp_path):
    columns = make_columns(20)
    for name in ("part_px", "part_py", "part_pz", "part_energy", "jet_pt", "jet_energy"):
        columns[name] = columns[name] * np.float32(1000)
    message = fails(write(tmp_path / "a.root", columns))
    assert "looks like MeV" in message
    assert "set `units: {momentum: MeV}` on the card" in message


def test_less_energy_than_momentum(tmp_path):
    columns = make_columns(20)
    columns["part_energy"] = columns["part_energy"] * np.float32(0.9)
    message = fails(write(tmp_path / "a.root", columns))
    assert "less energy than momentum" in message
    assert "%" in message


def test_angles_in_degrees(tmp_path):
    columns = make_columns(20)
    columns["part_dphi"] = columns["part_dphi"] * np.float32(57.29578)
    assert "part_dphi reaches" in fails(write(tmp_path / "a.root", columns))


def test_labels_with_none_or_two_classes(tmp_path):
    columns = make_columns(20)
    columns["label_Hbb"] = np.arange(20) < 3
    columns["label_QCD"] = np.arange(20) != 10
    message = fails(write(tmp_path / "a.root", columns))
    assert "of 20 jets 1 have no class set and 3 have several" in message
    assert "first in entry 0" in message


def test_no_jet_left_shows_the_cut_flow(tmp_path):
    path = write(tmp_path / "a.root", make_columns(20))
    assert "no jet left of 20 read (20 other classes)" in fails(path, classes=["Tbl"])
    columns = {k: v[:, :0] if k.startswith("part_") else v for k, v in make_columns(20).items()}
    assert "20 jets without constituents" in fails(write(tmp_path / "b.root", columns))


def test_branches_of_another_shape(tmp_path):
    columns = make_columns(10)
    assert "part_charge holds" in fails(write(tmp_path / "a.root", columns | {"part_charge": np.ones(10)}))
    path = write(tmp_path / "b.root", columns | {"jet_pt": columns["part_px"]})
    assert "jet_pt holds" in fails(path)
    texts = ak.Array(["x"] * 10)
    write_tree(
        tmp_path / "c.parquet", "tree", [without(columns, "jet_pt") | {"jet_pt": texts}], metadata={}, kind="parquet"
    )
    assert "jet_pt holds" in fails(tmp_path / "c.parquet")


def test_missing_values_in_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    columns = make_columns(10)
    lists = columns["part_px"].to_list()
    lists[3][0] = None
    array = ak.zip(columns | {"part_px": ak.Array(lists)}, depth_limit=1)
    ak.to_parquet(array, tmp_path / "a.parquet")
    assert "1 missing values of part_px" in fails(tmp_path / "a.parquet")


def test_a_file_with_two_classes(tmp_path):
    path = write(tmp_path / "a.root", make_columns(5))
    assert "one file given with QCD and Hbb" in fails(f"QCD:{path}", f"Hbb:{path}")
    assert "no class 'Hbbb'" in fails(f"Hbbb:{path}")


def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path / "a.root", make_columns(5))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    assert "not allowed to read" in fails(path)


def test_an_empty_tree_is_left_out_and_counted(tmp_path):
    columns = make_columns(5)
    empty = tmp_path / "a.root"
    with uproot.recreate(empty) as file:
        file.mktree("tree", {k: ak.type(ak.Array(v)).content for k, v in columns.items()})
    path = write(tmp_path / "b.root", columns)
    table = read_table(expand_inputs([empty, path]), CARD, features="jetclass_full", labels=True)
    assert len(table) == 5
    assert table.notes["empty_files"] == 1
    assert "no jet left of 0 read" in fails(empty)
    assert "; give files with jets" in fails(empty)
