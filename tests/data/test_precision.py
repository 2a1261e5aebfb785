"""float16 where it is harmless, float32 where it is not or where somebody says so; four-momenta exact."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from jettag.data import buckets
from jettag.data.card import load_card
from jettag.data.features import FEATURE_SETS
from jettag.data.opening import expand_data, open_jets
from jettag.data.precision import parse_dtypes
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.errors import DataError, UsageError

from .make import make_columns
from .test_prepare import everything, jets_of

CARD = load_card("generated")
NAMES = FEATURE_SETS["jetclass_full"].names
MIXED = Preparation(fractions=(1, 0, 0), shard_jets=40, column_dtypes={"part_d0": "f32", "part_charge": "f16"})


def write(path, seed, largest):
    """A file whose part_deta reaches ``largest`` in one constituent."""
    columns = make_columns(60, seed=seed)
    values = columns["part_deta"].layout.content.data
    values[7] = largest
    write_tree(path, "tree", [columns], metadata={})
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    return [write(folder / "near.root", 1, 0.5), write(folder / "far.root", 2, 20.37)]


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "shards"
    return out, prepare(expand_inputs(files), CARD, out, MIXED)


def opened(*folders):
    return open_jets(expand_data(folders), CARD, split="train", features="jetclass_full", labels=True)


def test_each_column_is_as_exact_as_its_dtype(files, made):
    out, dataset = made
    assert dataset.kept_f32 == {"part_deta": pytest.approx(20.37)}
    single = {"part_d0", "part_deta"}
    assert {NAMES[place] for place in dataset.halved} == set(NAMES) - single
    straight = jets_of(read_table(expand_inputs(files), CARD, features="jetclass_full", labels=True))
    found = jets_of(everything(opened(out)))
    assert found.keys() == straight.keys()  # four-momenta to the bit
    stored, exact = (np.concatenate([jets[key][0] for key in straight]) for jets in (found, straight))
    assert stored.dtype == np.float32
    for place, name in enumerate(NAMES):
        wrong = np.abs(stored[:, place] - exact[:, place])
        # Half a unit in the last of float16's 11 bits; the subnormal numbers end at 2^-24.
        bound = 0 if name in single else 2**-11 * np.abs(exact[:, place]) + 2**-25
        assert (wrong <= bound).all(), name
        assert wrong.max(initial=0) <= 2**-8  # what `SAFE` promises of those that nobody asked for


def test_shards_of_another_precision_train_beside_them(files, made, tmp_path):
    write(tmp_path / "third.root", 3, 0.5)
    prepare(expand_inputs([tmp_path / "third.root"]), CARD, tmp_path / "half", Preparation(fractions=(1, 0, 0)))
    assert everything(opened(tmp_path / "half")).features.dtype == np.float16
    both = everything(opened(made[0], tmp_path / "half"))
    assert len(both) == 180
    assert both.features.dtype == np.float32
    alone = jets_of(everything(opened(tmp_path / "half")))
    together = jets_of(both)
    for key, (features, _) in alone.items():
        np.testing.assert_array_equal(together[key][0], features)


def test_what_float16_cannot_hold_is_kept_or_refused_in_one_line(tmp_path):
    inputs = expand_inputs([write(tmp_path / "huge.root", 4, 1e5)])
    chosen = Preparation(fractions=(1, 0, 0), column_dtypes={"part_deta": "f16"})
    with pytest.raises(DataError, match=r"part_deta reaches 100000 and f16 ends at 65504 .*huge.root; .*part_deta=f32"):
        prepare(inputs, CARD, tmp_path / "refused", chosen)
    dataset = prepare(inputs, CARD, tmp_path / "kept", Preparation(fractions=(1, 0, 0)))
    assert dataset.kept_f32 == {"part_deta": 1e5}
    assert everything(opened(tmp_path / "kept")).features[:, NAMES.index("part_deta")].max() == 1e5


def test_a_flipped_bit_of_a_single_column_is_noticed(made, tmp_path):
    name = min(made[1].shards)
    target = tmp_path / "copy"
    (target / "train").mkdir(parents=True)
    (target / "dataset.json").write_text((made[0] / "dataset.json").read_text())
    for shard in made[1].shards:
        (target / shard).write_bytes((made[0] / shard).read_bytes())
    content = bytearray((target / name).read_bytes())
    length = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + length])["features_f32"]["data_offsets"]
    content[8 + length + (begin + end) // 2] ^= 4
    (target / name).write_bytes(content)
    with pytest.raises(DataError, match="checksum"):
        everything(opened(target))


def test_an_interrupted_preparation_goes_on_with_the_same_columns_only(files, made, tmp_path, monkeypatch):
    calls = []
    write_shard = buckets.write_shard

    def failing(path, columns):
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write_shard(path, columns)

    monkeypatch.setattr(buckets, "write_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare(expand_inputs(files), CARD, tmp_path / "s", MIXED)
    with pytest.raises(UsageError, match="another preparation was begun"):
        prepare(expand_inputs(files), CARD, tmp_path / "s", Preparation(fractions=(1, 0, 0), shard_jets=40))
    again = prepare(expand_inputs(files), CARD, tmp_path / "s", MIXED)
    assert again == made[1]
    for shard in again.shards:
        assert (tmp_path / "s" / shard).read_bytes() == (made[0] / shard).read_bytes()
        assert {str(v.dtype) for k, v in load_file(made[0] / shard).items() if "p4" in k} == {"float32"}


def test_what_is_typed():
    assert parse_dtypes([], NAMES) == ("f16", {})
    assert parse_dtypes(["part_d0=f32", "f32", "part_dz=f16"], NAMES) == ("f32", {"part_d0": "f32", "part_dz": "f16"})
    for text, what in (
        ("f64", "no dtype"),
        ("p4=f16", "always f32"),
        ("part_d=f32", "did you mean part_d"),
    ):
        with pytest.raises(UsageError, match=what):
            parse_dtypes([text], NAMES)
