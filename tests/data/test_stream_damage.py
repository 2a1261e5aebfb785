"""What the disk does to the streams between the passes, or between a kill and the resume, never reaches a shard."""

import json
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest

from jettag.data import buckets
from jettag.data.card import load_card
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs
from jettag.data.root import write_tree
from jettag.data.staged import Staged, StreamDamage
from jettag.errors import DataError

from .make import make_columns
from .test_prepare import content, flipped

CARD = load_card("generated")
SMALL = Preparation(shard_jets=60, features="jetclass_kin")
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for seed, name in enumerate(("QCD", "Tbqq")):
        columns = [make_columns(100, seed=10 * seed + part, class_name=name) for part in range(2)]
        write_tree(folder / f"{name}.root", "tree", columns, metadata={})
    return sorted(folder.glob("*.root"))


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "shards"
    prepare(expand_inputs(files), CARD, out, SMALL)
    return content(out)


def killed_at_the_second_shard(files, out):
    write, written = buckets.write_shard, []

    def fatal(path, columns):
        written.append(path)
        if len(written) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, columns)

    buckets.write_shard = fatal
    prepare(expand_inputs(files), CARD, out, SMALL)


@pytest.fixture(scope="module")
def killed(files, tmp_path_factory):
    """What a kill leaves: the streams of both files, and the first shard."""
    out = tmp_path_factory.mktemp("killed") / "shards"
    process = FORK.Process(target=killed_at_the_second_shard, args=(files, out))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len([*out.glob("*/*.safetensors")]) == 1
    return out


@pytest.fixture
def left(killed, tmp_path):
    return shutil.copytree(killed, tmp_path / "left")


def staged(out):
    """The folders of the files, in the order of their names."""
    return sorted(path.parent for path in out.glob(".staging/*/index.json"))


def resume(files, out, monkeypatch, **options):
    """Go on; the files that were read for it and what was said."""
    read, said = [], []

    def scatter(job, *rest):
        read.append(job.file.path)
        return buckets.scatter(job, *rest)

    monkeypatch.setattr("jettag.data.prepare.scatter", scatter)
    prepare(expand_inputs(files), CARD, out, SMALL, warn=said.append, **options)
    return read, said


def flip_last(path):
    good = path.read_bytes()
    path.write_bytes(flipped(good, len(good) - 1, np.random.default_rng(0)))


def test_a_flipped_bit_of_any_stream_is_noticed_in_its_bucket_and_in_no_other(left):
    random = np.random.default_rng(0)
    folder = staged(left)[0]
    file = Staged.load(folder)
    assert {"features", "p4", "count", "key", "label", "jet.entry", "jet.pt"} <= file.streams.keys()
    assert {path.name for path in folder.iterdir()} == {"index.json", *file.streams}
    for name in file.streams:
        good = (folder / name).read_bytes()
        for place in (0, len(good) - 1, *random.integers(0, len(good), 6)):
            (folder / name).write_bytes(flipped(good, place, random))
            assert noticed(file) == 1
        (folder / name).write_bytes(good)
    assert noticed(file) == 0


def noticed(file):
    """In how many buckets damage is noticed."""
    found = 0
    for bucket in range(file.jets.shape[1]):
        try:
            file.pieces(bucket)
        except StreamDamage as damage:
            found += damage.folder == file.folder
    return found


def test_an_index_is_what_was_written_or_none(left):
    random = np.random.default_rng(0)
    folder = staged(left)[0]
    good = (folder / "index.json").read_bytes()
    known = repr(Staged.load(folder))
    for place in random.integers(0, len(good), 300):
        (folder / "index.json").write_bytes(flipped(good, place, random))
        found = Staged.load(folder)
        assert found is None or repr(found) == known  # a blank


def flip_in_the_index(folder):
    path = folder / "index.json"
    path.write_bytes(path.read_bytes().replace(b'"jets": [[', b'"jets": [[1', 1))


def without_checksums(folder):
    """As it was written before there were any."""
    path = folder / "index.json"
    kept = json.loads(path.read_bytes())
    path.write_text(json.dumps({key: kept[key] for key in ("notes", "largest", "jets", "constituents")}))


def cut(folder):
    os.truncate(folder / "features", (folder / "features").stat().st_size - 4)


DAMAGE = {
    "features": lambda folder: flip_last(folder / "features"),
    "key": lambda folder: flip_last(folder / "key"),
    "index": flip_in_the_index,
    "cut": cut,
    "grown": lambda folder: (folder / "p4").open("ab").write(bytes(16)),
    "gone": lambda folder: (folder / "jet.pt").unlink(),
    "old": without_checksums,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_after_the_kill_the_file_and_no_other_is_read_again(files, made, left, monkeypatch, damage):
    folder = staged(left)[1]
    DAMAGE[damage](folder)
    read, said = resume(files, left, monkeypatch)
    assert content(left) == made
    sources = {item["sha256"]: item["path"] for item in json.loads(made["dataset.json"])["sources"]}
    assert [str(path) for path in read] == [sources[folder.name]]
    if damage in ("index", "old"):  # noticed before anything was made of it
        assert not said
    else:
        assert len(said) == 1
        assert str(folder) in said[0]
        assert f"{sources[folder.name]} is read again" in said[0]


def test_without_damage_nothing_is_read_again(files, made, left, monkeypatch):
    assert resume(files, left, monkeypatch) == ([], [])
    assert content(left) == made


@pytest.mark.parametrize("workers", [1, 2])
def test_damage_between_the_passes_is_made_good(files, made, tmp_path, monkeypatch, workers):
    from jettag.data.precision import decide

    out, said = tmp_path / "s", []

    def between(*arguments):
        for folder in staged(out):
            flip_last(folder / "p4")
        return decide(*arguments)

    monkeypatch.setattr("jettag.data.prepare.decide", between)
    prepare(expand_inputs(files), CARD, out, SMALL, workers=workers, warn=said.append)
    assert content(out) == made
    assert {text for text in said if "checksum of the streams is not the one written" in text} == {*said}
    assert sum(str(file) in text for file in files for text in said) == len(files)


def test_a_disk_that_damages_it_again_ends_it_in_one_line_and_a_good_one_goes_on(files, made, tmp_path, monkeypatch):
    finish = buckets.StagedWriter.finish

    def bad(writer, notes):
        finish(writer, notes)
        flip_last(writer._folder / "p4")

    out = tmp_path / "s"
    with monkeypatch.context() as disk:
        disk.setattr(buckets.StagedWriter, "finish", bad)
        with pytest.raises(DataError, match=r"\.root is damaged again .* in .*\.staging.*; check the disk") as caught:
            prepare(expand_inputs(files), CARD, out, SMALL)
    assert caught.value.exit_code == 4
    assert not (out / "dataset.json").exists()
    prepare(expand_inputs(files), CARD, out, SMALL)
    assert content(out) == made
