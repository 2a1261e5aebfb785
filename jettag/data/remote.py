"""Files at an address, ``https://``, ``s3://`` or ``root://``: what is an address, and reading one with patience.

Every request is bounded in time and is made again, after a pause that grows, while the failure may pass. Two numbers
can be set from outside, and reach every process: ``JETTAG_REMOTE_TIMEOUT`` (seconds for a request) and
``JETTAG_REMOTE_TRIES``. A file whose server gives no ranges is fetched whole, once, and read from that copy.
Credentials are those of fsspec and its file systems: ``AWS_*``, ``~/.netrc``, a proxy certificate, or
``FSSPEC_HTTPS='{"headers": {...}}'``.
"""

import asyncio
import logging
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.asyn import get_loop
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile

from jettag.data.fetched import copy_of, writing_here
from jettag.data.network import Judgement, judge, missing_package, shown
from jettag.errors import DataError, ResourceError, UsageError

__all__ = ["Facts", "Remote", "is_address", "matching"]

ADDRESS = re.compile(r"^[A-Za-z][\w+.-]*://")
WILD = re.compile(r"[*\[]")  # no question mark: in addresses it begins the query
TIMEOUT = 30.0  # seconds; see the module's text
TRIES = 5
FIRST_PAUSE = 1.0  # seconds, doubled each time, up to the longest; half of it is random, so that workers spread
LONGEST_PAUSE = 30.0
PIECE = 4 << 20  # bytes: what one request asks for at most, so that a slow line keeps within the timeout
AT_ONCE = 8  # requests to one file
TAGS = ("Content-MD5", "Digest", "ETag", "Last-Modified", "LastModified", "mtime")  # what tells versions of a file

T = TypeVar("T")
log = logging.getLogger(__name__)  # without a handler Python prints warnings to stderr as they are, also in workers


def is_address(text: str) -> bool:
    """Whether a text names a file elsewhere; the one place that decides it."""
    return ADDRESS.match(text) is not None


@dataclass(frozen=True)
class Facts:
    """Size in bytes, what the server says of the file's version, empty where nothing, and whether it gives ranges."""

    size: int
    tag: str
    ranges: bool = True


