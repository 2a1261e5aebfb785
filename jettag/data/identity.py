"""Which content an input file has, so that a changed one is noticed and the same one is known under another name."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jettag.data.inputs import InputFile
from jettag.data.network import shown
from jettag.data.remote import Remote

__all__ = ["Identity", "file_ends", "file_sha256", "identify", "size_of"]

END = 1 << 14  # bytes


@dataclass(frozen=True)
class Identity:
    """What is recorded of an input.

    Attributes:
        path: absolute, or the address without its secrets.
        bytes: size.
        sha256: of the content; of address, size and tag for an address, which nobody wants to fetch twice.
        ends: SHA-256 of the size and the first and last bytes: a copy has the same, whether here or at an address. ROOT
            files begin with an identifier of their own, Parquet ends with the statistics of its columns. Empty for
            an address whose server gives no ranges.
        tag: what the server says of the version (ETag, time of change, checksum); empty for a file here.
    """

    path: str
    bytes: int
    sha256: str
    ends: str = ""
    tag: str = ""


def identify(file: InputFile) -> Identity:
    """The identity of a file, or of a prepared directory by its manifest.

    Raises:
        DataError: it is not there, or may not be read.
        ResourceError: the network stays away.
    """
    if file.url:
        remote = Remote(file.url)
        size, tag = remote.facts.size, remote.facts.tag
        known = hashlib.sha256(f"{shown(file.url)} {size} {tag}".encode()).hexdigest()
        ends = _ends(size, remote.read) if remote.facts.ranges else ""  # to know a file it need not be fetched
        return Identity(shown(file.url), size, known, ends, tag)
    path = file.manifest
    size = path.stat().st_size
    return Identity(str(path.resolve()), size, file_sha256(path), file_ends(path))


def file_ends(path: Path) -> str:
    """``ends`` of an `Identity`."""
    with path.open("rb") as file:
        return _ends(path.stat().st_size, lambda start, stop: os.pread(file.fileno(), stop - start, start))


def size_of(file: InputFile) -> int:
    """Bytes of a file, here or at an address."""
    return Remote(file.url).facts.size if file.url else file.path.stat().st_size


def _ends(size: int, read: Callable[[int, int], bytes]) -> str:
    """Of what ``read`` gives from a byte up to another."""
    found = hashlib.sha256(f"{size} ".encode())
    for start, stop in ((0, min(END, size)), (max(size - END, END), size)):
        if start < stop:
            found.update(read(start, stop))
    return found.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; read once while size and time of change stay the same."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
