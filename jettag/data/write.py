"""Columns to a file of the kind its name says: .root, .parquet or .h5."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import awkward as ak
import numpy as np

from jettag.config.files import replacing
from jettag.data.root import write_tree
from jettag.errors import ResourceError, UsageError

__all__ = ["HDF5", "refuse_unknown_kind", "write_columns"]

TREE = "tree"
VALID = "valid"  # the field by which the flavour-tagging tools tell padding
PADDING = "mask"  # salt's name for the opposite
HDF5 = (".h5", ".hdf5")
KINDS = (".root", ".parquet", *HDF5)


def refuse_unknown_kind(path: Path) -> None:
    """See that a file of this name can be written.

    Raises:
        UsageError: its ending is none of .root, .parquet and .h5.
    """
    if path.suffix not in KINDS:
        raise UsageError(f"--out {path} is of no kind that can be written", do="end it in .root, .parquet or .h5")


def write_columns(path: Path, chunks: Sequence[Mapping[str, ak.Array]], metadata: Mapping[str, str]) -> int:
    """Write flat columns, vectors of fixed length and jagged columns, whole or not at all; return the number of rows.

    Raises:
        UsageError: the name ends in something else.
        ResourceError: the package for the kind is missing, or the disk refuses.
    """
    refuse_unknown_kind(path)
    if path.suffix in (".root", ".parquet"):
        write_tree(path, TREE, chunks, metadata=metadata, kind="ttree" if path.suffix == ".root" else "parquet")
    else:
        _write_hdf5(path, chunks, metadata)
    return sum(len(next(iter(chunk.values()))) for chunk in chunks)


def _write_hdf5(path: Path, chunks: Sequence[Mapping[str, ak.Array]], metadata: Mapping[str, str]) -> None:
    """Structured datasets as the flavour-tagging tools read them: ``jets``, and jagged columns padded in ``tracks``."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise ResourceError("writing HDF5 needs h5py", do="pip install 'jettag[hdf5]'") from None
    jagged = [name for name, column in chunks[0].items() if "var" in str(column.type)]
    flat = {name: np.concatenate([ak.to_numpy(c[name]) for c in chunks]) for name in chunks[0] if name not in jagged}
    tables = {"jets": _structured(flat)}
    if jagged:
        tables["tracks"] = _structured(_padded({name: ak.concatenate([c[name] for c in chunks]) for name in jagged}))
    try:
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            for key, table in tables.items():
                dataset = file.create_dataset(key, data=table, compression="gzip", compression_opts=1, shuffle=True)
                dataset.attrs.update(metadata)
    except OSError as problem:
        raise ResourceError(f"cannot be written ({problem.strerror or problem})", where=path) from None


def _structured(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """One record a row; columns of one row a record with more axes keep these within the field."""
    rows = next(iter(columns.values())).shape
    shared = 2 if VALID in columns else 1
    result = np.empty(rows[:shared], dtype=[(name, x.dtype, x.shape[shared:]) for name, x in columns.items()])
    for name, values in columns.items():
        result[name] = values
    return result


def _padded(columns: Mapping[str, ak.Array]) -> dict[str, np.ndarray]:
    """Jagged (J, var) -> (J, N): NaN, -1 or False where there is nothing, and `VALID` and `PADDING`, which tell."""
    counts = np.asarray(ak.num(next(iter(columns.values()))))
    width = max(int(counts.max(initial=0)), 1)
    valid = np.arange(width) < counts[:, None]
    found = {VALID: valid, PADDING: ~valid}
    for name, column in columns.items():
        values = np.asarray(ak.flatten(column))
        fill = {"f": np.nan, "i": -1}.get(values.dtype.kind, 0)
        found[name] = np.full(valid.shape, fill, dtype=values.dtype)
        found[name][valid] = values
    return found
