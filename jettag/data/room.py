"""Whether jets fit into memory, asked while they are read: a process that the system kills can say nothing."""

from pathlib import Path

from jettag.errors import ResourceError

__all__ = ["available", "refuse_too_many"]

MEMINFO, LIMITS = Path("/proc/meminfo"), Path("/sys/fs/cgroup")  # of Linux; of a container
CERTAIN = 3.0  # times what is free: files differ in their constituents and classes by less
RESERVE = 0.02  # of what was free: left for everything else


def available() -> int | None:
    """Bytes that a process may still take, also within a container; None where the system does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, ValueError, KeyError):
        return None
    try:
        limit, used = (int((LIMITS / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (LIMITS / "memory.stat").read_text().splitlines())
        return min(free, max(limit - used + int(stat["inactive_file"]), 0))
    except (OSError, ValueError, KeyError):  # no container, or one without a limit
        return free


def refuse_too_many(held: int, share: float, where: object) -> None:
    """Refuse to go on reading where memory cannot hold all jets, or is nearly full.

    Args:
        held: bytes of the jets read so far.
        share: of all jets, how many these are.
        where: the files.

    Raises:
        ResourceError: with what they would take.
    """
    free = available()
    if free is None or share >= 1:
        return
    missing = held / share - held
    if missing > CERTAIN * free or (free < RESERVE * (held + free) and missing > free):
        what = f"the jets take about {held / share / 1e9:.3g} GB of memory, {(held + free) / 1e9:.3g} GB are there"
        do = "write them with `jettag data prepare` and give that folder, which is read piece by piece, or fewer files"
        raise ResourceError(what, where=where, do=do)
