"""Columns from baskets are uproot's, whatever the baskets are like; damage is an error."""

import struct
import types

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.data import baskets
from jettag.data.baskets import iterate_baskets
from jettag.data.root import plain_numbers

KINDS = ["float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool"]
PACKING = [uproot.ZLIB(1), uproot.LZMA(1), uproot.LZ4(1), uproot.ZSTD(1), None]


def make_chunk(rng, entries):
    """Flat and jagged columns of every kind; most entries of the second half are empty."""
    counts = rng.integers(0, 9, entries) * (np.arange(entries) < entries / 2)
    total = int(counts.sum())
    columns = {}
    for kind in KINDS:
        columns[f"flat_{kind}"] = rng.normal(0, 50, entries).astype(kind)
        columns[f"list_{kind}"] = ak.unflatten(rng.normal(0, 50, total).astype(kind), counts)
    return columns


def write(path, sizes, compression=PACKING[0], seed=0):
    """A TTree whose baskets have so many entries each; uproot writes one a branch for each `extend`."""
    rng = np.random.default_rng(seed)
    chunks = [make_chunk(rng, size) for size in sizes]
    with uproot.recreate(path, compression=compression) as file:
        tree = file.mktree("tree", {n: getattr(c, "dtype", None) or ak.type(c).content for n, c in chunks[0].items()})
        for chunk in chunks:
            tree.extend(chunk)
    return path


def read_all(path, step, stop=None, names=None, numbers=plain_numbers):
    """Ours and uproot's, step by step."""
    data = path.read_bytes()
    with uproot.open(path) as file:
        tree = file["tree"]
        names = names or tree.keys(full_paths=False)
        stop = tree.num_entries if stop is None else stop
        ours = list(iterate_baskets(tree, names, step, stop, lambda ranges: [data[a:b] for a, b in ranges], numbers))
        wanted = frozenset(names).__contains__
        others = list(tree.iterate(filter_name=wanted, entry_stop=stop, step_size=step, library="ak", how=dict))
    return ours, others


def assert_same(ours, others):
    assert len(ours) == len(others) > 0
    for mine, other in zip(ours, others, strict=True):
        assert set(mine) <= set(other)
        for name, column in mine.items():
            assert column.type == other[name].type
            assert ak.array_equal(column, other[name])


@pytest.mark.parametrize("step", [1, 7, 64, 1000])
@pytest.mark.parametrize("sizes", [[40], [10, 1, 13, 30, 2], [5] * 12])
def test_steps_and_baskets_need_not_meet(tmp_path, sizes, step):
    ours, others = read_all(write(tmp_path / "x.root", sizes), step)
    assert_same(ours, others)


@pytest.mark.parametrize("stop", [1, 23, 24, 53])
def test_entries_behind_the_end_are_left_out(tmp_path, stop):
    ours, others = read_all(write(tmp_path / "x.root", [10, 1, 13, 30]), 20, stop)
    assert sum(len(chunk["flat_bool"]) for chunk in ours) == stop
    assert_same(ours, others)


@pytest.mark.parametrize("compression", PACKING, ids=lambda kind: type(kind).__name__)
def test_every_packing_is_unpacked(tmp_path, compression):
    assert_same(*read_all(write(tmp_path / "x.root", [300, 300], compression), 250))


def test_only_what_is_asked_for_is_read_and_all_of_a_step_together(tmp_path):
    path = write(tmp_path / "x.root", [10] * 6)
    data, asked = path.read_bytes(), []

    def read(ranges):
        asked.append(len(ranges))
        return [data[a:b] for a, b in ranges]

    with uproot.open(path) as file:
        names = ["list_float32", "flat_int64"]
        found = list(iterate_baskets(file["tree"], names, 25, 60, read, plain_numbers))
    assert [list(chunk) for chunk in found] == [names] * 3
    assert asked == [6, 4, 2]  # baskets of ten entries: no one twice


def test_branches_that_are_not_numbers_are_uproots(tmp_path):
    path = write(tmp_path / "x.root", [10, 20, 30])
    assert_same(*read_all(path, 17, numbers=lambda x, tree: None if "int" in x.name else plain_numbers(x, tree)))


class Other:
    """A tree whose branches are those of another, but for some."""

    def __init__(self, tree, branches):
        self._tree, self._branches = tree, branches

    def __getattr__(self, name):
        return getattr(self._tree, name)

    def iteritems(self, **_):
        return iter(self._branches)


