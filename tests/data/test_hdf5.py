"""Top Landscape: pandas' own table, and the files that Particle Transformer's converter makes of it."""

import awkward as ak
import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.errors import CardError, DataError

from .make import make_columns

h5py = pytest.importorskip("h5py")
pd = pytest.importorskip("pandas")
pytest.importorskip("tables")

CARD = load_card("top_landscape")
WIDTH = 16
LABEL = np.arange(30) % 3 == 0


@pytest.fixture(scope="module")
def columns():
    return make_columns(30, seed=5)


@pytest.fixture(scope="module")
def original(columns, tmp_path_factory):
    """The layout of the published train.h5: E_0, PX_0, PY_0, PZ_0, E_1, ... then truth, ttv, is_signal_new."""
    path = tmp_path_factory.mktemp("top") / "train.h5"
    padded = {
        short: ak.to_numpy(ak.fill_none(ak.pad_none(columns[f"part_{name}"], WIDTH), 0.0))
        for short, name in {"E": "energy", "PX": "px", "PY": "py", "PZ": "pz"}.items()
    }
    frame = pd.DataFrame(
        {f"{short}_{i}": padded[short][:, i] for i in range(WIDTH) for short in ("E", "PX", "PY", "PZ")}
        | {"truthE": np.ones(30, np.float32), "ttv": np.zeros(30, np.int64), "is_signal_new": LABEL.astype(np.int64)}
    )
    frame.to_hdf(path, key="table", format="table", complib="blosc", complevel=5)
    return path


def converted(columns, path, kind="parquet"):
    """What utils/convert_top_datasets.py of jet-universe/particle_transformer writes: its branch names."""
    names = [f"part_{name}" for name in ("px", "py", "pz", "energy", "deta", "dphi")]
    names += ["jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_nparticles"]
    chosen = {name: columns[name] for name in names} | {"label": LABEL.astype(np.int64)}
    write_tree(path, "Events", [chosen], metadata={}, kind=kind)
    return path


def read(path, **options):
    return read_table(expand_inputs([path]), CARD, features="jetclass_kin", labels=True, **options)


def test_original_and_converted_files_are_the_same_jets(columns, original, tmp_path):
    table = read(original)
    assert len(table) == 30
    assert not table.notes  # padding is nobody's loss
    assert table.class_names == ("QCD", "Tbqq")
    assert table.label.tolist() == LABEL.astype(int).tolist()
    for name, kind in (("a.parquet", "parquet"), ("a.root", "ttree"), ("b.root", "rntuple")):
        other = read(converted(columns, tmp_path / name, kind))
        np.testing.assert_array_equal(table.offsets, other.offsets)
        np.testing.assert_array_equal(table.p4, other.p4)
        np.testing.assert_array_equal(table.label, other.label)
        np.testing.assert_allclose(table.features, other.features, atol=3e-5)


def test_tops_are_task_top(original):
    table = read(original, classes=("Tbqq", "QCD"))
    assert table.label.tolist() == (1 - LABEL.astype(int)).tolist()


def test_features_that_the_set_lacks_are_answered_with_those_it_has(original):
    with pytest.raises(CardError, match=r"constituents.charge is needed.*--set data.features=jetclass_kin in training"):
        read_table(expand_inputs([original]), CARD, features="jetclass_full", labels=True)


def test_the_class_may_come_with_the_file(original):
    table = read_table(expand_inputs([f"QCD:{original}"]), CARD, features="jetclass_kin", labels=True)
    assert set(table.label) == {0}


def test_no_pickle_is_executed(original, tmp_path):
    """Column names stand in a pickled attribute: one that would create a file is read as text and does nothing."""
    path = tmp_path / "evil.h5"
    path.write_bytes(original.read_bytes())
    victim = tmp_path / "created"
    payload = b"cos\nsystem\n(S'touch " + str(victim).encode() + b"'\ntR."
    with h5py.File(path, "a") as file:
        table = file["table/table"]
        block = next(name for name in table.dtype.names if table.dtype[name].shape)
        table.attrs[f"{block}_kind"] = np.bytes_(payload)
    with pytest.raises(DataError):
        read(path)
    assert not victim.exists()


def test_another_hdf5_file_is_not_a_table(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["jets"] = np.zeros(3)
    with pytest.raises(DataError, match="no pandas table"):
        read(tmp_path / "a.h5")


def test_truncated_and_damaged_hdf5(original, tmp_path):
    content = original.read_bytes()
    path = tmp_path / "a.h5"
    for fraction in (0.01, 0.3, 0.9):
        path.write_bytes(content[: int(fraction * len(content))])
        with pytest.raises(DataError, match=r"a\.h5"):
            read(path)
