"""Columns to a file of the kind its name says: .root, .parquet or .h5."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import awkward as ak
import numpy as np

from jettag.config.files import replacing
from jettag.data.root import write_tree
from jettag.errors import ResourceError, UsageError

__all__ = ["refuse_unknown_kind", "write_columns"]

TREE = "tree"
KINDS = (".root", ".parquet", ".h5", ".hdf5")


def refuse_unknown_kind(path: Path) -> None:
    """See that a file of this name can be written.

    Raises:
        UsageError: its ending is none of .root, .parquet and .h5.
    """
    if path.suffix not in KINDS:
        raise UsageError(f"--out {path} is of no kind that can be written", do="end it in .root, .parquet or .h5")


def write_columns(path: Path, chunks: Sequence[Mapping[str, ak.Array]], metadata: Mapping[str, str]) -> int:
    """Write flat columns and vectors of fixed length, whole or not at all; return the number of rows.

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
    """One structured dataset ``jets``, as the flavour-tagging tools read it."""
    try:
        import h5py
    except ModuleNotFoundError:
        raise ResourceError("writing HDF5 needs h5py", do="pip install 'jettag[hdf5]'") from None
    columns = {name: np.concatenate([ak.to_numpy(chunk[name]) for chunk in chunks]) for name in chunks[0]}
    kinds = [(name, values.dtype, values.shape[1:]) for name, values in columns.items()]
    table = np.empty(len(next(iter(columns.values()))), dtype=kinds)
    for name, values in columns.items():
        table[name] = values
    try:
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            dataset = file.create_dataset("jets", data=table, compression="gzip", compression_opts=1, shuffle=True)
            dataset.attrs.update(metadata)
    except OSError as problem:
        raise ResourceError(f"cannot be written ({problem.strerror or problem})", where=path) from None
