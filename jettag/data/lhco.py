"""The HDF5 files of the LHC Olympics 2020 R&D data set (arXiv:2101.08320): pandas tables, fixed or appendable.

High-level files have columns ``pxj1, pyj1, pzj1, mj1, tau1j1, tau2j1, tau3j1`` and the same of j2, constituent files
700 times (pT, eta, phi), padded with zeros; the last column is the label, absent in the black boxes. Units are GeV.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.data.source import reading
from jettag.errors import DataError, ResourceError

__all__ = ["HIGH_LEVEL", "LhcoFile", "high_level_columns"]

HIGH_LEVEL = tuple(f"{name}{side}" for side in ("j1", "j2") for name in ("px", "py", "pz", "m", "tau1", "tau2", "tau3"))
LABEL = "label"
PER_CONSTITUENT = 3  # pT, eta, phi
CHUNK = 5000  # events


class LhcoFile:
    """One file: which layout it has, how many events, and its rows in order.

    Raises:
        DataError: it is neither layout, or damaged.
        ResourceError: h5py is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError:
            raise ResourceError("HDF5 needs h5py", do='pip install "jettag[hdf5]"') from None
        self.path = path
        if not path.is_file():
            raise DataError("no such file", where=path)
        with reading(str(path)), h5py.File(path, "r") as file:
            tables = [name for name, item in file.items() if "axis0" in item or "table" in item]
            if len(tables) != 1:
                raise DataError(f"expected one pandas table, found {len(tables)}", where=path, do="give an LHCO file")
            self._key = tables[0]
            group = file[self._key]
            if "table" in group:
                self._names, self.events = _table_names(group["table"]), len(group["table"])
            else:
                self._names = [_text(name) for name in group["axis0"][:]]
                self.events = len(group["axis1"])
        self.is_high_level = set(HIGH_LEVEL) <= set(self._names)
        constituents, label = divmod(len(self._names), PER_CONSTITUENT)
        numbered = [str(place) for place in range(len(self._names))]
        if not self.is_high_level and (self._names != numbered or constituents == 0 or label > 1):
            lacking = [name for name in HIGH_LEVEL if name not in self._names]
            what = f"neither columns of constituents nor all high-level ones (no {', '.join(lacking[:3])})"
            raise DataError(what, where=path, do="give a file of the LHC Olympics R&D data set")
        self.has_label = LABEL in self._names if self.is_high_level else label == 1

    def rows(self, entries: int = CHUNK) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]]:
        """So many events at a time: high-level (n, 14) in the order of `HIGH_LEVEL`, or (n, K, 3); and labels (n,)."""
        import h5py

        with reading(str(self.path)), h5py.File(self.path, "r") as file:
            group = file[self._key]
            for begin in range(0, self.events, entries):
                table = self._block(group, begin, min(begin + entries, self.events))
                place = self._names.index(LABEL) if self.is_high_level and self.has_label else len(self._names) - 1
                label = table[:, place].astype(np.int64) if self.has_label else None
                if self.is_high_level:
                    yield table[:, [self._names.index(name) for name in HIGH_LEVEL]], label
                else:
                    used = len(self._names) - self.has_label
                    yield table[:, :used].reshape(len(table), used // PER_CONSTITUENT, PER_CONSTITUENT), label

    def _block(self, group: Any, begin: int, end: int) -> npt.NDArray[np.float64]:
        """Rows of all columns, in the order of the names."""
        result = np.empty((end - begin, len(self._names)))
        if "table" in group:
            rows = group["table"][begin:end]
            filled = 0
            for field in rows.dtype.names:
                if field != "index":
                    values = rows[field].reshape(len(rows), -1)
                    result[:, filled : filled + values.shape[1]] = values
                    filled += values.shape[1]
            return result
        place = {name: number for number, name in enumerate(self._names)}
        for number in range(int(group.attrs["nblocks"])):
            columns = [place[_text(name)] for name in group[f"block{number}_items"][:]]
            result[:, columns] = group[f"block{number}_values"][begin:end]
        return result


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _table_names(table: Any) -> list[str]:
    """Column names of an appendable table: its own fields, or numbers where a block is one field."""
    from jettag.data.hdf5 import pickled_text

    names: list[str] = []
    for field in table.dtype.names:
        if field == "index":
            continue
        if not table.dtype[field].shape:
            names.append(field)
            continue
        told = pickled_text(table.attrs.get(f"{field}_kind", b""))
        width = table.dtype[field].shape[0]
        names += told if len(told) == width else [str(len(names) + place) for place in range(width)]
    return names


def high_level_columns(rows: npt.NDArray[np.float64]) -> dict[str, npt.NDArray]:
    """The features of a hunt from (n, 14) in the order of `HIGH_LEVEL`, the lighter jet first.

    Returns:
        ``m_jj``, ``m_j1``, ``delta_m_j`` [GeV], ``tau21_j1``, ``tau21_j2``, ``tau32_j1``, ``tau32_j2``.
    """
    jets = rows.reshape(len(rows), 2, 7)
    order = np.argsort(jets[:, :, 3], axis=1, kind="stable")
    jets = np.take_along_axis(jets, order[:, :, None], axis=1)
    momentum, mass, tau = jets[..., :3], jets[..., 3], jets[..., 4:]
    energy = np.sqrt((momentum**2).sum(-1) + mass**2).sum(1)
    total = np.sqrt(np.maximum(energy**2 - (momentum.sum(1) ** 2).sum(-1), 0.0))
    ratios = np.divide(tau[..., 1:], tau[..., :-1], out=np.zeros_like(tau[..., 1:]), where=tau[..., :-1] > 0)
    columns = {"m_jj": total, "m_j1": mass[:, 0], "delta_m_j": mass[:, 1] - mass[:, 0]}
    for side in (0, 1):
        columns |= {f"tau21_j{side + 1}": ratios[:, side, 0], f"tau32_j{side + 1}": ratios[:, side, 1]}
    return {name: values.astype(np.float32) for name, values in columns.items()}
