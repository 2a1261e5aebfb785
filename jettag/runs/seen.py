"""Were the jets to judge on trained on? By the content of files, also through shards made of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jettag.data.identity import file_ends, identify, size_of
from jettag.data.opening import origin_of
from jettag.data.read import InputFile
from jettag.data.remote import is_address
from jettag.errors import DataError
from jettag.training.run_directory import read_run

__all__ = ["refuse_shared", "seen_in_training"]

SAID = {
    "train": "was trained on jets of {}: its scores flatter it",
    "val": "was chosen by its loss on jets of {}: its scores flatter it a little",
}


@dataclass(frozen=True)
class _Jets:
    """Jets by the checksums of their files, and the part of each file: (rule of splits, split), None for all of it.

    A copy at an address has another checksum. ``ends`` of a file -> its checksum, and whether it is at an address.
    """

    files: frozenset[str]
    ends: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    part: tuple[str, str] | None = None
    role: str = ""

    def share(self, other: "_Jets") -> bool:
        """Whether a jet may be in both; two splits of one rule have none in common.

        Of copies only where the rule asks for the event number; others ask for the checksum.
        """
        apart = self.part and other.part and self.part[0] == other.part[0] and self.part[1] != other.part[1]
        if self.files & other.files and not apart:
            return True
        if apart and self.part and json.loads(self.part[0])["by"] == "event_number":
            return False
        pairs = ((self.ends[end], other.ends[end]) for end in self.ends.keys() & other.ends.keys())
        return any(a != b and (elsewhere or there) for (a, elsewhere), (b, there) in pairs)


def refuse_shared(
    train: Sequence[InputFile],
    test: Sequence[InputFile],
    option: str,
    judging: str = "--test",
    *,
    splits: tuple[str, str] | None = None,
) -> None:
    """Jets that train must not judge, known by their files' content, also through shards made of them.

    Args:
        train: to train on or, where ``option`` is ``--val``, to choose checkpoints, from `expand_data`.
        test: to judge on or, where ``judging`` is ``--val``, to choose checkpoints.
        option: where ``train`` is given, for the message.
        judging: where ``test`` is given.
        splits: that each reads of prepared directories which name none; None for what the options say, ``val`` of
            ``--val``, else ``train`` and ``test``.

    Raises:
        DataError: naming the file.
    """
    by_option = ("val" if name == "--val" else other for name, other in ((option, "train"), (judging, "test")))
    first, second = splits or by_option
    sizes = _sizes(train, first) & _sizes(test, second)
    trained = [(file, _judged(file, first, sizes)) for file in train]
    for file in test:
        mine = _judged(file, second, sizes)
        known = next((other for other, jets in trained if mine.share(jets)), None)
        if known is None:
            continue
        same = known.place == file.place
        what = (
            f"the jets of {file.address} are given twice" if same else f"jets of {file.address} are in {known.address}"
        )
        do = "give disjoint files" if judging in ("--val", "--target") else "judge on jets that no training has seen"
        raise DataError(what, where=f"{option} and {judging}", do=do)


def _sizes(inputs: Sequence[InputFile], split: str) -> set[int]:
    """Bytes of the files, or of those behind shards."""
    found: set[int] = set()
    for file in inputs:
        origin = origin_of(file, split)
        if origin:
            found.update(source["bytes"] for source in origin["sources"])
        else:
            found.add(size_of(file))
    return found


def seen_in_training(
    name: str, facts: Mapping[str, Any], inputs: Sequence[InputFile], split: str = "test"
) -> list[str]:
    """A warning for each role, training and validation, that jets to judge played in the run or the backbone under it.

    Args:
        name: of the run, for the person.
        facts: of ``run.json``.
        inputs: to judge on, from `expand_data`.
        split: of prepared directories that name none.
    """
    known = facts.get("inputs", [])
    sizes = {source["bytes"] for item in known for source in item.get("sources", [item])}
    judged = [(file, _judged(file, split, sizes)) for file in inputs]
    elsewhere = any(there for _, jets in judged for _, there in jets.ends.values())
    trained = [_described(item, look=elsewhere) for item in known]
    if not any(jets.role == "val" for jets in trained):
        # A run on a prepared directory was chosen by the directory's own val split.
        trained += [replace(jets, role="val", part=(jets.part[0], "val")) for jets in trained if jets.part]
    notes = []
    for role, said in SAID.items():
        mine = [jets for jets in trained if jets.role == role]
        shared = [file.address for file, jets in judged if any(jets.share(other) for other in mine)]
        if shared:
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            notes.append(f"{name} {said.format(shared[0] + more)}")
    source = facts.get("pretrained")
    if source and (Path(source) / "run.json").is_file():
        notes += seen_in_training(f"the backbone of {name}", read_run(Path(source)), inputs, split)
    return notes


def _described(item: Mapping[str, Any], *, look: bool = False) -> _Jets:
    """What ``run.json`` or `origin_of` say of an input, and what files that are still there say if we ``look``."""
    sources = item.get("sources", [item])
    files = frozenset(source["sha256"] for source in sources)
    known = ((source.get("ends") or (_ends(source) if look else ""), source) for source in sources)
    ends = {end: (source["sha256"], is_address(source["path"])) for end, source in known if end}
    part = (item["split_rule"], item["split"]) if item.get("split_rule") else None
    return _Jets(files, ends, part, item.get("role", "train"))


def _ends(source: Mapping[str, Any]) -> str:
    """Of a file here, where it is still there as it was; empty otherwise."""
    path = Path(source["path"])
    try:
        return file_ends(path) if path.stat().st_size == source["bytes"] else ""
    except OSError:  # an address, too
        return ""


def _judged(file: InputFile, split: str, sizes: set[int]) -> _Jets:
    origin = origin_of(file, split)
    if origin:
        return _described(origin)
    if size_of(file) not in sizes:
        return _Jets(frozenset())  # and no need to read it all
    known = identify(file)
    ends = {known.ends: (known.sha256, bool(file.url))} if known.ends else {}
    return _Jets(frozenset({known.sha256}), ends)
