"""What a card and some files have to say to each other: read everything, stop at nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from jettag.data.binding import bind, locate
from jettag.data.card import Constituents, DataCard, OneHotLabels
from jettag.data.columns import make_piece
from jettag.data.features import FEATURE_SETS
from jettag.data.inputs import InputFile
from jettag.data.labels import OTHER, FileLabels, class_names, file_labels
from jettag.data.sign_check import HEAVY, SignCheck
from jettag.data.source import Source, chunks, open_source
from jettag.errors import DataError, JettagError, RecipeError, ResourceError

__all__ = ["FileReport", "inspect"]

PROBLEMS = (DataError, RecipeError, ResourceError)  # of one file; a signal ends the command
MOMENTUM = frozenset({"px", "py", "pz", "energy", "pt", "eta", "phi", "mass"})


@dataclass
class FileReport:
    """One file.

    Attributes:
        path: as given.
        tree: name of the tree read; empty for Parquet.
        jets: entries of the file.
        constituents: all of them.
        classes: jets of each class; None where the file has no labels.
        features: feature set to what it lacks, empty where it can be computed.
        columns: jet columns of the card that the file has.
        notes: what was left out or otherwise worth telling, counted.
        error: why the file cannot be used; None where it can.
    """

    path: str
    tree: str = ""
    jets: int = 0
    constituents: int = 0
    classes: Counter[str] | None = None
    features: dict[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    notes: Counter[str] = field(default_factory=Counter)
    error: JettagError | None = None

    @property
    def problem(self) -> str:
        """The error in one line; empty where there is none."""
        return str(self.error) if self.error else ""


def inspect(
    card: DataCard, inputs: Sequence[InputFile], on_progress: Callable[[int], None] | None = None
) -> tuple[list[FileReport], SignCheck]:
    """Read every jet of every file with every column that the card knows.

    Args:
        card: the card.
        inputs: from `expand_inputs`.
        on_progress: called with the number of jets read so far.

    Returns:
        A report a file, with its first problem where it has one, and the check of d0 over all of them.
    """
    reports = []
    sign = SignCheck()
    done = 0
    for file in inputs:
        report = FileReport(path=file.address)
        reports.append(report)
        try:
            with open_source(file, card.tree, card.join) as source:
                _read(card, file, inputs, source, report, sign, done, on_progress)
        except PROBLEMS as error:
            report.error = error
        done += report.jets
    return reports, sign


def _read(
    card: DataCard,
    file: InputFile,
    inputs: Sequence[InputFile],
    source: Source,
    report: FileReport,
    sign: SignCheck,
    done: int,
    on_progress: Callable[[int], None] | None,
) -> None:
    report.tree, report.jets = source.tree_name, source.num_entries
    for name, features in FEATURE_SETS.items():
        try:
            bind(card, source, file.address, fields=features.fields)
            report.features[name] = ""
        except PROBLEMS as error:
            report.features[name] = error.what
    present = [name for name in Constituents.model_fields if locate(card, source.names, "constituents", name)]
    extra = dict.fromkeys([*(name for name in present if name not in MOMENTUM), "dphi"])
    report.columns = tuple(name for name in card.jet if locate(card, source.names, "jet", name))
    binding = bind(card, source, file.address, fields=tuple(extra), jet_columns=report.columns)
    labels = _labels(card, file, inputs, source)
    report.classes = Counter() if labels else None
    branches = tuple(dict.fromkeys((*binding.branches, *(labels.branches if labels else ()))))
    begin = 0
    for chunk in chunks(source, branches, binding.where):
        entries = np.arange(begin, begin + len(chunk[branches[0]]))
        begin += len(entries)
        piece = make_piece(chunk, binding, entries, None, arrange=False)
        report.constituents += int(piece.counts.sum())
        report.notes.update(piece.notes)
        if empty := int(np.count_nonzero(piece.counts == 0)):
            report.notes["jets_without_constituents"] += empty
        found = labels(chunk, entries) if labels else None
        heavy = [labels.names.index(name) for name in HEAVY if name in labels.names] if labels else []
        sign.add(piece, None if found is None else np.isin(found, heavy))
        if labels and found is not None and report.classes is not None:
            if others := int(np.count_nonzero(found == OTHER)):
                report.notes["jets_of_none_of_these_classes"] += others
            for index in np.unique(found[found != OTHER]):
                report.classes[labels.names[index]] += int(np.count_nonzero(found == index))
        if on_progress:
            on_progress(done + begin)


def _labels(card: DataCard, file: InputFile, inputs: Sequence[InputFile], source: Source) -> FileLabels | None:
    """How to label the file by those classes of the card that it has; None where it has none: labels are optional."""
    if file.class_name:
        return file_labels(card, source, file, class_names(card, [one for one in inputs if one.class_name], None))
    try:
        names = class_names(card, [file], None)
        if isinstance(card.labels, OneHotLabels):
            names = tuple(name for name in names if card.labels.classes[name] in source.names)
        return file_labels(card, source, file, names) if names else None
    except PROBLEMS:
        return None
