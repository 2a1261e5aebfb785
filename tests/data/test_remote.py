"""Files at an address: the jets of the file itself, patience with a network that fails, and a clear end."""

import json
import logging
import sys
import time

import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.identity import identify
from jettag.data.network import judge, shown
from jettag.data.opening import expand_data
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.data.source import chunks, open_source
from jettag.errors import DataError, ResourceError, UsageError
from jettag.runs.seen import seen_in_training
from jettag.training.run_directory import describe_inputs

from .make import make_columns
from .serve import serving

CARD = load_card("jetclass")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of a folder with two ROOT files; nobody waits long."""
    folder = tmp_path / "served"
    folder.mkdir()
    for seed, name in enumerate(("QCD", "Tbqq")):
        write_tree(folder / f"{name}.root", "tree", [make_columns(60, seed=seed, class_name=name)], metadata={})
    monkeypatch.setattr("jettag.data.remote.FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(folder) as running:
        yield running


def read(*inputs):
    return read_table(expand_inputs(inputs), CARD, features="jetclass_full", labels=True)


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("features", "p4", "offsets"))


def fails(kind, *inputs):
    with pytest.raises(kind) as caught:
        read(*inputs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_pandas(path):
    """A table as pandas lays it out, larger than one request."""
    h5py = pytest.importorskip("h5py")
    rows = np.zeros(4000, dtype=[("index", "i8"), ("x", "f4"), ("y", "f8")])
    rows["x"], rows["y"] = np.random.default_rng(0).normal(size=(2, 4000))
    with h5py.File(path, "w") as file:
        file.create_dataset("table/table", data=rows, chunks=(500,))


@pytest.mark.parametrize("kind", ["ttree", "rntuple", "parquet"])
def test_an_address_gives_the_jets_of_the_file(server, kind, monkeypatch):
    monkeypatch.setattr("jettag.data.source.CHUNK", 4_000)
    monkeypatch.setattr("jettag.data.remote.PIECE", 50_000)
    name = "a.parquet" if kind == "parquet" else "a.root"
    path = server.folder / name
    write_tree(path, "tree", [make_columns(6_000, longest=3)], metadata={}, kind=kind)
    local, remote = read(path), read(f"{server.url}/{name}")
    assert same(local, remote)
    assert np.array_equal(local.label, remote.label)
    # Opened twice, each byte of the columns fetched once: what is beyond is directories and footers.
    assert server.bytes_of(name) < 1.3 * path.stat().st_size


@pytest.mark.parametrize("piece", [20_000, 4 << 20])  # less than the file, more than it
def test_hdf5_from_an_address(server, monkeypatch, piece):
    monkeypatch.setattr("jettag.data.remote.PIECE", piece)
    path = server.folder / "a.h5"
    write_pandas(path)
    with open_source(expand_inputs([path])[0], None) as local:
        here = next(local.chunks(local.names, 100, local.num_entries))
    with open_source(expand_inputs([f"{server.url}/a.h5"])[0], None) as remote:
        there = next(remote.chunks(remote.names, 100, remote.num_entries))
        assert remote.names == local.names
        last = next(remote.chunks(remote.names, remote.num_entries, remote.num_entries))
    assert all(np.array_equal(here[name], there[name]) for name in here)
    assert all(np.array_equal(here[name], last[name][:100]) for name in here)


def test_a_class_in_front_and_a_query_behind(server):
    found = expand_inputs([f"QCD:{server.url}/QCD.root?download=1&token={'x' * 300}"])[0]
    assert found.class_name == "QCD"
    assert found.address == f"{server.url}/QCD.root?download=1&token=..."
    assert same(read(f"QCD:{server.url}/QCD.root?{'x' * 300}"), read(server.folder / "QCD.root"))


def test_a_pattern_lists_the_files(server):
    found = [file.address for file in expand_inputs([f"{server.url}/[QT]*.root"])]
    assert found == [f"{server.url}/QCD.root", f"{server.url}/Tbqq.root"]
    assert "no file matches" in fails(DataError, f"{server.url}/*.parquet")
    assert "no file matches" in fails(DataError, f"{server.url}/nowhere/*.root")


def test_two_failures_are_two_lines_and_then_it_works(server, caplog):
    server.trouble = lambda number, path: 503 if number < 2 else None
    with caplog.at_level(logging.WARNING, "jettag"):
        assert same(read(f"{server.url}/QCD.root"), read(server.folder / "QCD.root"))
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" in ")[0] for line in lines] == ["retry 1 of 4", "retry 2 of 4"]
    assert all("HTTP 503" in line and f"{server.url}/QCD.root" in line for line in lines)


def test_a_connection_dropped_in_the_middle_is_asked_again(server, caplog):
    server.trouble = lambda number, path: "drop" if number in (1, 3) else None
    assert same(read(f"{server.url}/Tbqq.root"), read(server.folder / "Tbqq.root"))
    assert "retry 1 of 4" in caplog.text


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (404, DataError, "no such file"),
        (401, DataError, "not allowed to read (HTTP 401)"),
        (403, DataError, "not allowed to read (HTTP 403)"),
        (400, DataError, "the server refuses (HTTP 400)"),
        (500, ResourceError, "no answer in 3 tries (HTTP 500)"),
        (429, ResourceError, "no answer in 3 tries (HTTP 429)"),
        ("drop", ResourceError, "no answer in 3 tries"),
    ],
)
@pytest.mark.parametrize("begin", [0, 3])
def test_every_end_is_one_line(server, monkeypatch, status, kind, said, begin):
    monkeypatch.setenv("JETTAG_REMOTE_TRIES", "3")
    server.trouble = lambda number, path: status if number >= begin else None
    message = fails(kind, f"{server.url}/QCD.root")
    assert said in message
    assert f"{server.url}/QCD.root;" in message
    before = sum(1 for _ in server.asked)
    assert before - begin <= 3 * 8  # tries of as many requests as run at once


@pytest.mark.parametrize("name", ["a.parquet", "a.h5"])
@pytest.mark.parametrize(("status", "kind"), [(403, DataError), (500, ResourceError)])
def test_pyarrow_and_hdf5_end_in_the_same_line(server, monkeypatch, name, status, kind):
    monkeypatch.setenv("JETTAG_REMOTE_TRIES", "2")
    monkeypatch.setattr("jettag.data.remote.PIECE", 2000)
    if name == "a.h5":
        write_pandas(server.folder / name)
    else:
        write_tree(server.folder / name, "tree", [make_columns(200)], metadata={}, kind="parquet")
    server.trouble = lambda number, path: status if number >= 5 else None
    file = expand_inputs([f"{server.url}/{name}"])[0]
    with pytest.raises(kind, match=f"HTTP {status}"), open_source(file, None) as source:
        list(chunks(source, source.names, file.address))
    assert len(server.asked) > 5


def test_silence_ends_in_time(server, monkeypatch):
    monkeypatch.setenv("JETTAG_REMOTE_TRIES", "2")
    monkeypatch.setenv("JETTAG_REMOTE_TIMEOUT", "0.2")
    server.trouble = lambda number, path: "silence"
    begin = time.monotonic()
    assert "no answer in 2 tries (no answer in 0.2 s)" in fails(ResourceError, f"{server.url}/QCD.root")
    assert time.monotonic() - begin < 5
    monkeypatch.setenv("JETTAG_REMOTE_TIMEOUT", "soon")
    assert "JETTAG_REMOTE_TIMEOUT='soon' is no number" in fails(UsageError, f"{server.url}/QCD.root")


def test_nobody_listens(monkeypatch):
    monkeypatch.setattr("jettag.data.remote.FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(".") as gone:
        url = gone.url
    assert "run the command again when the network is back" in fails(ResourceError, f"{url}/a.root")


@pytest.mark.parametrize("address", ["https://h/a.root", "s3://bucket/a.root", "root://h//a.root"])
def test_a_missing_package_is_named(monkeypatch, address):
    for name in ("aiohttp", "jettag.data.http", "s3fs", "fsspec_xrootd"):
        monkeypatch.setitem(sys.modules, name, None)
    extra = "xrootd" if address.startswith("root") else "remote"
    message = fails(ResourceError, address)
    assert f"pip install 'jettag[{extra}]'" in message
    assert address in message


def test_no_such_scheme():
    assert "no way to open nosuchscheme://" in fails(DataError, "nosuchscheme://host/a.root")


def test_any_file_system_of_fsspec(tmp_path):
    """A store in memory stands for s3: another file system, which is not asynchronous."""
    fsspec = pytest.importorskip("fsspec")
    write_tree(tmp_path / "a.root", "tree", [make_columns(30)], metadata={})
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/a.root", (tmp_path / "a.root").read_bytes())
    assert same(read("memory://bucket/a.root"), read(tmp_path / "a.root"))
    assert [file.address for file in expand_inputs(["memory://bucket/*.root"])] == ["memory:///bucket/a.root"]
    assert "no such file" in fails(DataError, "memory://bucket/b.root")


def test_a_changed_file_is_noticed(server):
    server.headers["ETag"] = '"one"'
    file = expand_inputs([f"{server.url}/QCD.root?token=secret"])[0]
    before = identify(file)
    assert before.tag == 'ETag "one"'
    assert before.bytes == (server.folder / "QCD.root").stat().st_size
    assert before.path == f"{server.url}/QCD.root?token=..."
    assert identify(file) == before
    server.headers["ETag"] = '"two"'
    assert identify(file).sha256 != before.sha256


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("https://user:word@host/a.root", "https://...@host/a.root"),
        ("https://host/a.root?X-Amz-Signature=abc&x=1", "https://host/a.root?X-Amz-Signature=...&x=1"),
        ("root://host//store/a.root", "root://host//store/a.root"),
        ("root://host//store/a.root?authz=abc", "root://host//store/a.root?authz=..."),
        ("https://zenodo.org/a.root?download=1", "https://zenodo.org/a.root?download=1"),
        ("--data", "--data"),
        ("QCD:jets/*.root", "QCD:jets/*.root"),
    ],
)
def test_secrets_are_not_shown(address, seen):
    assert shown(address) == seen


class ClientError(Exception):
    """As botocore's: the answer stands in ``response``."""

    def __init__(self, status):
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


