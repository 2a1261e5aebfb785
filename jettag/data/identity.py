"""Which content an input file has, so that a changed one is noticed and the same one is known under another name."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jettag.data.inputs import InputFile
from jettag.data.network import shown
from jettag.data.remote import Remote

__all__ = ["Identity", "file_sha256", "identify"]


@dataclass(frozen=True)
class Identity:
    """What is recorded of an input.

    Attributes:
        path: absolute, or the address without its secrets.
        bytes: size.
        sha256: of the content; of address, size and tag for an address, which nobody wants to fetch twice.
        tag: what the server says of the version (ETag, time of change, checksum); empty for a file here.
    """

    path: str
    bytes: int
    sha256: str
    tag: str = ""


def identify(file: InputFile) -> Identity:
    """The identity of a file, or of a prepared directory by its manifest.

    Raises:
        DataError: it is not there, or may not be read.
        ResourceError: the network stays away.
    """
    if file.url:
        facts = Remote(file.url).facts
        text = f"{shown(file.url)} {facts.size} {facts.tag}"
        return Identity(shown(file.url), facts.size, hashlib.sha256(text.encode()).hexdigest(), facts.tag)
    path = file.manifest
    return Identity(str(path.resolve()), path.stat().st_size, file_sha256(path))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; read once while size and time of change stay the same."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
