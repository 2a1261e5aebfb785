"""Whole files or none: written beside the target under another name, synced, then moved over it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["beside", "replacing", "sync", "usual_permissions", "write_atomically"]


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


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield a hidden folder on the disk of ``path`` to make that file in, with what else it takes.

    It is gone at the end; what a killed process left of its own for this ``path`` goes at the beginning. The folder of
    ``path`` is made where absent.

    Raises:
        OSError: the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = f".{path.name}.making-"
    for left in path.parent.iterdir():
        process = left.name.removeprefix(begin).partition("-")[0]
        if left.name.startswith(begin) and process.isdecimal() and not _lives(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=path.parent, prefix=f"{begin}{os.getpid()}-") as folder:
        yield Path(folder)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


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
