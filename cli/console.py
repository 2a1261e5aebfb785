"""Where commands meet the terminal: one-line errors and exit codes, JSON on stdout, progress on stderr."""

import functools
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from jettag.errors import JettagError, Stopped, out_of_memory

from .entry import STOPPED_BY, leave_import

__all__ = [
    "JsonOption",
    "boundary",
    "emit_json",
    "err",
    "error_line",
    "forget_stdout",
    "is_first",
    "out",
    "progress",
    "say",
    "writes_in",
]


class _Pipe(Console):
    """A console whose reader may leave: `boundary` decides what that means, not rich."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = _Pipe()
err = _Pipe(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]

PLAIN_INTERVAL = 5.0  # seconds between progress lines where there is no terminal
FOLDER: ContextVar[Path | None] = ContextVar("folder", default=None)  # where the command that runs writes
P = ParamSpec("P")
R = TypeVar("R")


def boundary(function: Callable[P, R]) -> Callable[P, R]:
    """Turn every way a command can end into the contract's exit code and at most one line on stderr."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        FOLDER.set(None)
        try:
            with _signals():
                return function(*args, **kwargs)
        except JettagError as error:
            error_line(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            error_line("error: interrupted; run the command again, with --resume where it has one")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            forget_stdout()
            raise typer.Exit(0) from None
        except OSError as error:
            place = f" in {error.filename}" if error.filename else ""
            error_line(f"error: {error.strerror or error}{place}; check the disk and its permissions")
            raise typer.Exit(7) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence: a defect, reported as such
            if out_of_memory(error):
                error_line("error: out of memory; use fewer jets or a smaller batch")
                raise typer.Exit(7) from None
            error_line(f"error: defect in jettag ({type(error).__name__}: {error}){_keep_traceback()}")
            raise typer.Exit(1) from None

    return run


def forget_stdout() -> None:
    """The reader of our output left (`| head`): that is no error, and Python must not flush into it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGUSR1 end a command as Ctrl-C does; a training takes them over while it runs, to save."""

    def stop(number: int, frame: FrameType | None) -> None:
        code = STOPPED_BY[signal.Signals(number)]
        leave_import(frame, "stopped by a signal", code)
        raise Stopped("stopped by a signal", do="run the command again", exit_code=code)

    try:
        previous = {number: signal.signal(number, stop) for number in STOPPED_BY}
    except ValueError:  # not in the main thread
        previous = {}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def error_line(text: str) -> None:
    """One unwrapped, unstyled line on stderr."""
    sys.stderr.write(" ".join(text.split()) + "\n")
    sys.stderr.flush()


def writes_in(folder: Path | None) -> None:
    """Tell the folder that the command writes in, made or not: the traceback of a defect is kept there."""
    FOLDER.set(folder)


def _keep_traceback() -> str:
    """Write the current traceback to the command's folder, or to stderr; returns how the error line ends."""
    folder, text = FOLDER.get(), traceback.format_exc()
    if folder is not None:
        path = folder / "traceback.txt"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError:  # a full disk may be what the defect is about
            pass
        else:
            return f" in {path}; please report that file"
    sys.stderr.write(text)
    return "; please report the traceback above"


def is_first() -> bool:
    """False for all but one of the processes that torchrun started: one speaks, though each may tell its error."""
    return os.environ.get("RANK", "0") == "0"


def emit_json(content: object) -> None:
    """The command's one JSON object, on stdout. NaN and infinity are no JSON and raise."""
    if not is_first():
        return
    sys.stdout.write(json.dumps(content, allow_nan=False, default=str) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    if not is_first():
        return
    err.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress(what: str, total: int | None, unit: str = "jets") -> Iterator[Callable[..., None]]:
    """Yield ``update(done, note="")``: a bar with rate and time left on a terminal, else a plain line now and then.

    The unit ``%`` is a share of a whole: it has time left, but no rate.
    """
    begin = time.monotonic()

    def rate(done: float) -> float:
        return done / max(time.monotonic() - begin, 1e-9)

    def speed(done: float) -> str:
        return "" if unit == "%" else f"{rate(done):.0f} {unit}/s"

    if err.is_terminal:
        fixed = Column(no_wrap=True, min_width=5)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}", table_column=Column(no_wrap=True, min_width=5)),
            TextColumn("{task.fields[speed]}", table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=fixed),
            TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        with Progress(*columns, console=err, transient=False) as bar:
            task = bar.add_task(what, total=total, count="", speed="", note="")

            def update(done: float, note: str = "") -> None:
                count = f"{done:.0f} %" if unit == "%" else f"{done:.0f}" + (f"/{total}" if total else "")
                bar.update(task, completed=done, count=count, speed=speed(done), note=note)

            yield update
        return

    last = begin

    def line(done: float, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < PLAIN_INTERVAL and done != total:
            return
        last = now
        left = f"{(total - done) / rate(done):.0f} s left" if total and done and done < total else ""
        count = f"{done:.0f} %" if unit == "%" else f"{done:.0f}{f'/{total}' if total else ''} {unit}"
        error_line(f"{what}: " + ", ".join(part for part in (count, speed(done), left, note) if part))

    yield line