class NoCredentialsError(Exception):
    """As botocore's."""


def caused(problem, cause):
    problem.__cause__ = cause
    return problem


@pytest.mark.parametrize(
    ("problem", "where", "said"),
    [
        (caused(FileNotFoundError("key"), ClientError(404)), "s3://b/a.root", "no such file (HTTP 404)"),
        (caused(PermissionError("denied"), ClientError(403)), "s3://b/a.root", "FSSPEC_S3_ANON=true"),
        (NoCredentialsError("none"), "s3://b/a.root", "AWS_PROFILE"),
        (OSError("File stat request failed: [3011] No such file"), "root://h//a.root", "no such file"),
        (OSError("[3010] permission denied"), "root://h//a.root", "voms-proxy-init"),
        (caused(OSError("slow down"), ClientError(503)), "s3://b/a.root", None),
        (OSError("[3012] Internal server error"), "root://h//a.root", None),
        (TimeoutError(), "root://h//a.root", None),
    ],
)
def test_what_other_file_systems_raise_is_understood(problem, where, said):
    """What s3fs and fsspec-xrootd make of an answer; None means another try."""
    error = judge(problem, where, 1.0).error
    assert (error is None) == (said is None)
    if error is not None:
        assert said in str(error)
        assert isinstance(error, DataError)


