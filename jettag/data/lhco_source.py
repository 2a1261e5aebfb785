"""Files of the LHC Olympics as a source of columns, for cards ``lhco_features`` and ``lhco_constituents``.

An entry is an event. High-level files have the features of a hunt (`high_level_columns`) and both jets' momenta,
``jets_px, jets_py, jets_pz, jets_energy``; files of constituents have ``part_pt, part_eta, part_phi`` of the whole
event, padding taken off. Both have ``event_number``, the place in the file, and ``label`` where it is stored.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import awkward as ak
import numpy as np
import numpy.typing as npt

from jettag.data.lhco import LhcoFile, high_level_columns
from jettag.errors import DataError

__all__ = ["LhcoSource", "lhco_file"]

JET = 7  # columns of each jet in a high-level file: px, py, pz, m, tau1, tau2, tau3


def lhco_file(path: Path) -> LhcoFile | None:
    """The file, or None where it is no file of the LHC Olympics."""
    try:
        return LhcoFile(path)
    except DataError:
        return None


class LhcoSource:
    """One file: ``tree_name``, ``names``, ``num_entries``, ``chunks``."""

    tree_name = ""
    note = ""

    def __init__(self, file: LhcoFile) -> None:
        self._file = file
        self.num_entries = file.events
        first = next(iter(self._columns(1, 1)), {})
        self.names = list(first)

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` events at a time, up to event ``stop``."""
        for columns in self._columns(entries, stop):
            yield {name: columns[name] for name in names}

    def _columns(self, entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        begin = 0
        for rows, label in self._file.rows(entries):
            rows = rows[: stop - begin]
            if not len(rows):
                return
            columns = _high_level(rows) if self._file.is_high_level else _constituents(rows)
            columns["event_number"] = ak.Array(np.arange(begin, begin + len(rows)))
            if label is not None:
                columns["label"] = ak.Array(label[: len(rows)])
            begin += len(rows)
            yield columns

    def __enter__(self) -> "LhcoSource":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Nothing stays open between chunks."""


def _high_level(rows: npt.NDArray[np.float64]) -> dict[str, ak.Array]:
    """(n, 14) in the order of `HIGH_LEVEL`."""
    jets = rows.reshape(len(rows), 2, JET)
    columns = {name: ak.Array(values) for name, values in high_level_columns(rows).items()}
    for place, name in enumerate(("px", "py", "pz")):
        columns[f"jets_{name}"] = ak.from_regular(ak.Array(jets[..., place]))
    columns["jets_energy"] = ak.from_regular(ak.Array(np.sqrt((jets[..., :4] ** 2).sum(-1))))
    return columns


def _constituents(rows: npt.NDArray[np.float64]) -> dict[str, ak.Array]:
    """(n, K, 3) of pT, eta, phi; a pT of zero is padding."""
    real = rows[..., 0] > 0
    counts = real.sum(1)
    return {
        f"part_{name}": ak.unflatten(rows[..., place][real].astype(np.float32), counts)
        for place, name in enumerate(("pt", "eta", "phi"))
    }
