"""HDF5: tables that pandas wrote, and structured data sets as ATLAS's training-dataset-dumper writes them.

In tables of pandas, such as the Top Landscape set, columns NAME_0 ... NAME_199 are seen as one NAME; the column names
stand in a pickled attribute, which is never unpickled: its text is read. Structured data sets are one record a jet,
``jets``, and any number of rectangular ones with padding, such as ``tracks``: their columns are seen as ``jets/pt`` and
``tracks/d0``, padding taken off where ``valid`` says so. Needs the [hdf5] extra.
"""

import pickletools
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import awkward as ak
import numpy as np

from jettag.data.remote import Remote
from jettag.errors import DataError, ResourceError

__all__ = ["Hdf5Source", "StructuredSource", "is_structured", "pickled_text"]

VALID = "valid"  # the field that tells padding
NUMBERED = re.compile(r"^(?P<name>.+)_(?P<index>\d+)$")
TEXT_OPCODES = frozenset(
    {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)


class Hdf5Source:
    """One pandas table: ``tree_name``, ``names``, ``num_entries``, ``chunks``."""

    note = ""

    def __init__(self, place: Path | Remote) -> None:
        self._file = _open(place)
        try:
            self.tree_name, self._table = self._find(place.shown if isinstance(place, Remote) else place)
            self.num_entries = len(self._table)
            self._places = self._columns()
            self._groups = self._group()
            self.names = list(self._groups)
        except BaseException:
            self._file.close()
            raise

    def _find(self, path: Path | str) -> tuple[str, Any]:
        tables: list[str] = []
        self._file.visititems(lambda name, item: tables.append(name) if _is_table(item) else None)
        if len(tables) != 1:
            found = f"{len(tables)} pandas tables ({', '.join(tables)})" if tables else "no pandas table"
            raise DataError(f"expected one pandas table, found {found}", where=path, do="write it with format='table'")
        table = self._file[tables[0]]
        _check_filters(table, path)
        return tables[0], table

    def _columns(self) -> dict[str, tuple[str, int | None]]:
        """Column to (field of the record, place in it); a block of equal types is one field."""
        places: dict[str, tuple[str, int | None]] = {}
        for field in self._table.dtype.names:
            shape = self._table.dtype[field].shape
            if not shape:
                places[field] = (field, None)
                continue
            names = pickled_text(self._table.attrs.get(f"{field}_kind", b""))
            if len(names) != shape[0]:
                raise DataError(f"{field} has {shape[0]} columns but {len(names)} names", where=self._file.filename)
            places.update({name: (field, place) for place, name in enumerate(names)})
        return places

    def _group(self) -> dict[str, list[str]]:
        """Name seen from outside to the columns behind it, numbered ones in the order of their numbers."""
        numbered: dict[str, dict[int, str]] = {}
        groups: dict[str, list[str]] = {}
        for column in self._places:
            if match := NUMBERED.match(column):
                numbered.setdefault(match["name"], {})[int(match["index"])] = column
            else:
                groups[column] = [column]
        for name, columns in numbered.items():
            if sorted(columns) == list(range(len(columns))):
                groups[name] = [columns[index] for index in range(len(columns))]
        return groups

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` rows at a time, up to row ``stop``; grouped ones as (n, width), padded."""
        for begin in range(0, stop, entries):
            rows = self._table[begin : min(begin + entries, stop)]
            result = {}
            for name in names:
                columns = self._groups[name]
                field, _ = self._places[columns[0]]
                places = [self._places[column][1] for column in columns]
                if len(columns) == 1:
                    values = rows[field] if places[0] is None else rows[field][:, places[0]]
                elif all(self._places[column][0] == field for column in columns):
                    values = rows[field][:, places]
                else:
                    values = np.stack([_pick(rows, *self._places[column]) for column in columns], axis=1)
                result[name] = ak.Array(np.ascontiguousarray(values))
            yield result

    def __enter__(self) -> "Hdf5Source":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()


def _pick(rows: Any, field: str, place: int | None) -> Any:
    return rows[field] if place is None else rows[field][:, place]


def _open(place: Path | Remote) -> Any:
    try:
        import h5py
    except ImportError:
        raise ResourceError("HDF5 needs h5py", do='pip install "jettag[hdf5]"') from None
    if find_spec("hdf5plugin"):
        # Importing it registers the blosc filter that pandas compresses with.
        import_module("hdf5plugin")
    return h5py.File(place.open("blockcache") if isinstance(place, Remote) else place, "r")


def _missing_filters(table: Any) -> list[str]:
    """Names of the compressions of a table that this HDF5 library lacks."""
    import h5py

    settings = table.id.get_create_plist()
    filters = [settings.get_filter(place) for place in range(settings.get_nfilters())]
    return [entry[3].decode("ascii", "replace") for entry in filters if not h5py.h5z.filter_avail(entry[0])]


def _check_filters(table: Any, path: Path | str) -> None:
    if missing := _missing_filters(table):
        what = f"compressed by {', '.join(missing)}, which needs hdf5plugin"
        raise ResourceError(what, where=path, do='pip install "jettag[hdf5]"')


def _is_table(item: Any) -> bool:
    return getattr(item, "dtype", None) is not None and item.dtype.names is not None and "index" in item.dtype.names


def pickled_text(pickled: Any) -> list[str]:
    """The texts in a pickled list, read from its opcodes: nothing is executed, unlike with pickle.loads."""
    raw = pickled if isinstance(pickled, bytes) else bytes(getattr(pickled, "tobytes", lambda: b"")())
    return [str(argument) for opcode, argument, _ in pickletools.genops(raw) if opcode.name in TEXT_OPCODES]


CLASS_ATTRIBUTE = (
    "="  # jets/flavour_label=bjets is set where the number is that of bjets in the attribute flavour_label
)


def is_structured(place: Path | Remote) -> bool:
    """Whether a file holds structured data sets at its top, and no table of pandas."""
    with _open(place) as file:
        found: list[str] = []
        file.visititems(lambda name, item: found.append(name) if _is_table(item) else None)
        return not found and bool(_structured(file))


def _structured(file: Any) -> dict[str, Any]:
    """Name to data set, of those with named fields and one or two dimensions."""
    return {
        name: item
        for name, item in file.items()
        if getattr(getattr(item, "dtype", None), "names", None) and 1 <= len(item.shape) <= 2
    }


class StructuredSource:
    """Data sets of one record a jet and of padded rows a jet: ``tree_name``, ``names``, ``num_entries``, ``chunks``."""

    note = ""
    tree_name = ""

    def __init__(self, place: Path | Remote) -> None:
        self._file = _open(place)
        try:
            sets = _structured(self._file)
            flat = [name for name, item in sets.items() if item.ndim == 1]
            first = "jets" if "jets" in sets else (flat or list(sets))[0]
            self.num_entries = len(sets[first])
            # Others, such as bookkeeping, have lengths of their own.
            self._sets = {name: item for name, item in sets.items() if len(item) == self.num_entries}
            for item in self._sets.values():
                _check_filters(item, place.shown if isinstance(place, Remote) else place)
            self._classes = _class_numbers(self._file, self._sets)
            own = [
                f"{name}/{field}" for name, item in self._sets.items() for field in item.dtype.names if field != VALID
            ]
            self.names = [*own, *self._classes]
        except BaseException:
            self._file.close()
            raise

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` jets at a time, up to jet ``stop``; those of padded sets jagged."""
        wanted: dict[str, list[str]] = {}
        for name in names:
            table, _, field = self._classes.get(name, (name, 0))[0].partition("/")
            wanted.setdefault(table, []).append(field)
        for begin in range(0, stop, entries):
            read: dict[str, ak.Array] = {}
            for table, fields in wanted.items():
                item = self._sets[table]
                padded = item.ndim == 2 and VALID in item.dtype.names
                asked = list(dict.fromkeys([*fields, *([VALID] if padded else [])]))
                rows = item.fields(asked)[begin : min(begin + entries, stop)]
                valid = rows[VALID].astype(bool) if padded else None
                for field in fields:
                    values = _native(rows[field])
                    if valid is not None:
                        read[f"{table}/{field}"] = ak.unflatten(values[valid], valid.sum(axis=1))
                    else:
                        read[f"{table}/{field}"] = ak.Array(np.ascontiguousarray(values))
            yield {
                name: read[name]
                if name not in self._classes
                else read[self._classes[name][0]] == self._classes[name][1]
                for name in names
            }

    def __enter__(self) -> "StructuredSource":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()


def _native(values: Any) -> Any:
    """Half precision as single, and the byte order of this machine."""
    kind = np.float32 if values.dtype == np.float16 else values.dtype.newbyteorder("=")
    return values.astype(kind)


def _class_numbers(file: Any, sets: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """Names such as ``jets/flavour_label=bjets`` to (column, number), where an attribute tells the order of classes."""
    found = {}
    for name, item in sets.items():
        for field in item.dtype.names:
            for owner in (item, file):
                classes = owner.attrs.get(field)
                if classes is not None and np.ndim(classes) == 1:
                    for number, label in enumerate(classes):
                        text = label.decode() if isinstance(label, bytes) else str(label)
                        found[f"{name}/{field}{CLASS_ATTRIBUTE}{text}"] = (f"{name}/{field}", number)
                    break
    return found
