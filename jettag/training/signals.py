"""Being asked to stop: by a signal, or by a file called STOP in the run directory."""

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from jettag.errors import Stopped

__all__ = ["STOP", "stop_at_once", "stop_requests", "take_stop_file"]

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}  # exit codes
SWALLOWED: list[int] = []  # signals around a training whose exception some library may have caught
STOP = "STOP"  # `touch RUN/STOP` ends a run as if it had reached its limit


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int | None]]:
    """Yield a function that tells the exit code of a signal received, if any; the first signal is only noted.

    One that came when the training was at its end, which then went on to it, is passed on to whoever runs trainings.
    """
    received: list[int] = [*SWALLOWED]

    def note(number: int, _frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: stop now
        received.append(number)

    with _handled(SIGNALS, note):
        yield lambda: SIGNALS[signal.Signals(received[0])] if received else None
    if received:
        signal.raise_signal(received[0])


@contextlib.contextmanager
def stop_at_once() -> Iterator[None]:
    """Around a training, while there is nothing to save: a signal ends it at once, with the same codes.

    Raises:
        Stopped: SIGTERM or SIGUSR1 came.
        KeyboardInterrupt: SIGINT came.
    """

    def stop(number: int, _frame: object) -> None:
        SWALLOWED.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(
            f"stopped by {signal.Signals(number).name} outside the training",
            do="run the same command with --resume",
            exit_code=SIGNALS[signal.Signals(number)],
        )

    try:
        with _handled(SIGNALS, stop):
            yield
    finally:
        SWALLOWED.clear()


@contextlib.contextmanager
def _handled(signals: Iterable[signal.Signals], handler: Callable[[int, object], None]) -> Iterator[None]:
    try:
        previous = {number: signal.signal(number, handler) for number in signals}
    except ValueError:  # not in the main thread: a notebook or a test drives us, signals are theirs
        previous = {}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def take_stop_file(run: Path) -> None:
    """Remove the file once it was obeyed, so that ``--resume`` can go on."""
    (run / STOP).unlink(missing_ok=True)