def test_a_name_that_two_branches_have_is_left_to_uproot(tmp_path):
    path = write(tmp_path / "x.root", [10, 20])
    with uproot.open(path) as file:
        tree = file["tree"]
        twice = Other(tree, [("flat_int32", tree["flat_int32"]), ("flat_int32", tree["flat_int64"])])
        (found,) = iterate_baskets(twice, ["flat_int32"], 99, 30, lambda ranges: [b""] * len(ranges), plain_numbers)
        assert ak.array_equal(found["flat_int32"], tree["flat_int32"].array())


def test_a_branch_shorter_than_its_tree_gets_no_entries_of_nobody(tmp_path):
    path = write(tmp_path / "x.root", [10, 20])
    with uproot.open(path) as file:
        branch = file["tree"]["list_int32"]
        longer = types.SimpleNamespace(num_entries=31)
        held = plain_numbers(branch, file["tree"])
        assert held is not None
        assert plain_numbers(branch, longer) is None
        column = baskets._Column(branch, held)
        data = path.read_bytes()
        for begin, stop in column.wanted(31):
            column.add(data[begin:stop])
        with pytest.raises(ValueError, match="no basket has entry 30"):
            column.take(0, 31)


def test_where_a_basket_tells_no_sizes_uproot_goes_on(tmp_path, monkeypatch):
    path = write(tmp_path / "x.root", [10, 20, 30])
    unpacked, calls = baskets._unpacked, []

    def forgetful(*arguments):
        data, sizes = unpacked(*arguments)
        calls.append(1)
        return data, sizes if len(calls) < 60 else None

    monkeypatch.setattr(baskets, "_unpacked", forgetful)
    assert_same(*read_all(path, 17))
    assert len(calls) == 60  # in the second step: uproot goes on from there


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i2", "u1"])
def test_vectors_have_ten_bytes_before_each_entry(kind):
    rng = np.random.default_rng(1)
    lists = [rng.normal(0, 9, size).astype(kind) for size in (3, 0, 0, 5, 1, 0)]
    entries = [bytes(rng.integers(0, 256, 10, dtype=np.uint8)) + values.tobytes() for values in lists]
    data = np.frombuffer(b"".join(entries), dtype=np.uint8)
    sizes = np.array([len(entry) for entry in entries], dtype=np.int32)
    found, left = baskets._without(data, sizes, 10, np.dtype(kind).itemsize)
    assert found.tobytes() == b"".join(values.tobytes() for values in lists)
    assert (left == [values.nbytes for values in lists]).all()
    # and what uproot makes of the same bytes
    inner = uproot.AsJagged(uproot.AsDtype(kind), header_bytes=10)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    branch = types.SimpleNamespace(file=types.SimpleNamespace(file_path="x"))
    other = inner.basket_array(data, starts, None, branch, {}, 0, uproot.interpretation.library.NumPy(), {})
    assert (found.view(kind) == other.content).all()
    assert (np.diff(other.offsets) * np.dtype(kind).itemsize == left).all()


@pytest.mark.parametrize(
    ("at", "form", "value", "said"),
    [
        (0, ">i", 77, "announced"),  # its size
        (6, ">i", 5, "bytes|announced"),  # of what it unpacks to
        (-9, ">i", 3, "announced"),  # its entries, in the last bytes of the key
        (-5, ">i", -1, "announced"),  # where its numbers end
    ],
)
def test_a_basket_that_contradicts_the_tree_is_an_error(tmp_path, at, form, value, said):
    path = write(tmp_path / "x.root", [50], compression=None)
    data = bytearray(path.read_bytes())
    with uproot.open(path) as file:
        branch = file["tree"]["list_float32"]
        begin = int(branch.member("fBasketSeek")[0])
        key = struct.unpack_from(">h", data, begin + 14)[0]
        read = lambda ranges: [bytes(data[a:b]) for a, b in ranges]  # noqa: E731
        struct.pack_into(form, data, begin + (at if at >= 0 else key + at), value)
        with pytest.raises(ValueError, match=said):
            list(iterate_baskets(file["tree"], ["list_float32"], 9, 50, read, plain_numbers))


def test_entries_that_do_not_follow_each_other_are_an_error(tmp_path):
    path = write(tmp_path / "x.root", [50], compression=None)
    data = bytearray(path.read_bytes())
    with uproot.open(path) as file:
        branch = file["tree"]["list_float32"]
        begin = int(branch.member("fBasketSeek")[0])
        key, length = struct.unpack_from(">h", data, begin + 14)[0], struct.unpack_from(">i", data, begin + 6)[0]
        read = lambda ranges: [bytes(data[a:b]) for a, b in ranges]  # noqa: E731
        struct.pack_into(">i", data, begin + key + length - 4 * 40, key)  # a later entry begins before others
        with pytest.raises(ValueError, match="follow"):
            list(iterate_baskets(file["tree"], ["list_float32"], 9, 50, read, plain_numbers))
