"""Every error a user can cause: what happened, where, what to do, and the exit code scripts rely on."""

import difflib
from collections.abc import Iterable

__all__ = [
    "CardError",
    "CheckpointError",
    "DataError",
    "DivergenceError",
    "JettagError",
    "RecipeError",
    "ResourceError",
    "Stopped",
    "UsageError",
    "nearest",
    "out_of_memory",
]


class JettagError(Exception):
    """One line for the user: ``WHAT in WHERE; DO``.

    Args:
        what: what was expected and what came.
        where: file, branch, entry or key; may be empty.
        do: what the user can do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = "", do: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.do = do
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        advice = f"; {self.do}" if self.do else ""
        return " ".join(f"{self.what}{place}{advice}".split())

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments need help to cross a process boundary.
        return (_rebuild, (type(self), self.what, self.where, self.do, dict(self.__dict__)))


def _rebuild(kind: type[JettagError], what: str, where: str, do: str, state: dict[str, object]) -> JettagError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    JettagError.__init__(error, what, where=where, do=do)
    return error


class UsageError(JettagError):
    """The command line does not make sense."""

    exit_code = 2


class RecipeError(JettagError):
    """A recipe, or a generator setting, cannot be used."""

    exit_code = 3


class CardError(RecipeError):
    """A data card cannot be used."""


class DataError(JettagError):
    """A file or its content is not what the card promises."""

    exit_code = 4


class CheckpointError(JettagError):
    """A run directory or a checkpoint cannot be used."""

    exit_code = 5


class DivergenceError(JettagError):
    """The loss or its gradient is not finite."""

    exit_code = 6


class ResourceError(JettagError):
    """Memory, disk, device or network failed."""

    exit_code = 7


class Stopped(JettagError):
    """Stopped from outside after saving: 75 preempted, 130 SIGINT, 143 SIGTERM."""

    def __init__(self, what: str, *, where: object = "", do: str = "", exit_code: int = 130) -> None:
        super().__init__(what, where=where, do=do)
        self.exit_code = exit_code


def nearest(name: str, choices: Iterable[str], *, count: int = 3) -> str:
    """The choices most like ``name``, as ``did you mean a, b?``, or the whole list where nothing is like it."""
    known = sorted(choices)
    lower = {choice.lower(): choice for choice in known}
    close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=count, cutoff=0.5)]
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"known: {', '.join(known)}" if known else "there is none"


def out_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out: Python's own error, torch's of an accelerator, or its allocator's on a CPU or MPS.

    The last two are a bare RuntimeError that only its text tells from others.
    """
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return True
    return isinstance(problem, RuntimeError) and any(
        words in str(problem)
        for words in ("can't allocate memory", "not enough memory", "out of memory", "Invalid buffer size")
    )
