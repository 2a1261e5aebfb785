"""Being asked to stop: by a signal, or by a file called STOP in the run directory."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["STOP", "stop_requests", "take_stop_file"]

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}  # exit codes
STOP = "STOP"  # `touch RUN/STOP` ends a run as if it had reached its limit


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Yield a function that tells the exit code of a signal received, if any; the first signal is only noted."""
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: stop now
        received.append(number)

    try:
        previous = {number: signal.signal(number, note) for number in SIGNALS}
    except ValueError:  # not in the main thread: a notebook or a test drives us, signals are theirs
        previous = {}
    try:
        yield lambda: SIGNALS[signal.Signals(received[0])] if received else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def take_stop_file(run: Path) -> None:
    """Remove the file once it was obeyed, so that ``--resume`` can go on."""
    (run / STOP).unlink(missing_ok=True)
