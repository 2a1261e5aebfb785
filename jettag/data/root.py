"""ROOT files in and out, TTree and RNTuple: the only place that imports uproot.

Written files appear whole or not at all, are compressed with ZLIB, and carry their metadata as one JSON object in a
TObjString named ``metadata`` and a checksum a column in another, ``checksums``, which is compared whenever a file is
read to its end. In files of others ZLIB notices flipped bits in what it could compress; no compression, ZSTD as uproot
writes it, and the baskets that LZ4 or ZLIB left raw cannot tell.

ZLIB is unpacked by libdeflate, where its package is installed, for the whole process: the same bytes in two thirds of
the time. What is written comes from the standard library's zlib, so files do not depend on what is installed.
"""

import json
import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal
from unittest import mock
from uuid import UUID

import awkward as ak
import numpy as np
import uproot
from uproot.source.coalesce import CoalesceConfig, coalesce_requests

from jettag.config.files import replacing
from jettag.data.baskets import Numbers, iterate_baskets
from jettag.data.checksums import Checksums
from jettag.data.parquet import METADATA_KEY, read_parquet_metadata, write_parquet
from jettag.data.remote import Remote
from jettag.errors import DataError, ResourceError

try:
    import deflate
except ImportError:  # no wheel for this machine: slower, nothing else
    deflate = None

__all__ = [
    "RootSource",
    "TreeKind",
    "iterate_bare",
    "plain_numbers",
    "read_metadata",
    "uproot_as_it_comes",
    "write_tree",
]

TreeKind = Literal["ttree", "rntuple", "parquet"]

CHECKSUMS_KEY = "checksums"
CLUSTER = 5000  # jets in a basket: 1 MB a jagged branch, so reading is fast and memory stays small
COMPRESSION = uproot.ZLIB(1)
TREES = ("TTree", "ROOT::RNTuple", "ROOT::Experimental::RNTuple", "TNtuple", "TNtupleD", "TChain")
WHOLE = CoalesceConfig(max_request_bytes=1 << 62, max_request_ranges=1 << 31)  # jettag.data.remote cuts and deals
WRITTEN = uproot._util.datetime_to_code(datetime(2026, 1, 1))
FILE_UUID = UUID(int=0)
SHARED_PREFIX = "part_"  # jagged branches of this prefix have one counter, npart
LOCAL = {"handler": uproot.MultithreadedFileSource, "use_threads": False}  # plain reads, no event loop to wait for
PLAIN = getattr(uproot.compression, "_decompress_ZLIB", None)  # uproot as it comes


class _Libdeflate(object if PLAIN is None else type(PLAIN)):  # type: ignore[misc]
    """ZLIB blocks through libdeflate, checksum included.

    uproot's own switch, ``library = "deflate"``, calls deflate 0.9 with an argument that it no longer knows. An uproot
    without this part is left as it is.
    """

    def decompress(self, data: Any, uncompressed_bytes: int | None = None) -> Any:
        """The unpacked bytes, of which there are ``uncompressed_bytes``."""
        return deflate.zlib_decompress(data, uncompressed_bytes)


if deflate is not None and PLAIN is not None:
    uproot.compression._decompress_ZLIB = _Libdeflate()


