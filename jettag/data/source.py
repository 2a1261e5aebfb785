"""Any input file as a source of columns; whatever a reader raises on a damaged one becomes one DataError."""

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

import awkward as ak

from jettag.data.card import Join
from jettag.data.hdf5 import Hdf5Source, StructuredSource, is_structured
from jettag.data.inputs import InputFile
from jettag.data.joined import JoinedSource
from jettag.data.parquet import ParquetSource
from jettag.data.remote import Remote
from jettag.data.root import RootSource
from jettag.errors import DataError, JettagError, ResourceError

__all__ = ["CHUNK", "Source", "chunks", "open_source", "reading"]

SIGNATURES = {b"root": "ROOT", b"PAR1": "Parquet", b"\x89HDF": "HDF5"}
ARTICLES = {"ROOT": "a", "Parquet": "a", "HDF5": "an"}
COPY = "the file is damaged: copy, download or generate it again"
SUFFIXES = {".root": "ROOT", ".parquet": "Parquet", ".h5": "HDF5", ".hdf5": "HDF5"}
CHUNK = 5_000  # jets at a time: about 1 MB a jagged branch; with more, the allocator gives memory back between chunks
LARGEST_SHORT_FILE = 1_000_000  # fVersion from which a ROOT file counts its bytes in 64 bits (TFile::WriteHeader)


class Source(Protocol):
    """Columns of one file."""

    tree_name: str
    names: list[str]
    num_entries: int
    note: str

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` entries at a time, up to entry ``stop``."""

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close the file."""


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn whatever a reader raises into one DataError that names the place.

    uproot, pyarrow and h5py answer damage with OSError, ValueError, IndexError, KeyError, zlib.error, AssertionError,
    MemoryError (a length field that became huge) and their own kinds.

    Raises:
        DataError: the file is damaged, or may not be read.
        ResourceError: a package for it is absent, or the network stays away.
    """
    try:
        yield
    except JettagError:
        raise
    except PermissionError:
        raise DataError("not allowed to read", where=where, do="change its permissions") from None
    except ImportError as problem:
        lines = str(problem).strip().splitlines()
        do = "install that package, or copy the file here first"
        raise ResourceError(f"cannot be opened ({lines[0][:100]})", where=where, do=do) from problem
    except Exception as problem:
        lines = str(problem).strip().splitlines()
        said = f"{type(problem).__name__}: {lines[0][:100]}" if lines else type(problem).__name__
        raise DataError(f"cannot be read ({said})", where=where, do=COPY) from problem


@contextmanager
def open_source(file: InputFile, tree_name: str | None, join: Join | None = None) -> Iterator[Source]:
    """The columns of a file, whose kind its first bytes tell; with ``join`` its events taken apart into jets.

    Raises:
        DataError: empty, truncated, of another kind than its name says, no tree or several, damaged.
        ResourceError: the package for this kind or for the address is not installed, or the network stays away.
    """
    place = Remote(file.url) if file.url else file.path
    kind = _kind(file, place)
    with reading(file.address):
        source: Source
        if kind == "Parquet":
            source = ParquetSource(place)
        elif kind == "HDF5":
            source = _hdf5(place)
        else:
            source = RootSource(place, tree_name)
        if join is not None:
            source = _joined(source, join, file.address)
    try:
        yield source
    finally:
        source.__exit__(None, None, None)


def _hdf5(place: Path | Remote) -> Source:
    """Structured data sets, events of the LHC Olympics, or any other table of pandas."""
    from jettag.data.lhco_source import LhcoSource, lhco_file  # which reads by `reading`

    if is_structured(place):
        return StructuredSource(place)
    events = None if isinstance(place, Remote) else lhco_file(place)
    return Hdf5Source(place) if events is None else LhcoSource(events)


def _joined(source: Source, join: Join, where: str) -> Source:
    """The jets of a source of events, which is closed where they cannot be joined."""
    try:
        return JoinedSource(source, join, where)
    except BaseException:
        source.__exit__(None, None, None)
        raise


def chunks(
    source: Source, branches: Sequence[str], where: str, stop: int | None = None
) -> Iterator[dict[str, ak.Array]]:
    """Columns of `CHUNK` entries at a time, up to entry ``stop``.

    Raises:
        DataError: the file is damaged there.
    """
    stop = source.num_entries if stop is None else min(stop, source.num_entries)
    read = 0
    # What the caller does with a chunk is outside: only the reader's own exceptions are translated.
    with reading(where):
        for chunk in source.chunks(branches, CHUNK, stop):
            lengths = {name: len(column) for name, column in chunk.items()}
            read += lengths[branches[0]]
            if len(set(lengths.values())) > 1:
                shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
                raise DataError(f"branches with different numbers of entries ({shown})", where=where, do=COPY)
            yield chunk
        if read != stop:
            raise DataError(f"{read} entries found of {stop} announced", where=where, do=COPY)


def _ends(place: Path | Remote) -> tuple[int, bytes, bytes]:
    """Size, first and last bytes."""
    if isinstance(place, Remote):
        size = place.facts.size
        head, tail = place.submit([(0, min(size, 64)), (max(size - 4, 0), size)]).result()
        return size, head, tail
    with place.open("rb") as stream:
        head = stream.read(64)
        size = place.stat().st_size
        stream.seek(-min(size, 4), 2)
        return size, head, stream.read(4)


def _kind(file: InputFile, place: Path | Remote) -> str:
    """ROOT, Parquet or HDF5, after the checks that need no library."""
    with reading(file.address):
        size, head, tail = _ends(place)
    if not size:
        raise DataError("an empty file (0 bytes)", where=file.address, do=COPY)
    if size < 4:
        raise DataError(f"truncated ({size} bytes)", where=file.address, do=COPY)
    kind = SIGNATURES.get(head[:4])
    expected = SUFFIXES.get(Path(urlsplit(file.url).path if file.url else file.path).suffix.lower())
    if kind is None or (expected is not None and kind != expected):
        start = head[:16].decode("ascii", "replace").replace("\ufffd", "?").strip()
        found = f"is {ARTICLES[kind]} {kind} file" if kind else f"starts with {start!r}"
        do = "rename it" if kind else "download it again: web servers send pages where they have no file"
        wanted = f"{ARTICLES[expected]} {expected}" if expected else "a ROOT, Parquet or HDF5"
        raise DataError(f"not {wanted} file, it {found}", where=file.address, do=do)
    expected_size = _root_size(head) if kind == "ROOT" else None
    if (expected_size is not None and size < expected_size) or (kind == "Parquet" and tail != b"PAR1"):
        of = f"{size} of {expected_size} bytes" if expected_size else f"{size} bytes without an end"
        raise DataError(f"truncated ({of})", where=file.address, do=COPY)
    return kind


def _root_size(head: bytes) -> int:
    """The size that a ROOT file had when it was closed, fEND in its header."""
    if len(head) < 20:
        return 20
    version = struct.unpack(">i", head[4:8])[0]
    if version < LARGEST_SHORT_FILE:
        return int(struct.unpack(">i", head[12:16])[0])
    return int(struct.unpack(">q", head[12:20])[0])
