"""A damaged file gives the original jets or one line, never another exception and never other jets.

ROOT files are written with ZLIB, whose Adler-32 covers every compressed byte; without compression, with LZ4's raw
blocks or with ZSTD as uproot writes it, a flipped bit in a value cannot be noticed by anyone who has only the file.
"""

import time

import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_table
from jettag.data.root import write_tree
from jettag.errors import DataError

from .make import make_columns

MUTANTS = 60
SECONDS = 5.0


def mutate(content, rng):
    """One of: a flipped bit, a random byte, a zeroed hole, a doubled piece, a removed piece."""
    data = bytearray(content)
    place = int(rng.integers(0, len(data)))
    length = int(rng.integers(1, 300))
    kind = rng.integers(0, 5)
    if kind == 0:
        data[place] ^= 1 << int(rng.integers(0, 8))
    elif kind == 1:
        data[place] = int(rng.integers(0, 256))
    elif kind == 2:
        data[place : place + length] = bytes(len(data[place : place + length]))
    elif kind == 3:
        data[place:place] = data[place : place + length]
    else:
        del data[place : place + length]
    return bytes(data)


@pytest.mark.parametrize("kind", ["ttree", "rntuple", "parquet"])
def test_damage_is_harmless_or_said(tmp_path, kind):
    path = tmp_path / f"a.{'parquet' if kind == 'parquet' else 'root'}"
    write_tree(path, "tree", [make_columns(150, seed=1, longest=30)], metadata={"seed": "1"}, kind=kind)
    content = path.read_bytes()
    card = load_card("generated")

    def read():
        return read_table(
            expand_inputs([path]), card, features="jetclass_full", labels=True, jet_columns=["event_number"]
        )

    original = read()
    rng = np.random.default_rng(20260101)
    said: list[str] = []
    for mutant in range(MUTANTS):
        path.write_bytes(mutate(content, rng))
        begin = time.monotonic()
        try:
            table = read()
        except DataError as error:
            said.append(str(error))
            continue
        finally:
            assert time.monotonic() - begin < SECONDS, mutant
        for name in ("features", "p4", "offsets", "label"):
            np.testing.assert_array_equal(getattr(table, name), getattr(original, name), err_msg=f"{mutant} {name}")
    assert len(said) > MUTANTS // 4
    assert all(path.name in message and "\n" not in message for message in said)
