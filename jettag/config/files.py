"""Whole files or none: written beside the target under another name, synced, then moved over it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "sync", "usual_permissions", "write_atomically"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; what stands there at the end takes the place of ``path``.

    Whatever stops it, Ctrl-C included, the old file or none is left, and no other. The folder is made where absent.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def usual_permissions(path: Path) -> None:
    """Let those read a file who may read any other that this person makes: safetensors keeps its files to the owner."""
    mask = os.umask(0o077)  # there is no other way to ask for it
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def write_atomically(path: Path, content: bytes | str) -> Path:
    """Write ``content`` (text as UTF-8) to ``path``, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path
