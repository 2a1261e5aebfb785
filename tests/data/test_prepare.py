"""Prepared data: the jets of the files, each once; the same bytes however they are made; and no silent damage."""

import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from jettag.data import buckets
from jettag.data.card import load_card
from jettag.data.dataset import SPLITS, SplitRule, parse_fractions, read_dataset
from jettag.data.identity import file_sha256
from jettag.data.opening import expand_data, open_jets
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.data.shards import BLOCK, Shard, describe, find_damage
from jettag.errors import DataError, ResourceError, UsageError

from .make import make_columns, without

CARD = load_card("generated")
SMALL = Preparation(shard_jets=90)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for seed, name in enumerate(("QCD", "Tbqq", "Hbb")):
        write_tree(folder / f"{name}.root", "tree", [make_columns(300, seed=seed, class_name=name)], metadata={})
    return sorted(folder.glob("*.root"))


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "shards"
    prepare(expand_inputs(files), CARD, out, SMALL)
    return out


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def opened(folder, split="train", **options):
    options = {"features": "jetclass_full", "labels": True} | options
    return open_jets(expand_data([folder]), CARD, split=split, **options)


def everything(table):
    return table.load(np.arange(len(table.block_sizes)))[0]


def jets_of(table):
    """The jets by their four-momenta, whatever their order."""
    edges = itertools.pairwise(table.offsets.tolist())
    return {table.p4[a:b].tobytes(): (table.features[a:b], table.label[j]) for j, (a, b) in enumerate(edges)}


def test_the_splits_hold_every_jet_of_the_files_once(files, made):
    straight = jets_of(read_table(expand_inputs(files), CARD, features="jetclass_full", labels=True))
    found = {}
    for split in SPLITS:
        part = jets_of(everything(opened(made, split)))
        assert not found.keys() & part.keys()
        found |= part
    assert found.keys() == straight.keys()
    for key, (features, label) in straight.items():
        assert found[key][1] == label
        # float16 has 11 bits: half a unit in the last place is 2^-11 of the number, 2^-25 below its normal range.
        np.testing.assert_allclose(found[key][0], features, rtol=2**-11, atol=2**-25)


def test_whoever_may_read_the_manifest_may_read_the_shards(made):
    modes = {path.stat().st_mode & 0o777 for path in made.rglob("*.*") if path.is_file()}
    assert modes == {(made / "dataset.json").stat().st_mode & 0o777}


def test_f32_is_exact(files, tmp_path):
    prepare(
        expand_inputs(files), CARD, tmp_path / "s", Preparation(dtype="f32", fractions=(1, 0, 0), max_constituents=5)
    )
    straight = read_table(expand_inputs(files), CARD, features="jetclass_full", labels=True, max_constituents=5)
    found = jets_of(everything(opened(tmp_path / "s", max_constituents=5)))
    for key, (features, _) in jets_of(straight).items():
        np.testing.assert_array_equal(found[key][0], features)


