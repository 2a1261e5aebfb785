"""Servers without byte ranges, such as ``python -m http.server``: a file is fetched once, and leaves no trace."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest

from jettag.data.fetched import FOLDER
from jettag.data.identity import identify
from jettag.data.inputs import expand_inputs
from jettag.data.prepare import Preparation, prepare
from jettag.data.remote import Remote
from jettag.data.root import write_tree
from jettag.data.source import open_source
from jettag.errors import DataError, ResourceError
from jettag.runs.seen import refuse_shared, seen_in_training
from jettag.training.run_directory import describe_inputs

from .make import make_columns
from .serve import serving
from .test_remote import CARD, fails, read, same, write_pandas


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of whole files: two of ROOT; copies go to a folder of the test."""
    folder = tmp_path / "served"
    folder.mkdir()
    for seed, name in enumerate(("QCD", "Tbqq")):
        write_tree(folder / f"{name}.root", "tree", [make_columns(60, seed=seed, class_name=name)], metadata={})
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setenv(FOLDER, str(copies))
    monkeypatch.setattr("jettag.data.remote.FIRST_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(folder) as running:
        running.ranges = False
        yield running


class Quiet(SimpleHTTPRequestHandler):
    """What ``python -m http.server`` serves with, without its log."""

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("kind", ["ttree", "rntuple", "parquet"])
def test_pythons_own_server_gives_the_jets_of_the_file(server, kind):
    name = "a.parquet" if kind == "parquet" else "a.root"
    write_tree(server.folder / name, "tree", [make_columns(300)], metadata={}, kind=kind)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=server.folder)) as own:
        threading.Thread(target=own.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        url = f"http://127.0.0.1:{own.server_port}"
        local, remote = read(server.folder / name), read(f"{url}/{name}")
        assert same(local, remote)
        assert np.array_equal(local.label, remote.label)
        assert [file.address for file in expand_inputs([f"{url}/Q*.root"])] == [f"{url}/QCD.root"]
        assert "no such file" in fails(DataError, f"{url}/nowhere.root")
        own.shutdown()


@pytest.mark.parametrize("layout", ["pandas", "structured"])
def test_hdf5_of_both_layouts(server, layout):
    path = server.folder / "a.h5"
    if layout == "pandas":
        write_pandas(path)
    else:
        with h5py.File(path, "w") as file:
            file["jets"] = np.array([(1.0, 2), (3.0, 4)], dtype=[("pt", "f4"), ("label", "i4")])
    found = []
    for place in (path, f"{server.url}/a.h5"):
        with open_source(expand_inputs([place])[0], None) as source:
            found.append(next(source.chunks(source.names, 100, min(source.num_entries, 100))))
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    assert server.whole == ["/a.h5"]


def test_a_file_is_fetched_once_and_said_so_once(server, caplog):
    with caplog.at_level(logging.WARNING, "jettag"):
        first, second = (read(f"{server.url}/*.root") for _ in range(2))
    assert same(first, second)
    assert [path for path in server.whole if path != "/"] == ["/QCD.root", "/Tbqq.root"]  # "/" lists the folder
    lines = [record.getMessage() for record in caplog.records]
    size = (server.folder / "QCD.root").stat().st_size
    assert len(lines) == 2
    assert f"{server.url}/QCD.root is fetched whole ({size / 1e6:.3g} MB) to {os.environ[FOLDER]}" in lines[0]


def test_another_version_is_fetched_anew(server):
    server.headers["ETag"] = '"one"'
    file = expand_inputs([f"{server.url}/QCD.root"])[0]
    before = identify(file)
    assert before.bytes == (server.folder / "QCD.root").stat().st_size
    shutil.copy(server.folder / "QCD.root", server.folder / "other.root")
    other = expand_inputs([f"{server.url}/other.root"])
    assert not seen_in_training("it", {"inputs": describe_inputs([file])}, other)
    refuse_shared([file], other, "--data")
    assert not server.whole  # to know a file it need not be fetched
    one = read(file.url)
    server.headers["ETag"] = '"two"'
    shutil.copy(server.folder / "Tbqq.root", server.folder / "QCD.root")
    assert identify(file).sha256 != before.sha256
    assert not same(one, read(file.url))


def test_a_transfer_that_is_cut_is_made_again(server, caplog):
    server.trouble = lambda number, path: "drop" if 0 < len(server.whole) < 3 else None
    with caplog.at_level(logging.WARNING, "jettag"):
        assert same(read(f"{server.url}/QCD.root"), read(server.folder / "QCD.root"))
    assert server.whole == ["/QCD.root"] * 3
    assert "retry 1 of 4" in caplog.text
    assert "retry 2 of 4" in caplog.text


@pytest.mark.parametrize(
    ("trouble", "kind", "said"),
    [
        ("drop", ResourceError, "no answer in 3 tries"),
        ("silence", ResourceError, "no answer in 3 tries"),
        (503, ResourceError, "no answer in 3 tries (HTTP 503)"),
        (403, DataError, "not allowed to read (HTTP 403)"),
    ],
)
def test_a_transfer_that_stays_cut_is_one_line(server, monkeypatch, trouble, kind, said):
    monkeypatch.setenv("JETTAG_REMOTE_TRIES", "3")
    monkeypatch.setenv("JETTAG_REMOTE_TIMEOUT", "0.5")
    server.trouble = lambda number, path: trouble if server.whole else None
    message = fails(kind, f"{server.url}/QCD.root?token=secret")
    assert said in message
    assert f"in {server.url}/QCD.root?token=...;" in message
    assert len(server.whole) == (1 if kind is DataError else 3)
    assert {path.suffix for path in Path(os.environ[FOLDER]).iterdir()} <= {".lock", ".part"}


def test_a_file_may_take_longer_than_a_request(server, monkeypatch):
    """The time bounds silence, not the whole transfer."""
    monkeypatch.setenv("JETTAG_REMOTE_TIMEOUT", "1")
    content = (server.folder / "QCD.root").read_bytes()

    class Slow(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            pieces = 1 if self.headers.get("Range") else 4
            for number in range(pieces):
                step = -(-len(content) // pieces)
                self.wfile.write(content[number * step : (number + 1) * step])
                time.sleep(0.4 * (pieces > 1))

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as slow:
        threading.Thread(target=slow.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        begin = time.monotonic()
        assert Remote(f"http://127.0.0.1:{slow.server_port}/QCD.root").read(0, len(content)) == content
        assert time.monotonic() - begin > 1
        slow.shutdown()


def test_a_server_that_stops_to_give_ranges_is_refused(server):
    server.ranges = True
    server.trouble = lambda number, path: "whole" if number >= 3 else None
    assert "the server gives whole files only" in fails(DataError, f"{server.url}/QCD.root")


def test_a_disk_without_room_is_told_before_and_while_it_fills(server, monkeypatch):
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda place: real(place)._replace(free=1000))
    message = fails(ResourceError, f"{server.url}/QCD.root")
    assert "has room for 0.001 MB" in message
    assert "set TMPDIR" in message
    monkeypatch.setattr(shutil, "disk_usage", real)

    async def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.http.HTTPFileSystem._get_file", full)
    assert "cannot be written" in fails(ResourceError, f"{server.url}/QCD.root")
    assert not server.whole


def test_workers_share_the_copy(server, tmp_path):
    dataset = prepare(
        expand_inputs([f"{server.url}/*.root"]), CARD, tmp_path / "out", Preparation(shard_jets=40), workers=2
    )
    assert sum(dataset.count(split) for split in ("train", "val", "test")) == 120
    assert sorted(path for path in server.whole if path != "/") == ["/QCD.root", "/Tbqq.root"]


COMMAND = [sys.executable, "-m", "jettag_cli", "data", "check", "jetclass"]


@pytest.mark.parametrize("ending", ["done", "SIGTERM", "SIGINT"])
def test_nothing_is_left_at_the_end(server, tmp_path, monkeypatch, ending):
    """Of a command that ends by itself, and of one that a signal meets in the middle of the transfer."""
    monkeypatch.delenv(FOLDER)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    if ending != "done":
        server.trouble = lambda number, path: "silence" if server.whole else None
    process = subprocess.Popen(
        [*COMMAND, f"{server.url}/QCD.root"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if ending != "done":
        until = time.monotonic() + 60
        while not server.whole and time.monotonic() < until:
            time.sleep(0.05)
        assert list(scratch.iterdir())
        process.send_signal(getattr(signal, ending))
    _, told = process.communicate(timeout=60)
    assert process.returncode == {"done": 0, "SIGTERM": 143, "SIGINT": 130}[ending], told
    assert "is fetched whole" in told
    assert list(scratch.iterdir()) == []
