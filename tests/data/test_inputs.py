"""What a user may type for a file."""

from pathlib import Path

import pytest

from jettag.data.inputs import expand_inputs
from jettag.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("b.root", "a.root", "jets [1].root", "QCD:odd.root", "ä ö.root"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*patterns):
    return [(str(file.path), file.class_name) for file in expand_inputs(patterns)]


def test_globs_are_sorted_and_the_order_of_patterns_is_kept(folder):
    assert names("[ab].root") == [("a.root", None), ("b.root", None)]
    assert names("b.root", "a.root") == [("b.root", None), ("a.root", None)]
    assert names(folder / "a.root") == [(str(folder / "a.root"), None)]


def test_a_class_may_stand_in_front(folder):
    assert names("Tbqq:a.root", "b:b.root") == [("a.root", "Tbqq"), ("b.root", "b")]
    assert names("QCD:[ab].root") == [("a.root", "QCD"), ("b.root", "QCD")]


def test_an_existing_file_wins_over_glob_and_class(folder):
    assert names("jets [1].root", "QCD:odd.root", "ä ö.root") == [
        ("jets [1].root", None),
        ("QCD:odd.root", None),
        ("ä ö.root", None),
    ]


@pytest.mark.parametrize("url", ["root://eos.cern.ch//store/a.root", "https://zenodo.org/a.root?download=1"])
def test_a_url_is_no_class(url):
    plain, classed = expand_inputs([url])[0], expand_inputs([f"QCD:{url}"])[0]
    assert (plain.address, plain.class_name) == (url, None)
    assert (classed.address, classed.class_name) == (url, "QCD")


def test_a_windows_path_is_no_class(folder):
    with pytest.raises(DataError, match=r"C:\\\\?jets"):
        expand_inputs([r"C:\jets\a.root"])


def test_one_file_by_many_names_is_one(folder):
    (folder / "link.root").symlink_to("a.root")
    (folder / "hard.root").hardlink_to("b.root")
    found = expand_inputs(["a.root", "./a.root", "link.root", "b.root", "hard.root"])
    assert [(file.path, file.repeats) for file in found] == [(Path("a.root"), 2), (Path("b.root"), 1)]


def test_a_broken_link_is_said(folder):
    (folder / "c.root").symlink_to("gone.root")
    with pytest.raises(DataError, match=r"c\.root"):
        expand_inputs(["*.root"])
    with pytest.raises(DataError, match="no such file"):
        expand_inputs(["c.root"])


def test_a_folder_tells_what_it_is(folder):
    (folder / "jets").mkdir()
    with pytest.raises(DataError, match=r"give a glob such as jets/\*\.root"):
        expand_inputs(["jets"])
    (folder / "jets" / ".staging").mkdir()
    with pytest.raises(DataError, match=r"was not finished in jets; call the `jettag data prepare`"):
        expand_inputs(["jets"])