def write_tree(
    path: Path,
    tree_name: str,
    chunks: Iterable[Mapping[str, Any]],
    *,
    metadata: Mapping[str, str],
    kind: TreeKind = "ttree",
) -> int:
    """Write columns to a file that is there complete, or not at all.

    Args:
        path: the file; its folder is made where absent, and a file of that name is replaced at the very end.
        tree_name: name of the TTree or RNTuple; Parquet has none.
        chunks: mappings with the same columns each, flat (n,) or jagged (n, var), numpy or awkward; types are kept.
            How the rows are cut into chunks leaves no trace in the file.
        metadata: what `read_metadata` gives back.
        kind: TTree (the ``part_`` branches share the counter ``npart``), RNTuple or Parquet.

    Returns:
        The number of rows written.

    Raises:
        DataError: no chunk, or columns that do not fit together.
        ResourceError: the disk is full or not writable, or pyarrow is absent.
    """
    path = Path(path)
    try:
        with replacing(path) as temporary:
            clusters = _clusters(chunks, path)
            if kind == "parquet":
                rows = write_parquet(temporary, clusters, metadata)
            else:
                rows = _write_root(temporary, tree_name, clusters, metadata, kind)
            if not rows:
                raise DataError("nothing to write", where=path)
    except OSError as problem:
        why = problem.strerror or str(problem)
        raise ResourceError(f"cannot write ({why})", where=path, do="free space or choose another folder") from problem
    return rows


def _write_root(
    path: Path, tree_name: str, clusters: Iterator[dict[str, ak.Array]], metadata: Mapping[str, str], kind: TreeKind
) -> int:
    rows = 0
    checksums = Checksums()
    options = {"compression": COMPRESSION, "uuid_function": lambda: FILE_UUID}
    # An open file has no name that uproot could write into it: the temporary one holds a process number.
    with _no_trace_of_when(), path.open("w+b") as sink, uproot.recreate(sink, **options) as file:
        tree: Any = None
        for cluster in clusters:
            columns: Any = _share_counter(cluster) if kind == "ttree" else ak.zip(cluster, depth_limit=1)
            if tree is not None:
                tree.extend(columns)
            elif kind == "ttree":
                tree = file.mktree(tree_name, {name: ak.type(column).content for name, column in columns.items()})
                tree.extend(columns)
            else:
                tree = file.mkrntuple(tree_name, columns)
            checksums.add(cluster)
            rows += len(next(iter(cluster.values())))
        file[CHECKSUMS_KEY] = json.dumps(checksums.digests)
        file[METADATA_KEY] = json.dumps(dict(metadata))
    return rows


@contextmanager
def _no_trace_of_when() -> Iterator[None]:
    """Write fixed dates, so that the same jets are the same file to the byte; uproot offers no option for them."""
    with mock.patch.object(uproot._util, "datetime_to_code", return_value=WRITTEN):
        yield


def _share_counter(cluster: Mapping[str, ak.Array]) -> dict[str, ak.Array]:
    """The columns with the jagged ``part_`` ones zipped into one record, which uproot writes with one counter."""
    shared = [name for name, column in cluster.items() if name.startswith(SHARED_PREFIX) and column.ndim > 1]
    columns = {name: column for name, column in cluster.items() if name not in shared}
    if shared:
        columns[SHARED_PREFIX.rstrip("_")] = ak.zip({n.removeprefix(SHARED_PREFIX): cluster[n] for n in shared})
    return columns


def _clusters(chunks: Iterable[Mapping[str, Any]], path: Path) -> Iterator[dict[str, ak.Array]]:
    """The same rows in pieces of `CLUSTER`, so that a file does not remember how it was produced."""
    names: list[str] = []
    waiting: list[dict[str, ak.Array]] = []
    count = 0
    for chunk in chunks:
        columns = {name: ak.Array(column) for name, column in chunk.items()}
        if len({len(column) for column in columns.values()}) > 1:
            lengths = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
            raise DataError(f"columns of different length ({lengths})", where=path)
        names = names or list(columns)
        if list(columns) != names:
            raise DataError(f"columns changed from {', '.join(names)} to {', '.join(columns)}", where=path)
        waiting.append(columns)
        count += len(next(iter(columns.values()), ()))
        if count >= CLUSTER:
            whole = _join(waiting)
            full = count - count % CLUSTER
            for start in range(0, full, CLUSTER):
                yield {name: column[start : start + CLUSTER] for name, column in whole.items()}
            waiting = [{name: column[full:] for name, column in whole.items()}]
            count -= full
    if count:
        yield _join(waiting)


