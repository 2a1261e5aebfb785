"""One way to jets for training and evaluation: files read into memory, or prepared directories left on disk."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jettag.data.card import DataCard
from jettag.data.dataset import MANIFEST, SPLITS, read_dataset
from jettag.data.inputs import InputFile, expand_inputs
from jettag.data.jets import Table
from jettag.data.read import read_table, stored_in_all
from jettag.data.shard_table import Part, ShardTable
from jettag.errors import DataError, UsageError, nearest

__all__ = ["expand_data", "open_jets", "origin_names", "origin_of", "prepared_card", "split_of"]


def expand_data(patterns: Sequence[str | Path]) -> list[InputFile]:
    """As `expand_inputs`, but a prepared directory, or a split of one as ``DIR/val``, stands for itself.

    Raises:
        DataError: as `expand_inputs`.
        UsageError: files and prepared directories together.
    """
    prepared = [InputFile(Path(pattern).expanduser()) for pattern in patterns if _locate(Path(pattern).expanduser())]
    if not prepared:
        return expand_inputs(patterns)
    if len(prepared) < len(patterns):
        others = [str(pattern) for pattern in patterns if not _locate(Path(pattern).expanduser())]
        do = "give prepared directories only, or files only"
        raise UsageError(f"{others[0]} and the prepared directory {prepared[0].path} in one list", do=do)
    return prepared


def _locate(path: Path) -> tuple[Path, str | None] | None:
    """(prepared directory, split named) of a path, or None where it is none."""
    try:
        if (path / MANIFEST).is_file():
            return path, None
        if path.name in SPLITS and (path.parent / MANIFEST).is_file():
            return path.parent, path.name
    except OSError:  # an address may be too long for a path
        return None
    return None


def open_jets(
    inputs: Sequence[InputFile],
    card: DataCard,
    *,
    split: str,
    features: str,
    labels: bool,
    classes: Sequence[str] | None = None,
    max_constituents: int = 128,
    max_jets: int | None = None,
    jet_columns: Sequence[str] = (),
    constituent_columns: Sequence[str] = (),
    batch_columns: Sequence[str] = (),
) -> Table:
    """The jets of files, in memory, or of prepared directories, on disk.

    Args:
        inputs: from `expand_data`.
        card: for files; a prepared directory brings its own.
        split: of a prepared directory given without one.
        features: name of a feature set.
        labels: False gives jets without labels.
        classes: keep these only; labels index into them.
        max_constituents: constituents kept in a jet.
        max_jets: at most so many, as equally as possible from each class; they are read into memory.
        jet_columns: to have besides ``event_number``, where it is known, ``file`` and ``entry``.
        constituent_columns: to have beside the features.
        batch_columns: jet columns that batches carry.

    Raises:
        DataError: as `read_table`; or the directory was prepared with other features or shorter jets, or lacks a class.
    """
    if not _locate(inputs[0].path):
        stored = stored_in_all(inputs, card, ["event_number"])
        read = read_table(
            inputs,
            card,
            features=features,
            labels=labels,
            classes=classes,
            max_constituents=max_constituents,
            max_jets=max_jets,
            # The first keeps jets of one event on one side of a split; the others name a jet in messages.
            jet_columns=tuple(dict.fromkeys((*stored, "file", "entry", *jet_columns, *batch_columns))),
            constituent_columns=constituent_columns,
        )
        return replace(read, batch_columns=tuple(batch_columns))
    parts = [_part(file.path, split, features, max_constituents) for file in inputs]
    first = parts[0].dataset
    names = tuple(classes) if classes else first.class_names
    for part in parts:
        if part.dataset.jet_columns != first.jet_columns:
            what = f"other jet columns than {parts[0].folder}"
            raise DataError(what, where=part.folder, do="prepare both with the same command")
        if labels and not part.dataset.class_names:
            raise DataError("prepared without labels", where=part.folder, do="prepare it again with labels")
        missing = [name for name in names if labels and name not in part.dataset.class_names]
        if missing:
            do = f"it has {', '.join(part.dataset.class_names)}; prepare CLASS:GLOB of {', '.join(names)}"
            raise DataError(f"no class {', '.join(map(repr, missing))}", where=part.folder, do=do)
    for name in (*jet_columns, *batch_columns):
        if name not in first.jet_columns:
            raise DataError(f"no jet column {name!r}", where=parts[0].folder, do=nearest(name, first.jet_columns))
    events = tuple(name for name in ("event_number",) if max_jets is not None and name in first.jet_columns)
    table = ShardTable(
        parts,
        labels=labels,
        class_names=names,
        max_constituents=max_constituents,
        jet_columns=(*events, *jet_columns),
        batch_columns=tuple(batch_columns),
    )
    if not len(table):
        raise DataError("no jet of the classes asked for", where=parts[0].folder)
    return table if max_jets is None or max_jets >= len(table) else table.first(max_jets)


def prepared_card(inputs: Sequence[InputFile]) -> DataCard | None:
    """The card that prepared directories were made with; None for files."""
    found = _locate(inputs[0].path)
    return read_dataset(found[0]).card if found else None


def _part(path: Path, split: str, features: str, max_constituents: int) -> Part:
    found = _locate(path)
    assert found is not None  # `expand_data` made it
    folder, named = found
    dataset = read_dataset(folder)
    if dataset.features != features:
        what = f"prepared with features {dataset.features} where {features} is wanted"
        raise DataError(what, where=folder, do=f"use --set data.features={dataset.features}, or prepare it again")
    if dataset.max_constituents < max_constituents:
        what = f"prepared with at most {dataset.max_constituents} constituents where {max_constituents} are wanted"
        do = f"use --set data.max_constituents={dataset.max_constituents}, or prepare it again"
        raise DataError(what, where=folder, do=do)
    chosen = named or split
    if not dataset.count(chosen):
        others = [name for name in SPLITS if dataset.count(name)]
        raise DataError(f"no {chosen} jets", where=folder, do=f"give {folder / others[0]}, or prepare it again")
    return Part(folder, dataset, chosen)


def split_of(file: InputFile, split: str) -> tuple[Path, str] | None:
    """Prepared directory and split behind an input, ``split`` where it names none; None for a file."""
    found = _locate(file.path)
    return (found[0].resolve(), found[1] or split) if found else None


def origin_of(file: InputFile, split: str) -> dict[str, Any] | None:
    """What ``run.json`` says of a prepared directory beyond its manifest: ``split``, ``sources``, ``split_rule``.

    The sources are the files that gave jets to the split; ``split_rule`` is there where they gave only a part of
    theirs, and two splits of one rule share no jet. None for a file.
    """
    found = split_of(file, split)
    if found is None:
        return None
    folder, chosen = found
    dataset = read_dataset(folder)
    rule = dataset.split
    whole = rule.by == "file"
    sources = [s for s in dataset.sources if not whole or SPLITS[rule.of_file(s.sha256)] == chosen]
    described = [source.model_dump(mode="json", include={"path", "bytes", "sha256", "ends"}) for source in sources]
    return {"split": chosen, "sources": described, "split_rule": None if whole else rule.model_dump_json()}


def origin_names(inputs: Sequence[InputFile]) -> list[str]:
    """The files that the jet column ``file`` counts."""
    names = []
    for file in inputs:
        found = _locate(file.path)
        names += [item.path for item in read_dataset(found[0]).sources] if found else [file.address]
    return names
