"""One shard on disk: a safetensors file of values and offsets, which is there when it is whole.

A shard holds jets in a row: ``features`` (M, F) float16 or float32, where there are both the float32 ones apart as
``features_f32``, ``p4`` (M, 4) float32 in GeV, ``offsets`` (J + 1,)
int64, ``label`` (J,) int16 where there are labels, ``jet.NAME`` (J,) for each jet column, and ``blocks``, an XXH3 of
the constituents of every `BLOCK` jets. A block is what training reads at a time, and it is checked whenever it is read;
the other columns are checked when asked for, by the checksums in ``dataset.json``. Until that is written, the facts of
each finished shard wait in the staging folder.
"""

import itertools
import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from safetensors.numpy import save_file

from jettag.config.files import replacing, usual_permissions, write_atomically
from jettag.data.inputs import STAGING
from jettag.errors import DataError

__all__ = ["BLOCK", "SINGLE", "Shard", "describe", "find_damage", "write_shard"]

BLOCK = 128  # jets read together: 0.2 MB, so that a disk streams, and small enough that a window mixes many
SINGLE = "features_f32"
KINDS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U64": "<u8"}
AGAIN = "prepare the data again: `jettag data prepare` with the same files makes the same shards"

Array = npt.NDArray[Any]


def _constituents(columns: Mapping[str, Array], low: int, high: int) -> list[Array]:
    """These rows of all columns that have one a constituent."""
    return [columns[name][low:high] for name in ("features", SINGLE, "p4") if name in columns]


def _block_sums(columns: Mapping[str, Array]) -> npt.NDArray[np.uint64]:
    """XXH3 of each block's features and four-momenta."""
    offsets = columns["offsets"]
    begins = [*range(0, len(offsets) - 1, BLOCK), len(offsets) - 1]
    edges = offsets[begins].tolist()
    sums = [_sum(*_constituents(columns, low, high)) for low, high in itertools.pairwise(edges)]
    return np.array(sums, dtype=np.uint64)


def _sum(*parts: Array) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part.reshape(-1).view(np.uint8).data)
    return digest.intdigest()


def write_shard(path: Path, columns: Mapping[str, Array]) -> dict[str, Any]:
    """Write ``features``, ``p4``, ``offsets``, ``label`` and ``jet.*``; return what ``dataset.json`` will say of them.

    Raises:
        OSError: the disk refuses.
    """
    arrays = {name: np.ascontiguousarray(values) for name, values in columns.items()}
    arrays["blocks"] = _block_sums(arrays)
    with replacing(path) as temporary:
        save_file(arrays, temporary)
        usual_permissions(temporary)
    facts = _facts(path, arrays)
    write_atomically(_staged(path), json.dumps(facts) + "\n")
    return facts


def describe(path: Path) -> dict[str, Any] | None:
    """The facts of a shard that an interrupted preparation finished, every byte of both compared; None without it."""
    try:
        facts: dict[str, Any] = json.loads(_staged(path).read_text(encoding="utf-8"))
        return None if find_damage(path, facts) else facts
    except (FileNotFoundError, ValueError, LookupError, TypeError):  # of the facts
        return None


def find_damage(path: Path, facts: Mapping[str, Any]) -> str:
    """What is wrong with a shard of which these facts are known, every byte compared; nothing where it is whole."""
    try:
        found = _facts(path, Shard(path, {"xxh3": {}}).columns)
    except DataError as error:
        return error.what
    except (ValueError, LookupError, TypeError, OverflowError) as problem:  # no offsets, a class below zero, ...
        return f"a damaged shard ({problem})"
    known, now = facts["xxh3"], found["xxh3"]
    changed = [name for name in sorted({*known, *now}) if known.get(name) != now.get(name)]
    if changed:
        return f"the checksum of {changed[0]} is not the one written"
    same = all(found.get(name) == value for name, value in facts.items())  # older ones know nothing of the header
    return "" if same else "a damaged shard (its length or header)"


def _staged(path: Path) -> Path:
    """Where the facts of a shard, ``DIR/SPLIT/NAME.safetensors``, wait for the end of the preparation."""
    return path.parent.parent / STAGING / path.parent.name / f"{path.stem}.json"


def _facts(path: Path, columns: Mapping[str, Array]) -> dict[str, Any]:
    facts = {
        "jets": len(columns["offsets"]) - 1,
        "constituents": int(columns["offsets"][-1]),
        "bytes": path.stat().st_size,
        "header": _header_sum(path),
        "xxh3": {name: f"{_sum(values):016x}" for name, values in sorted(columns.items())},
    }
    if "label" in columns:
        facts["labels"] = np.bincount(columns["label"].astype(np.int64)).tolist()
    return facts


def _header_sum(path: Path) -> str:
    """XXH3 of names, types and shapes as they stand in the file."""
    with path.open("rb") as file:
        length = file.read(8)
        return f"{xxhash.xxh3_64_intdigest(length + file.read(int.from_bytes(length, 'little'))):016x}"


class Shard:
    """A shard, memory-mapped: ``columns`` are views of the file, and the map goes when the last of them does.

    Args:
        path: the ``.safetensors`` file.
        facts: what ``dataset.json`` says of it.
        check: columns whose checksums to compare at once.

    Raises:
        DataError: missing, cut, or not the bytes that were written.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any], *, check: Sequence[str] = ()) -> None:
        self._path = path
        self.columns: dict[str, Array] = {}
        try:
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length])
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                kind = np.dtype(KINDS[entry["dtype"]])
                values = np.frombuffer(content, kind, (end - begin) // kind.itemsize, 8 + length + begin)
                self.columns[name] = values.reshape(entry["shape"])
        except FileNotFoundError:
            raise DataError("no such shard", where=path, do=AGAIN) from None
        except OSError as problem:
            do = f"see to the disk, or {AGAIN}"
            raise DataError(f"cannot be read ({problem.strerror})", where=path, do=do) from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as problem:
            raise DataError(f"a damaged shard ({problem})", where=path, do=AGAIN) from None
        if facts.get("header", "") not in ("", _header_sum(path)):
            raise DataError("the checksum of the header is not the one written", where=path, do=AGAIN)
        for name, digest in facts["xxh3"].items():
            if name not in self.columns:
                raise DataError(f"a damaged shard (no {name})", where=path, do=AGAIN)
            if name in check and f"{_sum(self.columns[name]):016x}" != digest:
                raise DataError(f"the checksum of {name} is not the one written", where=path, do=AGAIN)

    def check_block(self, block: int) -> None:
        """Compare a block's constituents with what was written.

        Raises:
            DataError: a bit has changed.
        """
        offsets = self.columns["offsets"]
        last = min((block + 1) * BLOCK, len(offsets) - 1)
        low, high = int(offsets[block * BLOCK]), int(offsets[last])
        if _sum(*_constituents(self.columns, low, high)) != self.columns["blocks"][block]:
            where = f"{self._path}, jets {block * BLOCK} to {last - 1}"
            raise DataError("the checksum of the constituents is not the one written", where=where, do=AGAIN)
