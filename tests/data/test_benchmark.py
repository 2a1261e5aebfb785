"""The comparison compares like with like: the same jets, the same numbers, and every side reads all of them."""

import builtins
import dataclasses
import inspect

import numpy as np
import pytest
from weaver.utils.dataset import SimpleIterDataset

from jettag.data.benchmark import measure_loader
from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import iterate_bare, write_tree
from jettag.data.weaver_loader import SLICE, weaver_batches, weaver_loader
from jettag.errors import DataError, ResourceError

from .make import CLASSES, make_columns, without

CARD = load_card("generated")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for seed, name in enumerate(("QCD", "Tbqq")):
        write_tree(folder / f"{name}.root", "tree", [make_columns(60, seed=seed, class_name=name)], metadata={})
    return expand_inputs([folder / "*.root"])


def test_weaver_s_loader_makes_the_features_that_ours_makes(files, tmp_path):
    table = read_table(files, CARD, features="jetclass_full", labels=True)
    rows = {table.p4[begin].tobytes(): j for j, begin in enumerate(table.offsets[:-1])}
    seen = set()
    paths = [file.address for file in files]
    for inputs, labels, _ in weaver_loader(paths, "tree", CLASSES, tmp_path, 50):
        mask = inputs["pf_mask"].numpy()[:, 0] > 0
        for jet in range(len(mask)):
            real = mask[jet]
            momentum = inputs["pf_vectors"].numpy()[jet][:, real].T
            row = rows[np.ascontiguousarray(momentum[0]).tobytes()]
            seen.add(row)
            ours = slice(table.offsets[row], table.offsets[row + 1])
            np.testing.assert_array_equal(momentum, table.p4[ours])
            theirs = inputs["pf_features"].numpy()[jet][:, real].T
            np.testing.assert_allclose(theirs, table.features[ours], atol=2e-5)
            assert labels["_label_"][jet] == table.label[row]
    assert len(seen) == len(table)


def test_every_side_reads_every_jet(files, tmp_path):
    for share in (1, 0.3, 0.05):
        assert weaver_batches([file.address for file in files], "tree", CLASSES, tmp_path, 7, share) == 120
    assert sum(iterate_bare(file.path, "tree", ["part_px", "jet_pt"]) for file in files) == 120
    told = []
    rates = measure_loader(files, CARD, against_weaver=False, rounds=1, on_progress=told.append)
    assert told[-1] == 2 * 5 * 120
    assert rates.jets == 120
    assert rates.weaver is rates.weaver_slices is None
    table = read_table(files, CARD, features="jetclass_full", labels=True)
    assert rates.constituents == pytest.approx(table.counts.mean())
    assert all(value is None or value > 0 for value in dataclasses.astuple(rates))


def test_what_weaver_does_by_itself_is_what_is_called_so():
    """The default of its class, which is that of its command line too."""
    assert inspect.signature(SimpleIterDataset).parameters["fetch_step"].default == SLICE


def test_files_that_weaver_cannot_read(tmp_path):
    columns = without(make_columns(20), "part_d0val") | {"d0": make_columns(20)["part_d0val"]}
    write_tree(tmp_path / "a.root", "tree", [columns], metadata={})
    constituents = CARD.constituents.model_copy(update={"d0": CARD.constituents.d0.model_copy(update={"branch": "d0"})})
    card = CARD.model_copy(update={"constituents": constituents})
    with pytest.raises(DataError, match="JetClass's branch names"):
        measure_loader(expand_inputs([tmp_path / "a.root"]), card, against_weaver=True)


def test_without_weaver_the_pip_line(files, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("weaver"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ResourceError, match=r"pip install weaver-core==0\.5\.3"):
        measure_loader(files, CARD, against_weaver=True)