class Remote:
    """One file at an address.

    Raises:
        DataError: no such file, or not allowed to read it; no such scheme.
        ResourceError: the network stays away, or the package for the scheme is missing.
    """

    def __init__(self, address: str) -> None:
        self.shown = shown(address)
        self._fs, self._path = _file_system(address)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._quiet_until = 0.0
        self._is_copy = False

    @cached_property
    def facts(self) -> Facts:
        """What the server says of the file."""
        info = self._wait(self._patiently(lambda: self._call("info", self._path)))
        if info.get("type") == "directory":
            raise DataError("expected a file, found a folder", where=self.shown, do="give a pattern such as DIR/*.root")
        if info.get("size") is None:
            raise DataError("the server does not tell the size of the file", where=self.shown, do="download it first")
        tags = (f"{name} {info[name]}" for name in TAGS if info.get(name))
        return Facts(int(info["size"]), next(tags, ""), info.get("ranges", True))

    def read(self, start: int, stop: int) -> bytes:
        """Bytes from ``start`` up to ``stop``."""
        self._fetch_without_ranges()
        return self._wait(self._range(start, stop))

    def submit(self, ranges: Sequence[tuple[int, int]]) -> "Future[list[bytes]]":
        """Begin to fetch ranges; the future has their bytes, in order. Cancelling it ends the requests."""
        self._fetch_without_ranges()

        async def fetch() -> list[bytes]:
            return await asyncio.gather(*(self._range(start, stop) for start, stop in ranges))

        return asyncio.run_coroutine_threadsafe(fetch(), get_loop())

    def open(self, cache: str = "none") -> "RemoteFile":
        """The file as a seekable stream; ``cache`` is a name of `fsspec.caching`."""
        self._fetch_without_ranges()
        return RemoteFile(self, cache)

    def glob(self) -> list[str]:
        """Addresses of the files that match the address taken as a pattern, sorted."""
        found = self._wait(self._patiently(lambda: self._call("glob", self._path, detail=True)))
        names = [name for name, info in found.items() if info["type"] != "directory"]
        return sorted(str(self._fs.unstrip_protocol(name)) for name in names)

    def _fetch_without_ranges(self) -> None:
        """Where the server gives no ranges, have a copy of the file here and read that from now on."""
        if self._is_copy or self.facts.ranges:
            return
        facts = self.facts
        path = copy_of(f"{self._path} {facts.size} {facts.tag}", facts.size, self.shown, self._fetch)
        self._fs, self._path, self._is_copy = LocalFileSystem(), str(path), True

    def _fetch(self, path: Path) -> None:
        """Bring the whole file, from its beginning at every try."""
        size, timeout = self.facts.size, _setting("JETTAG_REMOTE_TIMEOUT", TIMEOUT)

        async def request() -> None:
            with writing_here(self.shown):
                await self._call("get_file", self._path, str(path), size=size, timeout=timeout)

        self._wait(self._patiently(request, in_time=False))

    async def _range(self, start: int, stop: int) -> bytes:
        """A range, large ones piece by piece; no byte of it may be missing."""
        edges = [*range(start, stop, PIECE), stop]
        pieces = await asyncio.gather(*(self._patiently(self._piece(low, high)) for low, high in pairwise(edges)))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, start: int, stop: int) -> Callable[[], Awaitable[bytes]]:
        async def request() -> bytes:
            content: bytes = await self._call("cat_file", self._path, start=start, end=stop)
            if len(content) != stop - start:
                raise ConnectionError(f"{len(content)} of {stop - start} bytes came")
            return content

        return request

    async def _call(self, name: str, *args: Any, **options: Any) -> Any:
        if self._fs.async_impl:
            return await getattr(self._fs, f"_{name}")(*args, **options)
        return await asyncio.to_thread(getattr(self._fs, name), *args, **options)

    async def _patiently(self, request: Callable[[], Awaitable[T]], *, in_time: bool = True) -> T:
        timeout, tries = _setting("JETTAG_REMOTE_TIMEOUT", TIMEOUT), round(_setting("JETTAG_REMOTE_TRIES", TRIES))
        async with self._slots:
            for attempt in range(1, tries + 1):
                try:
                    return await asyncio.wait_for(request(), timeout if in_time else None)
                except Exception as problem:
                    judgement = judge(problem, self.shown, timeout)
                    if judgement.error is not None:
                        raise judgement.error from problem
                    if attempt == tries:
                        what = f"no answer in {tries} tries ({judgement.said})"
                        do = "run the command again when the network is back; JETTAG_REMOTE_TRIES=10 tries longer"
                        raise ResourceError(what, where=self.shown, do=do) from problem
                    await self._pause(attempt, tries, judgement)
        raise UsageError(f"JETTAG_REMOTE_TRIES={tries} is no number of tries", do="set it to 1 or more")

    async def _pause(self, attempt: int, tries: int, judgement: Judgement) -> None:
        """Wait, with one line for all requests to the file that failed together."""
        pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.0)
        pause = max(pause, min(judgement.wanted_pause, LONGEST_PAUSE))
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + pause
            log.warning("retry %d of %d in %.1f s: %s in %s", attempt, tries - 1, pause, judgement.said, self.shown)
        await asyncio.sleep(pause)

    def _wait(self, request: Awaitable[T]) -> T:
        future = asyncio.run_coroutine_threadsafe(_as_coroutine(request), get_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C leaves at once
            raise


class RemoteFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file at an address as the stream that pyarrow and h5py read."""

    def __init__(self, remote: Remote, cache: str) -> None:
        self._remote = remote
        options = {"maxblocks": 8} if cache == "blockcache" else {}
        size = remote.facts.size
        super().__init__(remote._fs, remote._path, block_size=PIECE, cache_type=cache, cache_options=options, size=size)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._remote.read(start, min(end, self.size))  # the last block of a cache ends beyond the file


def matching(address: str) -> list[str]:
    """The address itself, or where its path has ``*`` or ``[...]`` the files that match, sorted.

    Raises:
        DataError: none does, or the server does not list its folders.
        ResourceError: as `Remote`.
    """
    path = address.partition("://")[2].partition("/")[2].partition("?")[0]
    if not WILD.search(path):
        return [address]
    remote = Remote(address)
    do = "give full addresses: not every server lists its folders"
    try:
        found = remote.glob()
    except NotImplementedError:
        raise DataError("the server cannot list files", where=remote.shown, do=do) from None
    if not found:
        raise DataError("no file matches", where=remote.shown, do=do)
    return found


def _file_system(address: str) -> tuple[Any, str]:
    scheme = address.partition("://")[0].lower()
    try:
        if scheme in ("http", "https"):
            from jettag.data.http import RangedHttp

            return RangedHttp(), address
        fs, path = url_to_fs(address)
    except ImportError as problem:
        raise missing_package(scheme, problem, shown(address)) from problem
    except ValueError as problem:
        if scheme in fsspec.available_protocols():
            raise DataError(f"no address ({problem})", where=shown(address), do="check it") from problem
        do = "use https://, s3:// or root://, or a path"
        raise DataError(f"no way to open {scheme}://", where=shown(address), do=do) from problem
    return fs, path


def _setting(name: str, default: float) -> float:
    text = os.environ.get(name)
    try:
        return default if text is None else float(text)
    except ValueError:
        raise UsageError(f"{name}={text!r} is no number", do=f"set it to one, such as {default:g}") from None


async def _as_coroutine(request: Awaitable[T]) -> T:
    return await request