def contents(out):
    return {path.name + path.parent.name: path.read_bytes() for path in sorted(out.rglob("*.safetensors"))}


def test_prepare_goes_on_after_the_network_went_away(server, tmp_path, monkeypatch):
    monkeypatch.setenv("JETTAG_REMOTE_TRIES", "2")
    monkeypatch.setattr("jettag.data.identity.END", 1024)  # these files are small
    server.headers["ETag"] = '"one"'
    files = expand_inputs([f"{server.url}/*.root"])
    out, chosen = tmp_path / "out", Preparation(shard_jets=40)
    done = []

    def fail_at_the_end(number, path):
        return 503 if done else None

    server.trouble = fail_at_the_end
    with pytest.raises(ResourceError, match="no answer in 2 tries"):
        prepare(files, CARD, out, chosen, on_progress=done.append)
    assert done == [60]
    server.trouble = lambda number, path: None
    server.asked.clear()
    dataset = prepare(files, CARD, out, chosen)
    assert sum(dataset.count(split) for split in ("train", "val", "test")) == 120
    # Of the file that was done, only what plans the work was read again.
    first, second = ({item.path.rpartition("/")[2]: item.bytes} for item in dataset.sources)
    assert all(server.bytes_of(name) < 0.6 * size for name, size in first.items())
    assert all(server.bytes_of(name) > 0.9 * size for name, size in second.items())
    facts = json.loads((out / "dataset.json").read_text())["sources"]
    assert [item["tag"] for item in facts] == ['ETag "one"', 'ETag "one"']
    server.headers["ETag"] = '"two"'
    with pytest.raises(UsageError, match="another data set"):
        prepare(files, CARD, out, chosen)


