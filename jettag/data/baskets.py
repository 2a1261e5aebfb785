"""Columns of a TTree straight from its baskets: what ``uproot.iterate`` gives, with less done for each basket.

A basket is a key, then compressed values of some entries of one branch, in big-endian order, then, of a jagged branch,
where each entry begins (ROOT's TBasket; `uproot.models.TBasket`). uproot makes objects, futures and copies of each,
which of baskets of 200 entries is a third of the time (RESULTS.md). The file, its tree, what a branch holds and the
unpacking stay uproot's, and so does every branch that is not numbers, or lists of numbers, in baskets of their own.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt

__all__ = ["Numbers", "iterate_baskets"]

KEY = struct.Struct(">ihiIhh")  # fNbytes, fVersion, fObjlen, fDatime, fKeylen, fCycle
BASKET = struct.Struct(">ii?")  # ends the key: fNevBuf, fLast, a flag

Array = npt.NDArray[Any]
Range = tuple[int, int]


class Numbers(NamedTuple):
    """What a branch holds whose baskets are read here: a number, or a list of them, for each entry.

    Attributes:
        stored: how a number stands in the file.
        native: what it becomes.
        header: bytes before each list; None where each entry is one number.
        unpack: the bytes of a basket as it stands in the file, from where and to how many bytes -> those bytes.
    """

    stored: np.dtype[Any]
    native: np.dtype[Any]
    header: int | None
    unpack: Callable[[npt.NDArray[np.uint8], int, int], npt.NDArray[np.uint8]]


class _Unusual(Exception):
    """A basket of another kind, which uproot reads."""


class _Block(NamedTuple):
    """Entries ``begin`` to ``stop`` of a branch: their numbers, and how many each has, None where each has one."""

    begin: int
    stop: int
    values: Array
    counts: Array | None


class _Column:
    """One branch, read from begin to end."""

    def __init__(self, branch: Any, numbers: Numbers) -> None:
        self._stored, self._native, header, self._unpack = numbers
        self.jagged, self._header = header is not None, header or 0
        self._edges = branch.entry_offsets
        count = len(self._edges) - 1
        begins, sizes = branch.member("fBasketSeek")[:count], branch.member("fBasketBytes")[:count]
        self._ranges = [(int(begin), int(begin) + int(size)) for begin, size in zip(begins, sizes, strict=True)]
        self._next = 0
        self._blocks: list[_Block] = []

    def wanted(self, stop: int) -> list[Range]:
        """Where the baskets are that are yet to be read for the entries before ``stop``."""
        last = self._next
        while last < len(self._ranges) and self._edges[last] < stop:
            last += 1
        return self._ranges[self._next : last]

    def add(self, stored: bytes) -> None:
        """The next basket, as it stands in the file."""
        begin, stop = self._edges[self._next : self._next + 2]
        data, sizes = _unpacked(stored, stop - begin, self._unpack)
        width = self._stored.itemsize
        counts = None
        if self.jagged:
            if sizes is None:
                raise _Unusual
            if sizes.min(initial=self._header) < self._header:
                msg = f"basket {self._next}: its entries do not follow each other"
                raise ValueError(msg)
            if self._header:
                data, sizes = _without(data, sizes, self._header, width)
            counts = sizes // width
        values = data[: len(data) // width * width].view(self._stored)
        if len(values) * width != len(data) or len(values) != (stop - begin if counts is None else counts.sum()):
            msg = f"basket {self._next}: {len(data)} bytes of numbers for {stop - begin} entries"
            raise ValueError(msg)
        self._blocks.append(_Block(begin, stop, values, counts))
        self._next += 1

    def take(self, begin: int, stop: int) -> ak.Array:
        """Entries ``begin`` to ``stop``; ``begin`` is where the last call stopped."""
        values: list[Array] = []
        counts: list[Array] = []
        if begin < stop and (not self._blocks or self._blocks[-1].stop < stop):
            msg = f"no basket has entry {stop - 1}"
            raise ValueError(msg)
        for block in self._blocks:
            low, high = max(begin, block.begin) - block.begin, min(stop, block.stop) - block.begin
            if block.counts is None:
                values.append(block.values[low:high])
                continue
            inside = block.counts[low:high]
            first = int(block.counts[:low].sum())
            values.append(block.values[first : first + int(inside.sum())])
            counts.append(inside)
        self._blocks = [block for block in self._blocks if block.stop > stop]
        flat = np.concatenate(values, dtype=self._native)
        content = ak.contents.NumpyArray(flat)
        if not self.jagged:
            return ak.Array(content)
        offsets = np.zeros(stop - begin + 1, dtype=np.int64)
        np.cumsum(np.concatenate(counts), out=offsets[1:])
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def iterate_baskets(
    tree: Any,
    names: Sequence[str],
    step: int,
    stop: int,
    read: Callable[[list[Range]], Sequence[bytes]],
    numbers: Callable[[Any, Any], Numbers | None],
) -> Iterator[dict[str, ak.Array]]:
    """Columns of at most ``step`` entries at a time, up to entry ``stop``.

    Args:
        tree: of uproot, a TTree.
        names: of branches.
        step: entries.
        stop: at most the tree's entries.
        read: bytes of the file from where to where, all that a step needs in one call.
        numbers: of a branch and its tree, what it holds; None leaves it to uproot.

    Raises:
        Exception: whatever a damaged file makes uproot, NumPy or this raise.
    """
    wanted = frozenset(names)
    found = list(tree.iteritems(filter_name=wanted.__contains__, full_paths=False))
    often = Counter(name for name, _ in found)
    known = [(name, branch, numbers(branch, tree) if often[name] == 1 else None) for name, branch in found]
    columns = {name: _Column(branch, held) for name, branch, held in known if held is not None}
    others: Iterator[dict[str, ak.Array]] | None = None
    for begin in range(0, stop, step):
        end = min(begin + step, stop)
        try:
            _add(list(columns.values()), end, read)
            chunk = {name: column.take(begin, end) for name, column in columns.items()}
        except _Unusual:
            columns, others, chunk = {}, None, {}
        if left := wanted - columns.keys():
            if others is None:
                span = {"entry_start": begin, "entry_stop": stop, "step_size": step}
                others = tree.iterate(filter_name=left.__contains__, **span, library="ak", how=dict)
            chunk |= next(others, {})
        yield {name: chunk[name] for name in names}


def _add(columns: Sequence[_Column], stop: int, read: Callable[[list[Range]], Sequence[bytes]]) -> None:
    """Add to the columns the baskets that they need up to entry ``stop``."""
    wanted = [(column, place) for column in columns for place in column.wanted(stop)]
    for (column, _), stored in zip(wanted, read([place for _, place in wanted]), strict=True):
        column.add(stored)


def _unpacked(
    stored: bytes, entries: int, unpack: Callable[[npt.NDArray[np.uint8], int, int], npt.NDArray[np.uint8]]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32] | None]:
    """The bytes of a basket's values, and how many each entry has where the basket tells."""
    size, _, length, _, key, _ = KEY.unpack_from(stored)
    held, last, _ = BASKET.unpack_from(stored, key - BASKET.size)
    border = last - key
    if size != len(stored) or held != entries or not 0 <= border <= length:
        msg = f"a basket of {held} entries in {size} bytes where {entries} in {len(stored)} were announced"
        raise ValueError(msg)
    data = np.frombuffer(stored, dtype=np.uint8)
    data = data[key:] if size - key == length else unpack(data, key, length)
    if border == length:
        return data, None
    begins = data[border:].view(">i4")[1:] - key
    if len(begins) != entries + 1 or (entries and begins[0]):
        msg = f"a basket of {entries} entries with {len(begins) - 1} beginnings, the first not at the begin"
        raise ValueError(msg)
    begins[-1] = border
    return data[:border], np.diff(begins)


def _without(
    data: npt.NDArray[np.uint8], sizes: npt.NDArray[np.int32], header: int, width: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The same without the bytes that stand before each entry of a std::vector."""
    unit = int(np.gcd.reduce([header, width, 8]))  # whole numbers of bytes move faster than bytes
    words = data.view(f"u{unit}")
    kept = np.ones(len(words), dtype=bool)
    begins = (np.cumsum(sizes) - sizes) // unit
    kept[(begins[:, None] + np.arange(header // unit)).reshape(-1)] = False
    return words[kept].view(np.uint8), sizes - header
