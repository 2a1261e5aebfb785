"""Where the `jettag` command begins: a signal is one line and its exit code from then on, while modules load too."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["STOPPED_BY", "leave_import", "loading", "main"]

IMPORTING = "<frozen importlib._bootstrap>"
STOPPED_BY = {signal.SIGTERM: 143, signal.SIGUSR1: 75}  # exit codes


@contextmanager
def loading() -> Iterator[None]:
    """Modules load within: they make no garbage, and to search for it would take a fifth of their time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def leave_import(frame: FrameType | None, what: str, code: int) -> None:
    """End the process at once within an import, where modules swallow exceptions or make them errors of their own."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            line = f"error: {what}; run the command again\n".encode()
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line)
            os._exit(code)
        frame = frame.f_back


def _interrupt(_number: int, frame: FrameType | None) -> None:
    leave_import(frame, "interrupted", 130)
    raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    code = STOPPED_BY[signal.Signals(number)]
    leave_import(frame, "stopped by a signal", code)
    sys.stderr.write("error: stopped by a signal; run the command again\n")
    sys.exit(code)


def main() -> None:
    """Run the command that the line asks for, and leave with its exit code."""
    for number in STOPPED_BY:  # each command, and each training in it, takes them over
        if signal.getsignal(number) is signal.SIG_DFL:  # where it is ignored, it stays so
            signal.signal(number, _stop)
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # where it is ignored, it stays so
            signal.signal(signal.SIGINT, _interrupt)
        with loading():
            from .main import app

        app(prog_name="jettag")
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; run the command again\n")
        sys.exit(130)
    finally:
        gc.freeze()  # a process that ends would search through all modules once more, for one or two seconds
