"""Written files: whole or absent, with types, counter and metadata kept."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from unittest import mock

import awkward as ak
import deflate
import numpy as np
import pytest
import uproot

from jettag.data.inputs import expand_inputs
from jettag.data.root import CLUSTER, read_metadata, uproot_as_it_comes, write_tree
from jettag.data.source import chunks, open_source
from jettag.errors import DataError, ResourceError

from .make import make_columns

KINDS = ("ttree", "rntuple", "parquet")


def name_of(kind):
    return "jets.parquet" if kind == "parquet" else "jets.root"


def read_back(path, kind):
    if kind == "parquet":
        return ak.from_parquet(path)
    with uproot.open(path) as file:
        return file["tree"].arrays()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back_with_its_type(tmp_path, kind):
    columns = make_columns(30) | {"truth_vector": np.arange(60, dtype=np.float32).reshape(30, 2)}
    path = tmp_path / name_of(kind)
    assert write_tree(path, "tree", [columns], metadata={"seed": "7", "tune": "Monash é"}, kind=kind) == 30
    found = read_back(path, kind)
    for name, values in columns.items():
        assert ak.array_equal(found[name], values, dtype_exact=True, check_regular=False), name
    assert read_metadata(path) == {"seed": "7", "tune": "Monash é"}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [1, 2])
def test_vectors_of_fixed_length_are_those_that_were_summed_up(tmp_path, kind, pieces):
    """Awkward holds a column differently when it is written in one piece, in several, and when it is read."""
    vectors = np.arange(60, dtype=np.float32).reshape(30, 2)
    path = tmp_path / name_of(kind)
    write_tree(path, "tree", [{"vector": x} for x in np.split(vectors, pieces)], metadata={}, kind=kind)
    with open_source(expand_inputs([path])[0], "tree") as source:
        found = ak.concatenate([chunk["vector"] for chunk in chunks(source, ["vector"], str(path))])
    assert ak.array_equal(found, vectors, check_regular=False)


def test_the_constituents_of_a_ttree_share_one_counter(tmp_path):
    path = tmp_path / "jets.root"
    write_tree(path, "tree", [make_columns(5)], metadata={})
    with uproot.open(path) as file:
        tree = file["tree"]
        assert tree.classname == "TTree"
        parts = [branch for branch in tree.branches if branch.name.startswith("part_")]
        assert {branch.count_branch.name for branch in parts} == {"npart"}


@pytest.mark.parametrize("kind", KINDS)
def test_how_rows_were_cut_leaves_no_trace(tmp_path, kind):
    columns = {"part_pt": ak.Array([[1.0, 2.0], [], [3.0]] * 2000), "n": np.arange(6000)}
    cuts = [0, 1, 1, 4000, CLUSTER, 6000]
    pieces = [{k: v[a:b] for k, v in columns.items()} for a, b in pairwise(cuts)]
    one, many = tmp_path / f"one-{name_of(kind)}", tmp_path / f"many-{name_of(kind)}"
    write_tree(one, "tree", [columns], metadata={}, kind=kind)
    write_tree(many, "tree", pieces, metadata={}, kind=kind)
    assert ak.array_equal(read_back(one, kind), read_back(many, kind))
    if kind == "ttree":
        with uproot.open(one) as a, uproot.open(many) as b:
            assert a["tree"]["part_pt"].num_baskets == b["tree"]["part_pt"].num_baskets


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_file_is_not_there_and_an_old_one_stays(tmp_path, kind, problem):
    def chunks():
        yield make_columns(CLUSTER + 10, longest=2)
        raise problem

    path = tmp_path / name_of(kind)
    for content in (None, b"old"):
        if content:
            path.write_bytes(content)
        with pytest.raises(problem):
            write_tree(path, "tree", chunks(), metadata={}, kind=kind)
        assert [entry.read_bytes() for entry in tmp_path.iterdir()] == ([content] if content else [])


def test_columns_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "jets.root"
    with pytest.raises(DataError, match="nothing to write"):
        write_tree(path, "tree", [], metadata={})
    with pytest.raises(DataError, match="a 2, b 3"):
        write_tree(path, "tree", [{"a": np.zeros(2), "b": np.zeros(3)}], metadata={})
    with pytest.raises(DataError, match="part_a and part_b"):
        write_tree(path, "tree", [{"part_a": ak.Array([[1], [2]]), "part_b": ak.Array([[1], [2, 3]])}], metadata={})
    assert not list(tmp_path.iterdir())


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from jettag.data.root import write_tree
from jettag.errors import ResourceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    columns = {"x": np.random.default_rng(0).normal(size=20_000)}
    write_tree(Path(sys.argv[1]), "tree", [columns], metadata={}, kind=sys.argv[2])
except ResourceError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, kind):
    # A limit of the file size is what a full disk looks like without being root.
    path = tmp_path / name_of(kind)
    done = subprocess.run([sys.executable, "-c", FULL, str(path), kind], capture_output=True, text=True, check=False)
    assert done.returncode == ResourceError.exit_code, done.stderr
    assert str(path) in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_file_of_others_has_no_metadata(tmp_path):
    path = tmp_path / "other.root"
    with uproot.recreate(path) as file:
        file.mktree("tree", {"x": "f8"})
    assert read_metadata(path) == {}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"other\.root"):
        read_metadata(path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_columns_are_the_same_file_to_the_byte(tmp_path, kind):
    """Whoever writes them, whenever, under whatever temporary name: another process does, a second later."""
    script = (
        "import sys; from pathlib import Path; from jettag.data.root import write_tree; "
        "from tests.data.make import make_columns; "
        f"write_tree(Path(sys.argv[1]), 'tree', [make_columns(30)], metadata={{'seed': '1'}}, kind={kind!r})"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "other")], check=True, cwd=Path(__file__).parents[2])
    write_tree(tmp_path / "ours", "tree", [make_columns(30)], metadata={"seed": "1"}, kind=kind)
    assert (tmp_path / "other").read_bytes() == (tmp_path / "ours").read_bytes()


@pytest.mark.parametrize("kind", KINDS[:2])
def test_libdeflate_unpacks_what_zlib_packed_and_reads_the_same(tmp_path, kind):
    path = tmp_path / "jets.root"
    write_tree(path, "tree", [make_columns(300)], metadata={}, kind=kind)
    with mock.patch("deflate.zlib_decompress", wraps=deflate.zlib_decompress) as unpack:
        ours = read_back(path, kind)
        called = unpack.call_count
        with uproot_as_it_comes():
            plain = read_back(path, kind)
        assert called == unpack.call_count > 0
    assert ak.array_equal(ours, plain, dtype_exact=True)


def test_flipped_bits_in_what_libdeflate_unpacks_are_noticed(tmp_path):
    path = tmp_path / "jets.root"
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:  # of others: without jettag's checksums
        file.mktree("tree", {"x": "f8"}).extend({"x": np.arange(4000.0)})
    content = bytearray(path.read_bytes())
    place = content.index(b"ZL\x08", content.index(b"TBasket")) + 200
    content[place] ^= 1
    path.write_bytes(content)
    with open_source(expand_inputs([path])[0], "tree") as source, pytest.raises(DataError, match="cannot be read"):
        list(chunks(source, ["x"], "here"))