def _join(pieces: Sequence[Mapping[str, ak.Array]]) -> dict[str, ak.Array]:
    joined = {name: ak.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    jagged = {n: np.asarray(ak.num(c)) for n, c in joined.items() if n.startswith(SHARED_PREFIX) and c.ndim > 1}
    for name, counts in jagged.items():
        first = next(iter(jagged))
        if not np.array_equal(counts, jagged[first]):
            raise DataError(f"{first} and {name} have different counts", where="the columns to write")
    return joined


def read_metadata(path: Path) -> dict[str, str]:
    """What `write_tree` kept as metadata; empty for a file of others.

    Raises:
        DataError: the file cannot be read.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            return read_parquet_metadata(path)
        with uproot.open(path) as file:
            if METADATA_KEY not in file:
                return {}
            return {str(key): str(value) for key, value in json.loads(str(file[METADATA_KEY])).items()}
    except ResourceError:
        raise
    except Exception as problem:
        raise DataError(f"cannot be read ({type(problem).__name__})", where=path, do="check it with ROOT") from problem


@contextmanager
def uproot_as_it_comes() -> Iterator[None]:
    """ZLIB unpacked by the standard library, as uproot does by itself: for comparisons with others who use it."""
    with mock.patch.object(uproot.compression, "_decompress_ZLIB", PLAIN):
        yield


def iterate_bare(place: Path | Remote, tree_name: str | None, branches: Sequence[str], step: int = CLUSTER) -> int:
    """Entries of one file, opened as jettag does, its branches read by ``uproot.iterate`` and dropped."""
    with _open(place) as file:
        tree = file[_choose(file, tree_name)[1]]
        return sum(len(chunk) for chunk in tree.iterate(filter_name=frozenset(branches).__contains__, step_size=step))


class _Ranges(uproot.source.chunk.Source):  # type: ignore[misc]
    """A file at an address as uproot wants it: ranges that are asked for together come together, near ones as one."""

    def __init__(self, file_path: str, *, remote: Remote, **_: Any) -> None:
        super().__init__()
        self._file_path = file_path
        self._remote = remote
        self._num_bytes = remote.facts.size
        self._asked: list[Future[list[bytes]]] = []
        self._open = True

    def chunk(self, start: int, stop: int) -> Any:
        """One range, when it has come."""
        return self.chunks([(start, stop)], queue.Queue())[0]

    def chunks(self, ranges: list[tuple[int, int]], notifications: "queue.Queue[Any]") -> Any:
        """Ranges, put into ``notifications`` as they come."""
        beyond = max((stop for _, stop in ranges), default=0)
        if beyond > self._num_bytes:
            raise DataError(f"byte {beyond} is needed of {self._num_bytes}", where=self._file_path, do="write it again")
        self._asked = [future for future in self._asked if not future.done()]
        return coalesce_requests(ranges, self._submit, self, notifications, WHOLE)

    def _submit(self, ranges: list[tuple[int, int]]) -> "Future[list[bytes]]":
        self._asked.append(self._remote.submit(ranges))
        return self._asked[-1]

    @property
    def closed(self) -> bool:
        """Whether nothing more can be read."""
        return not self._open

    def __enter__(self) -> "_Ranges":
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        for future in self._asked:
            future.cancel()


def _open(place: Path | Remote) -> Any:
    """A ROOT file to read, here or at an address."""
    if isinstance(place, Remote):
        return uproot.open({place.shown: None}, handler=_Ranges, remote=place)
    return uproot.open({str(place): None}, **LOCAL)


class RootSource:
    """One TTree or RNTuple: ``tree_name``, ``names``, ``num_entries``, ``chunks``.

    Whatever uproot raises on a damaged file passes through; `jettag.data.source` says it in one line.
    """

    def __init__(self, place: Path | Remote, tree_name: str | None) -> None:
        self._file = _open(place)
        self._stream: BinaryIO | None = None
        try:
            if isinstance(place, Path):
                self._stream = place.open("rb")
            self.note, self.tree_name = _choose(self._file, tree_name)
            self._tree = self._file[self.tree_name]
            self.names = [str(name) for name in self._tree.keys(full_paths=False)]
            self.num_entries = int(self._tree.num_entries)
            known = json.loads(str(self._file[CHECKSUMS_KEY])) if CHECKSUMS_KEY in self._file else {}
            self._digests: dict[str, str] = known
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` entries at a time, up to entry ``stop``."""
        if isinstance(self._tree, uproot.behaviors.TTree.TTree):
            step = iterate_baskets(self._tree, names, entries, stop, self._read, plain_numbers)
        else:
            wanted = frozenset(names).__contains__
            step = self._tree.iterate(filter_name=wanted, entry_stop=stop, step_size=entries, library="ak", how=dict)
        checksums = Checksums()
        for columns in step:
            chunk = {name: columns[name] for name in names}
            checksums.add({name: column for name, column in chunk.items() if name in self._digests})
            yield chunk
        if stop == self.num_entries:
            changed = [name for name, digest in checksums.digests.items() if digest != self._digests[name]]
            if changed:
                what = f"the checksum of {', '.join(changed)} is not the one written"
                raise DataError(what, where=self._file.file_path, do="copy or generate the file again")

    def _read(self, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """Bytes of the file from where to where."""
        if self._stream is None:
            chunks = self._file.file.source.chunks(ranges, queue.Queue())
            places = [(chunk, uproot.source.cursor.Cursor(chunk.start)) for chunk in chunks]
            return [cursor.bytes(chunk, chunk.stop - chunk.start, {}) for chunk, cursor in places]
        found = []
        for begin, stop in ranges:
            self._stream.seek(begin)
            found.append(self._stream.read(stop - begin))
        return found

    def __enter__(self) -> "RootSource":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.close()
        self._file.close()


def plain_numbers(branch: Any, tree: Any) -> Numbers | None:
    """What a branch holds if that is a number, or a list, for each entry of the tree, all in baskets of their own."""
    inner = branch.interpretation
    is_list = type(inner) is uproot.AsJagged
    numbers = inner.content if is_list else inner
    if type(numbers) is not uproot.AsDtype or not {numbers.from_dtype.kind, numbers.to_dtype.kind} <= set("biuf"):
        return None
    if branch.embedded_baskets or not branch.entry_offsets[-1] == branch.num_entries == tree.num_entries:
        return None

    def unpack(stored: Any, begin: int, length: int) -> Any:
        packed, cursor = uproot.source.chunk.Chunk.wrap(branch.file.source, stored), uproot.source.cursor.Cursor(begin)
        return uproot.compression.decompress(packed, cursor, {}, len(stored) - begin, length).raw_data

    return Numbers(numbers.from_dtype, numbers.to_dtype, inner.header_bytes if is_list else None, unpack)


def _choose(file: Any, tree_name: str | None) -> tuple[str, str]:
    """(note, name) of the tree to read: the card's, or the only one there is."""
    address = file.file_path
    names = [str(name) for name, kind in file.classnames(cycle=False).items() if kind in TREES]
    if tree_name in names:
        return "", str(tree_name)
    if len(set(names)) == 1:
        return (f"tree {names[0]} read, {tree_name} is absent" if tree_name else ""), names[0]
    if not names:
        holds = ", ".join(list(file.keys(cycle=False))[:5])
        what = f"no tree, only {holds}" if holds else "no tree; the file was probably not closed by who wrote it"
        raise DataError(what, where=address, do="write it again")
    raise DataError(
        f"several trees ({', '.join(dict.fromkeys(names))})" + (f" but no {tree_name}" if tree_name else ""),
        where=address,
        do="name one as `tree:` on a copy of the card",
    )
