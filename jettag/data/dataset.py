"""What a prepared directory says about itself, ``dataset.json``, and how jets are dealt to its splits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xxhash
from pydantic import Field, ValidationError

from jettag.config import Section
from jettag.config.files import write_atomically
from jettag.data.card import DataCard
from jettag.data.inputs import MANIFEST
from jettag.errors import DataError, UsageError

__all__ = [
    "CHECKSUM",
    "MANIFEST",
    "SPLITS",
    "Dataset",
    "Dtype",
    "Recorded",
    "SplitRule",
    "checksum",
    "hashed",
    "mixed",
    "parse_fractions",
    "read_dataset",
    "write_dataset",
]

SPLITS = ("train", "val", "test")
SALT = "jettag split 1"  # changing it moves events between splits
CHECKSUM = "checksum"  # key of the XXH3 of all else in a file of JSON
AGAIN = "prepare the data again"

Dtype = Literal["f16", "f32"]
Uint64 = npt.NDArray[np.uint64]


class SplitRule(Section):
    """Which jets go where: a hash falls into a part of [0, 1), that of the event's number, of the file or of the jet.

    A file's is that of its content, and a jet's that of its file and entry.
    The seed has no part in it: an event stays on its side when the data are prepared again, or with more files.
    """

    by: Literal["event_number", "file", "entry"]
    fractions: tuple[float, float, float] = Field(description="of train, val, test; they add up to one")
    salt: str = SALT

    def of_events(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(J,) place in `SPLITS` of each jet by its event's number."""
        salt = np.uint64(hashed(self.salt))
        return self._place(mixed(numbers.astype(np.int64).view(np.uint64) ^ salt))

    def of_file(self, sha256: str) -> int:
        """Place in `SPLITS` of all jets of a file."""
        return int(self._place(np.array([hashed(f"{self.salt} {sha256}")], dtype=np.uint64))[0])

    def of_entries(self, sha256: str, entries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(J,) place in `SPLITS` of each jet of a file by its entry."""
        salt = np.uint64(hashed(f"{self.salt} {sha256}"))
        return self._place(mixed(entries.astype(np.uint64) ^ salt))

    def _place(self, hashes: Uint64) -> npt.NDArray[np.int64]:
        # The upper 53 bits are exact in float64.
        share = (hashes >> np.uint64(11)).astype(np.float64) / 2.0**53
        edges = np.cumsum(self.fractions)[:-1] / sum(self.fractions)
        return np.searchsorted(edges, share, side="right").astype(np.int64)


class Recorded(Section):
    """One input file, as `jettag.data.identity.Identity`."""

    path: str
    bytes: int
    sha256: str
    ends: str = ""
    tag: str = ""
    class_name: str | None = None
    entries: int


class Dataset(Section):
    """``dataset.json``."""

    version: Literal[1] = 1
    features: str
    feature_names: tuple[str, ...]
    feature_dtype: Dtype
    column_dtypes: dict[str, Dtype] = Field(default_factory=dict, description="asked for single features")
    kept_f32: dict[str, float] = Field(
        default_factory=dict, description="features too large for float16, and the largest value of each"
    )
    class_names: tuple[str, ...] = Field(description="empty where labels were not read")
    jet_columns: tuple[str, ...] = Field(description="besides file, a place in sources, and entry, a row of it")
    max_constituents: int
    seed: int
    shard_jets: int
    split: SplitRule
    card: DataCard
    sources: tuple[Recorded, ...]
    notes: dict[str, int] = Field(default_factory=dict)
    shards: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="SPLIT/NAME.safetensors to its jets, constituents, bytes, checksums, labels"
    )

    @property
    def halved(self) -> tuple[int, ...]:
        """Places among the features of those that are stored in float16."""
        asked = {name: self.column_dtypes.get(name, self.feature_dtype) for name in self.feature_names}
        found = [name for name, dtype in asked.items() if dtype == "f16" and name not in self.kept_f32]
        return tuple(self.feature_names.index(name) for name in found)

    def count(self, split: str) -> int:
        """Jets of a split."""
        return sum(facts["jets"] for name, facts in self.shards.items() if name.startswith(f"{split}/"))

    def lacking(self) -> dict[str, list[str]]:
        """What splits asked for are without: split to classes that others have, or to none where it is empty."""
        found: dict[str, set[str]] = {}
        for split, fraction in zip(SPLITS, self.split.fractions, strict=True):
            of_split = [facts for name, facts in self.shards.items() if name.startswith(f"{split}/")]
            named = [zip(self.class_names, facts.get("labels") or (), strict=False) for facts in of_split]
            if fraction > 0:
                found[split] = {name for counts in named for name, count in counts if count}
        every = set().union(*found.values())
        absent = {split: [name for name in self.class_names if name in every - own] for split, own in found.items()}
        return {s: [] if not self.count(s) else names for s, names in absent.items() if names or not self.count(s)}


def write_dataset(folder: Path, dataset: Dataset) -> None:
    """Write the manifest of a prepared directory, with a checksum of its content.

    Raises:
        OSError: the disk refuses.
    """
    content = dataset.model_dump(mode="json")
    write_atomically(folder / MANIFEST, json.dumps(content | {CHECKSUM: checksum(content)}, indent=1) + "\n")


def checksum(content: Mapping[str, Any]) -> str:
    """XXH3 of what is written, not of what this version makes of it: a key it adds must not spoil what is there."""
    return f"{hashed(json.dumps(content, sort_keys=True)):016x}"


def read_dataset(folder: Path) -> Dataset:
    """The manifest of a prepared directory.

    Raises:
        DataError: none there, not what was written, or not one that this jettag writes.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written = content.pop(CHECKSUM, None) if isinstance(content, dict) else None
        if written not in (None, checksum(content)):  # none: from before it had one
            raise DataError("its checksum is not the one written", where=path, do=AGAIN)
        return Dataset.model_validate(content, strict=False)
    except FileNotFoundError:
        raise DataError("no prepared data set", where=folder, do="make one with `jettag data prepare`") from None
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{place}: {first['msg']}", where=path, do=AGAIN) from None
    except ValueError as problem:
        raise DataError(f"not JSON ({problem})", where=path, do=AGAIN) from None


def parse_fractions(text: str) -> tuple[float, float, float]:
    """``80:10:10`` as fractions of train, val, test.

    Raises:
        UsageError: not three numbers of which the first is positive.
    """
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) != 3 or min(parts) < 0 or not 0 < parts[0] < float("inf") or not np.isfinite(sum(parts)):
        raise UsageError(f"--split {text!r} is no TRAIN:VAL:TEST", do="write it as 80:10:10, or 1:0:0 for no split")
    train, val, test = (part / sum(parts) for part in parts)
    return train, val, test


def hashed(text: str) -> int:
    """XXH3 of a text, 64 bits."""
    return int(xxhash.xxh3_64_intdigest(text.encode()))


def mixed(x: Uint64) -> Uint64:
    """SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every bit of the result depends on every bit of ``x``."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