def test_two_workers_prepare_from_addresses_what_one_does(server, tmp_path):
    files = expand_inputs([f"{server.url}/*.root"])
    one = prepare(files, CARD, tmp_path / "one", Preparation(shard_jets=40))
    two = prepare(files, CARD, tmp_path / "two", Preparation(shard_jets=40), workers=2)
    assert one == two
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("split_by", ["entry", "event_number"])
def test_copies_here_and_at_addresses_are_known_to_be_the_same(server, tmp_path, split_by):
    """Splits by event number are those of every copy; others ask for the checksum, which copies have not in common."""
    urls = [f"{server.url}/{name}.root" for name in ("QCD", "Tbqq")]
    paths = [server.folder / f"{name}.root" for name in ("QCD", "Tbqq")]
    chosen = Preparation(features="jetclass_full", shard_jets=50, split_by=split_by, fractions=(0.5, 0.25, 0.25))
    for twice in ([urls[0], paths[0]], [paths[0], urls[0]], [f"{urls[0]}?a=1", f"{urls[0]}?b=2"]):
        with pytest.raises(DataError, match=r"the same content as .*QCD.root"):
            prepare(expand_inputs(twice), CARD, tmp_path / "twice", chosen)
    prepare(expand_inputs(urls), CARD, tmp_path / "of-urls", chosen)
    prepare(expand_inputs(paths), CARD, tmp_path / "of-paths", chosen)

    def warned(trained, judged):
        facts = {"inputs": describe_inputs(expand_data([trained]))}
        return bool(seen_in_training("it", facts, expand_data([judged])))

    assert warned(urls[0], paths[0])
    assert warned(paths[0], urls[0])
    assert warned(urls[0], f"{urls[0]}?a=1")
    assert not warned(urls[0], paths[1])
    for one, other in ((tmp_path / "of-urls", paths[0]), (tmp_path / "of-paths", urls[0])):
        assert warned(one, other)
        assert warned(other, one)
    for one, other in (("of-urls", "of-paths"), ("of-paths", "of-urls")):
        assert warned(tmp_path / one, tmp_path / other / "train")
        assert warned(tmp_path / one, tmp_path / other) == (split_by == "entry")
        assert not warned(tmp_path / one, tmp_path / one)


def test_files_here_that_begin_and_end_alike_are_not_taken_for_copies(tmp_path, monkeypatch):
    monkeypatch.setattr("jettag.data.identity.END", 4)
    for name, content in (("a", b"headfirst.tail"), ("b", b"headother.tail")):
        (tmp_path / f"{name}.root").write_bytes(content)
    one, other = expand_inputs([tmp_path / "a.root", tmp_path / "b.root"])
    assert identify(one).ends == identify(other).ends
    assert seen_in_training("it", {"inputs": describe_inputs([one])}, [one])
    assert not seen_in_training("it", {"inputs": describe_inputs([one])}, [other])