def test_prepared_again_the_same_bytes_whatever_the_order_the_place_and_the_workers(files, made, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    copies = [moved / f"copy_{n}.root" for n in range(len(files))]
    for copy, path in zip(copies, reversed(files), strict=True):
        copy.write_bytes(path.read_bytes())
    prepare(expand_inputs(copies[::-1]), CARD, tmp_path / "again", SMALL, workers=2)
    first, second = content(made), content(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == ["dataset.json"]  # which says where files lie
    before, after = (json.loads(c["dataset.json"]) for c in (first, second))
    for item in (*before["sources"], *after["sources"]):
        del item["path"]
    assert before.pop("checksum") != after.pop("checksum")
    assert before == after


def test_another_seed_deals_another_order_to_the_same_splits(files, made, tmp_path):
    prepare(expand_inputs(files), CARD, tmp_path / "s", Preparation(shard_jets=90, seed=1))
    for split in SPLITS:
        one, other = everything(opened(made, split)), everything(opened(tmp_path / "s", split))
        assert jets_of(one).keys() == jets_of(other).keys()
        assert one.p4.tobytes() != other.p4.tobytes()


def test_a_prepared_set_is_shuffled_across_files(made):
    label = opened(made).label
    thirds = [np.bincount(part, minlength=10) for part in np.array_split(label, 3)]
    for counts in thirds:  # 240 jets of three classes each: 80 expected, 8 the spread
        assert all(45 < count < 115 for count in counts[[0, 1, 8]])


def finished(out, names="*.json"):
    """Tasks that are done; a folder may get its name while it is looked at."""
    try:
        return len([*out.glob(f".staging/*/{names}")])
    except FileNotFoundError:
        return finished(out, names)


@pytest.mark.parametrize("place", [0.1, 0.6])
def test_killed_and_called_again_equals_uninterrupted(files, made, tmp_path, place):
    out = tmp_path / "shards"
    code = (
        "import sys, time; from tests.data.test_prepare import *; from jettag.data import prepare as room\n"
        "for name in ('_scatter', '_collect'):\n"
        "    def slow(*a, inner=getattr(room, name)): time.sleep(0.1); return inner(*a)\n"
        "    setattr(room, name, slow)\n"
        "print('ready', flush=True); prepare(expand_inputs(sys.argv[2:]), CARD, Path(sys.argv[1]), SMALL)"
    ).replace("import sys, time", "import sys, time; from pathlib import Path")
    process = subprocess.Popen([sys.executable, "-c", code, out, *files], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    tasks = 3 + len(read_dataset(made).shards)
    while finished(out) < place * tasks and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "dataset.json").exists()
    prepare(expand_inputs(files), CARD, out, SMALL)
    assert content(out) == content(made)


def interrupted(monkeypatch):
    """Let the second shard that is written be interrupted; the names of those begun are appended to what is given."""
    calls, write = [], buckets.write_shard

    def failing(path, columns):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(path, columns)

    monkeypatch.setattr(buckets, "write_shard", failing)
    return calls


def test_what_is_finished_is_not_done_again(files, tmp_path, monkeypatch):
    """A first call that fails in pass two leaves pass one, and one shard, to the second call."""
    calls, scatter = interrupted(monkeypatch), buckets.scatter
    with pytest.raises(KeyboardInterrupt):
        prepare(expand_inputs(files), CARD, tmp_path / "s", SMALL)
    monkeypatch.setattr("jettag.data.prepare.scatter", lambda *a: pytest.fail("read again"))
    prepare(expand_inputs(files), CARD, tmp_path / "s", SMALL)
    assert len(calls) == 1 + len(read_dataset(tmp_path / "s").shards)
    monkeypatch.setattr(buckets, "write_shard", lambda *a: pytest.fail("written again"))
    prepare(expand_inputs(files), CARD, tmp_path / "s", SMALL)
    assert scatter is buckets.scatter


@pytest.mark.parametrize("workers", [1, 2])
def test_prepared_again_what_is_missing_or_damaged_is_made_good_and_nothing_else(files, made, tmp_path, workers):
    """Shards gone, cut, longer, with a bit or a type changed; then nothing is wrong, and nothing is written."""
    out = tmp_path / "shards"
    shutil.copytree(made, out)
    gone, cut, flipped, longer, retyped, kept = sorted(out.glob("train/*.safetensors"))[:6]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-100])
    content_of = bytearray(flipped.read_bytes())
    content_of[-5000] ^= 4
    flipped.write_bytes(content_of)
    longer.write_bytes(longer.read_bytes() + b"more")
    retyped.write_bytes(retyped.read_bytes().replace(b'"I64"', b'"U64"', 1))
    times, told = kept.stat().st_mtime_ns, []
    prepare(expand_inputs(files), CARD, out, SMALL, workers=workers, warn=told.append)
    assert content(out) == content(made)
    assert kept.stat().st_mtime_ns == times
    assert len(told) == 1
    assert told[0].startswith("5 of ")
    assert "are made again: no such shard in " in told[0]
    times, told = {path: path.stat().st_mtime_ns for path in out.rglob("*")}, []
    prepare(expand_inputs(files), CARD, out, SMALL, workers=workers, note=told.append, warn=pytest.fail)
    number = len(read_dataset(made).shards)
    assert told == [f"{out} is complete: the bytes of its {number} shards are compared with their checksums"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == {
        path: time for path, time in times.items() if path.is_file()
    }


def test_whatever_is_wrong_with_a_shard_is_told_and_nothing_stops(made, tmp_path):
    """Each byte of the header and some of the labels changed, a folder in its place, JSON that is no object."""
    (name, facts), *_ = read_dataset(made).shards.items()
    good, path = (made / name).read_bytes(), tmp_path / "shard.safetensors"
    path.write_bytes(good)
    assert find_damage(path, facts) == ""
    assert find_damage(path, {key: value for key, value in facts.items() if key != "header"}) == ""  # of before
    header = 8 + int.from_bytes(good[:8], "little")
    begin, end = json.loads(good[8:header])["label"]["data_offsets"]
    for place in (*range(header), *range(header + begin, header + end, 7)):
        for bit in (1, 4, 128):
            path.write_bytes(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
            assert find_damage(path, facts), (place, bit)
            if place < header:
                with pytest.raises(DataError):
                    Shard(path, facts)
    path.write_bytes((2).to_bytes(8, "little") + b"[]" + good[header:])
    assert "a damaged shard" in find_damage(path, facts)
    path.unlink()
    path.mkdir()
    assert find_damage(path, facts) == "cannot be read (Is a directory)"


def test_a_repair_that_is_interrupted_is_gone_on_with(files, made, tmp_path, monkeypatch):
    out = tmp_path / "shards"
    shutil.copytree(made, out)
    for path in sorted(out.glob("train/*.safetensors"))[:2]:
        path.unlink()
    calls = interrupted(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        prepare(expand_inputs(files), CARD, out, SMALL)
    monkeypatch.setattr("jettag.data.prepare.scatter", lambda *a: pytest.fail("read again"))
    prepare(expand_inputs(files), CARD, out, SMALL)
    assert len(calls) == 3
    assert content(out) == content(made)


def test_events_stay_together_and_on_their_side(files, tmp_path):
    columns = make_columns(400, seed=5)
    columns["event_number"] = np.arange(400) // 2
    write_tree(tmp_path / "pairs.root", "tree", [columns], metadata={})
    prepare(expand_inputs([tmp_path / "pairs.root"]), CARD, tmp_path / "a", SMALL)
    prepare(expand_inputs([tmp_path / "pairs.root", *files]), CARD, tmp_path / "b", Preparation(seed=3))
    sides = {}
    for folder, split in itertools.product(("a", "b"), SPLITS):
        for path in (tmp_path / folder / split).glob("*.safetensors"):
            for event in load_file(path)["jet.event_number"].tolist():
                assert sides.setdefault(event, split) == split
    assert set(sides.values()) == set(SPLITS)


def test_the_split_has_the_fractions_asked_for():
    rule = SplitRule(by="event_number", fractions=parse_fractions("70:20:10"))
    counts = np.bincount(rule.of_events(np.arange(100_000)), minlength=3)
    # Binomial: one standard deviation is at most 145 of 100,000.
    np.testing.assert_allclose(counts, [70_000, 20_000, 10_000], atol=700)
    for bad in ("80:20", "a:b:c", "0:1:1", "1:-1:1", "nan:1:1"):
        with pytest.raises(UsageError, match="TRAIN:VAL:TEST"):
            parse_fractions(bad)


def test_without_event_numbers_whole_files_are_dealt(tmp_path):
    for number in range(6):
        columns = without(make_columns(20, seed=number), "event_number")
        write_tree(tmp_path / f"{number}.root", "tree", [columns], metadata={})
    inputs = expand_inputs([tmp_path / "*.root"])
    fractions = (0.9, 0.1, 0)  # checksums of ROOT files differ at each writing: once in a million no file is to train
    dataset = prepare(inputs, CARD, tmp_path / "s", Preparation(fractions=fractions, split_by="file"))
    assert dataset.split.by == "file"
    dealt = [dataset.split.of_file(file_sha256(file.path)) for file in inputs]
    counts = [dataset.count(split) for split in SPLITS]
    assert counts == (20 * np.bincount(dealt, minlength=3)).tolist()
    with pytest.raises(DataError, match="not every file has an event_number"):
        prepare(inputs, CARD, tmp_path / "t", Preparation(split_by="event_number"))


def test_jets_of_few_files_without_event_numbers_are_dealt_one_by_one(tmp_path, monkeypatch):
    """Every class in every split, the same split in other company; many files stay whole."""
    for number, name in enumerate(("QCD", "Tbqq")):
        columns = without(make_columns(300, seed=number, class_name=name), "event_number")
        write_tree(tmp_path / f"{name}.root", "tree", [columns], metadata={})
    both, alone = expand_inputs([tmp_path / "*.root"]), expand_inputs([tmp_path / "Tbqq.root"])
    where = {}
    for out, inputs in (("both", both), ("alone", alone)):
        dataset = prepare(inputs, CARD, tmp_path / out, Preparation())
        assert dataset.split.by == "entry"
        assert sum(dataset.count(split) for split in SPLITS) == 300 * len(inputs)
        for split in SPLITS:
            table = everything(opened(tmp_path / out, split))
            names = np.array(table.class_names)[table.label]
            assert set(names) == ({"QCD", "Tbqq"} if out == "both" else {"Tbqq"})
            rows = names == "Tbqq"
            where[out, split] = set(table.jet["entry"][rows].tolist())
    assert all(where["both", split] == where["alone", split] for split in SPLITS)
    monkeypatch.setattr("jettag.data.prepare.MANY_FILES", 2)
    assert prepare(both, CARD, tmp_path / "many", Preparation(fractions=(1, 0, 0))).split.by == "file"


def flipped(content, place, random):
    """The bytes with one bit of the one at a place turned over."""
    bad = bytearray(content)
    bad[place] ^= 1 << int(random.integers(8))
    return bytes(bad)


def test_a_prepared_directory_is_a_manifest_and_the_shards_it_names(made):
    assert content(made).keys() == {"dataset.json", *read_dataset(made).shards}


def test_a_flipped_byte_of_the_manifest_is_an_error_or_changes_nothing(made, tmp_path):
    good = (made / "dataset.json").read_bytes()
    known = read_dataset(made)
    random = np.random.default_rng(0)
    keys = json.loads(good)
    for place in [*random.integers(0, len(good), 400), *(good.index(f'"{key}"'.encode()) + 2 for key in keys)]:
        (tmp_path / "dataset.json").write_bytes(flipped(good, place, random))
        try:
            found = read_dataset(tmp_path)
        except DataError as error:
            assert str(tmp_path / "dataset.json") in str(error)  # noqa: PT017 - some flips are not errors
            continue
        assert found == known  # a blank
    del keys["checksum"]
    (tmp_path / "dataset.json").write_text(json.dumps(keys))  # as it was written before there was one
    assert read_dataset(tmp_path) == known
    keys["shards"]["train/00000.safetensors"]["labels"][0] += 1
    keys["checksum"] = json.loads(good)["checksum"]
    (tmp_path / "dataset.json").write_text(json.dumps(keys))
    with pytest.raises(DataError, match=r"its checksum is not the one written in .*; prepare the data again"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("damaged", ["facts", "shard"])
def test_damage_to_what_an_interrupted_preparation_left_is_made_good(files, made, tmp_path, monkeypatch, damaged):
    written = []
    write = buckets.write_shard

    def failing(path, columns):
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(path, columns)

    out, random = tmp_path / "s", np.random.default_rng(0)
    monkeypatch.setattr(buckets, "write_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare(expand_inputs(files), CARD, out, SMALL)
    shard = written[0]
    known, path = describe(shard), shard if damaged == "shard" else out / ".staging" / "train" / f"{shard.stem}.json"
    assert known == read_dataset(made).shards[f"train/{shard.name}"]
    good = path.read_bytes()
    for place in random.integers(0, len(good), 60):
        path.write_bytes(flipped(good, place, random))
        assert describe(shard) in (None, known)  # a blank among the facts
    monkeypatch.setattr(buckets, "write_shard", write)
    prepare(expand_inputs(files), CARD, out, SMALL)
    assert content(out) == content(made)


def test_a_flipped_byte_is_an_error_whatever_it_hits(made, tmp_path):
    path = min(made.glob("train/*.safetensors"))
    target = tmp_path / "copy"
    for name, data in content(made).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    shard = target / "train" / path.name
    good = path.read_bytes()
    header = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])
    begin = 8 + int.from_bytes(good[:8], "little")
    random = np.random.default_rng(0)
    read = {"features", "p4", "offsets", "label", "blocks", "jet.file", "jet.entry"}
    assert header.keys() >= read
    for name in header:
        low, high = header[name]["data_offsets"]
        for place in random.integers(low, high, 4):
            shard.write_bytes(flipped(good, begin + place, random))
            if name in read:
                with pytest.raises(DataError, match="checksum"):
                    everything(opened(target))
            else:  # a column that nobody asks for, until somebody does
                everything(opened(target))
                with pytest.raises(DataError, match=f"checksum of {name}"):
                    everything(opened(target, jet_columns=[name.removeprefix("jet.")]))
    for place in random.integers(0, begin, 12):
        shard.write_bytes(flipped(good, place, random))
        try:
            table = everything(opened(target))
        except DataError:
            continue
        # What nobody reads: a column that training does not ask for.
        assert jets_of(table).keys() == jets_of(everything(opened(made))).keys()
    shard.write_bytes(good[:-100])
    with pytest.raises(DataError, match="damaged shard"):
        everything(opened(target))
    shard.unlink()
    with pytest.raises(DataError, match="no such shard"):
        everything(opened(target))


def test_a_subset_of_classes_and_of_constituents(files, made):
    table = opened(made, classes=["Hbb", "QCD"], max_constituents=4)
    straight = read_table(
        expand_inputs(files), CARD, features="jetclass_full", labels=True, classes=["Hbb", "QCD"], max_constituents=4
    )
    found, known = jets_of(everything(table)), jets_of(straight)
    assert found.keys() < known.keys()
    assert all(known[key][1] == label for key, (_, label) in found.items())
    assert table.class_counts.tolist() == np.bincount(table.label).tolist()
    assert sum(table.notes.values()) + len(table) == read_dataset(made).count("train")
    few = opened(made, max_jets=30)
    assert few.class_counts[[0, 1, 8]].tolist() == [10, 10, 10]
    assert table.block_sizes.max() <= BLOCK


def test_errors_name_both_sides(files, made, tmp_path):
    with pytest.raises(DataError, match="prepared with features jetclass_full where jetclass_kin is wanted"):
        opened(made, features="jetclass_kin")
    with pytest.raises(DataError, match="at most 128 constituents where 200 are wanted"):
        opened(made, max_constituents=200)
    with pytest.raises(UsageError, match="and the prepared directory"):
        expand_data([made, files[0]])
    with pytest.raises(UsageError, match="another data set"):
        prepare(expand_inputs(files[:1]), CARD, made, SMALL)
    copy = tmp_path / "copy.root"
    copy.write_bytes(files[0].read_bytes())
    with pytest.raises(DataError, match="the same content as"):
        prepare(expand_inputs([files[0], copy]), CARD, tmp_path / "s", SMALL)
    with pytest.raises(DataError, match="a prepared directory, where the files themselves are needed"):
        expand_inputs([made])
    (tmp_path / "busy" / ".staging").mkdir(parents=True)
    with (tmp_path / "busy" / ".staging" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ResourceError, match="another process is preparing it"):
            prepare(expand_inputs(files), CARD, tmp_path / "busy", SMALL)
    (tmp_path / "half" / ".staging").mkdir(parents=True)
    (tmp_path / "half" / ".staging" / "plan.json").write_text("{}")
    with pytest.raises(UsageError, match="another preparation was begun"):
        prepare(expand_inputs(files), CARD, tmp_path / "half", SMALL)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "dataset.json").write_text('{"version": 2}')
    with pytest.raises(DataError, match="prepare the data again"):
        opened(tmp_path / "bad")
