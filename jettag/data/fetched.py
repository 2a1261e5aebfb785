"""Copies of files whose server gives them only as a whole: made once for a command and its workers, gone at its end.

They lie in a folder of their own under ``TMPDIR``, which workers find by the environment. It is removed when the
process that made it ends, also by a signal that the command handles; SIGKILL leaves it behind.
"""

import errno
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path

from filelock import FileLock

from jettag.errors import ResourceError

__all__ = ["copy_of", "writing_here"]

FOLDER = "JETTAG_FETCHED"  # set by the process that makes the first copy, and inherited
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
MORE_ROOM = "set TMPDIR to a folder with room, or download the file first"

log = logging.getLogger(__name__)
_making = threading.Lock()


def copy_of(key: str, size: int, where: str, fetch: Callable[[Path], None]) -> Path:
    """The copy of a file, fetched where this command has none yet.

    Args:
        key: tells the file and its version from all others.
        size: bytes.
        where: the address to show.
        fetch: writes the file to a path, or raises.

    Raises:
        ResourceError: the disk has no room.
    """
    with writing_here(where):
        folder = _folder(where)
        path = folder / hashlib.sha256(key.encode()).hexdigest()
        with FileLock(f"{path}.lock"):
            if not path.exists():
                free = shutil.disk_usage(folder).free
                if free < size:
                    what = f"the file has {_bytes(size)}, {folder.parent} has room for {_bytes(free)}"
                    raise ResourceError(what, where=where, do=MORE_ROOM)
                what = "%s is fetched whole (%s) to %s until the command ends: its server gives no byte ranges"
                log.warning(what, where, _bytes(size), folder)
                part = path.with_suffix(".part")
                fetch(part)
                part.replace(path)
    return path


@contextmanager
def writing_here(where: str) -> Iterator[None]:
    """Tell a disk that cannot be written from a network that fails.

    Raises:
        ResourceError: it cannot.
    """
    try:
        yield
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        what = f"its copy cannot be written to {tempfile.gettempdir()} ({problem.strerror})"
        raise ResourceError(what, where=where, do=MORE_ROOM) from problem


def _folder(where: str) -> Path:
    with _making:
        given = os.environ.get(FOLDER)
        if given and Path(given).is_dir():
            return Path(given)
        try:
            folder = tempfile.mkdtemp(prefix="jettag-")
        except OSError as problem:
            raise ResourceError("no folder for a copy can be made", where=where, do=MORE_ROOM) from problem
        os.environ[FOLDER] = folder
        # Unlike atexit's, these are called in worker processes too; negative: after workers of this one have ended.
        Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-1)
        return Path(folder)


def _bytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
