"""Input files from what a user typed: paths, globs, addresses, each perhaps with a class in front."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jettag.data.network import shown
from jettag.data.remote import is_address, matching
from jettag.errors import DataError

__all__ = ["InputFile", "expand_inputs"]

CLASS_PREFIX = re.compile(r"^(?P<name>[A-Za-z_][\w.+-]*):(?!//)(?P<rest>.+)$", re.DOTALL)
MANIFEST = "dataset.json"  # of a prepared directory
STAGING = ".staging"  # in one that is not ready


@dataclass(frozen=True)
class InputFile:
    """One file to read.

    Attributes:
        path: where it lies; for a URL only good for its name.
        class_name: class of all its jets, or None where a branch tells.
        url: the address, where it is not a local file; it may hold a signature.
        repeats: how often the same file was given again and left out.
    """

    path: Path
    class_name: str | None = None
    url: str | None = None
    repeats: int = 0

    @property
    def manifest(self) -> Path:
        """The file whose checksum stands for it: itself, or what a prepared directory says about its content."""
        for place in (self.path / MANIFEST, self.path.parent / MANIFEST):
            if self.path.is_dir() and place.is_file():
                return place
        return self.path

    @property
    def address(self) -> str:
        """What to show: an address without its secrets."""
        return shown(self.url) if self.url else str(self.path)

    @property
    def place(self) -> str:
        """Where it lies, the same by whatever name it was given."""
        return self.url or str(self.path.resolve())


def expand_inputs(patterns: Sequence[str | Path]) -> list[InputFile]:
    r"""Files behind paths, addresses, globs of both (sorted) and ``CLASS:GLOB``, each once, in the order given.

    A file that is given twice, also through a link, is read once and counted in ``repeats``. An existing file wins
    over any reading of its name as glob or class. ``C:\...`` is a path, not a class C.

    Raises:
        DataError: nothing given, a missing file, a folder, a glob that matches nothing, one file under two classes.
        ResourceError: a glob of addresses, and the network stays away.
    """
    if not patterns:
        raise DataError("no input files given", do="give paths, globs or CLASS:GLOB")
    files: dict[object, InputFile] = {}
    for pattern in map(str, patterns):
        class_name, rest = _split_class(pattern)
        found: list[tuple[object, InputFile]]
        if is_address(rest):
            found = [(url, InputFile(Path(url), class_name, url=url)) for url in matching(rest)]
        else:
            found = [(_identity(path), InputFile(path, class_name)) for path in _match(rest)]
        for identity, file in found:
            known = files.get(identity)
            if known is None:
                files[identity] = file
            elif known.class_name != file.class_name:
                both = f"{known.class_name or 'no class'} and {file.class_name or 'no class'}"
                raise DataError(f"one file given with {both}", where=file.address)
            else:
                files[identity] = replace(known, repeats=known.repeats + 1)
    return list(files.values())


def _split_class(pattern: str) -> tuple[str | None, str]:
    match = CLASS_PREFIX.match(pattern)
    if match is None:
        return None, pattern
    if not is_address(match["rest"]) and Path(pattern).exists():
        return None, pattern
    drive_roots = "\\/" if os.name == "nt" else "\\"
    if len(match["name"]) == 1 and match["rest"][0] in drive_roots:
        return None, pattern
    return match["name"], match["rest"]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _match(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        if (path / MANIFEST).is_file():
            raise DataError("a prepared directory, where the files themselves are needed", where=path)
        if (path / STAGING).is_dir():
            do = "call the `jettag data prepare` that began it again: it goes on"
            raise DataError("a preparation that was not finished", where=path, do=do)
        raise DataError("expected files, found a folder", where=path, do=f"give a glob such as {path / '*.root'}")
    if glob.has_magic(text):
        # Path.glob has no absolute patterns.
        matched = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        for broken in (name for name in matched if not name.exists()):
            raise DataError("a link whose target is gone", where=broken)
        files = [name for name in matched if name.is_file()]
        if files:
            return files
        raise DataError("no file matches", where=text, do=_what_exists(path))
    raise DataError("no such file", where=text, do=_what_exists(path))


def _what_exists(path: Path) -> str:
    """The nearest existing folder, and what lies in it."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return f"the nearest existing folder is {folder}, which cannot be listed"
    content = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the nearest existing folder is {folder.absolute()}, with {content or 'nothing in it'}"
