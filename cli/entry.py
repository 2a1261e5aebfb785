"""Where the `jettag` command begins: Ctrl-C is one line and 130 from then on, also while modules are loaded."""

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]

IMPORTING = "<frozen importlib._bootstrap>"


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Leave at once within an import, where C code turns a KeyboardInterrupt into errors of its own; else raise it."""
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"error: interrupted; run the command again\n")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def main() -> None:
    """Run the command that the line asks for, and leave with its exit code."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # where it is ignored, it stays so
            signal.signal(signal.SIGINT, _interrupt)
        from .main import app

        app(prog_name="jettag")
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; run the command again\n")
        sys.exit(130)
