"""Processes beside this one: how they start, what they hear of signals, and how they end."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType, ModuleType
from typing import Any

from jettag.errors import Stopped

__all__ = ["Processes", "stoppable", "usable_cores"]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
PATIENCE = 60.0  # seconds that tasks have to save what they did
LEFT = 5.0  # seconds that the thread behind them has to notice that they ended

_stop: Any = None  # of a worker process: the event that the parent sets


def usable_cores() -> int:
    """Cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


class Processes(ProcessPoolExecutor):
    """Worker processes that Ctrl-C does not reach but through `stop`, and that never outlive who started them.

    They are spawned, for a fork would inherit threads, locks and open files, and without the parent's main module.

    Args:
        count: how many.
        begin: what each does first; importable.
        args: of ``begin``; they travel through a pipe, so they are small.
    """

    def __init__(self, count: int, begin: Callable[..., object] | None = None, args: tuple[Any, ...] = ()) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._children: set[Any] = set()
        super().__init__(count, mp_context=context, initializer=_begin, initargs=(self._stop, begin, args))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As `ProcessPoolExecutor.submit`, which is where processes are started."""
        before = set(multiprocessing.active_children())
        with _no_main(), _held_back():
            future = super().submit(fn, *args, **kwargs)
        # The thread that hears of dead processes is woken before a new one starts, and may miss that one for good.
        thread = getattr(self, "_executor_manager_thread_wakeup", None)
        if thread is not None:
            with self._shutdown_lock:
                thread.wakeup()
        self._children |= set(multiprocessing.active_children()) - before
        return future

    def stop(self) -> None:
        """End all processes now; a task that is `stoppable` cleans up, or saves, within a minute."""
        self._stop.set()
        for child in self._children:
            child.terminate()
        watcher = getattr(self, "_executor_manager_thread", None)  # which `shutdown` forgets
        self.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + PATIENCE
        for child in self._children:
            child.join(max(end - time.monotonic(), 0))
            child.kill()
        if watcher is not None:
            watcher.join(LEFT)  # Python wakes it when it ends: a pipe that it closes meanwhile is a traceback


@contextmanager
def stoppable() -> Iterator[None]:
    """Around a task in a worker process: `Processes.stop` ends it with its clean-up, a checkpoint in a training.

    The process ends with it: nobody may send it a task, or its end, any more.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped("stopped by a signal", exit_code=143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        if _stop.is_set():
            stop(signal.SIGTERM, None)
        yield
    except Stopped as stopped:
        os._exit(stopped.exit_code)
    finally:
        signal.signal(signal.SIGTERM, before)


def _begin(stop: Any, begin: Callable[..., object] | None, args: tuple[Any, ...]) -> None:
    """Set up a worker: signals are for the parent to handle, which ends it with SIGTERM."""
    global _stop
    _stop = stop
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    if begin is not None:
        begin(*args)


@contextmanager
def _held_back() -> Iterator[None]:
    """Processes that are started within are deaf to signals until `_begin`: it takes them seconds to import it."""
    resource_tracker.ensure_running()  # it would hear them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_main() -> Iterator[None]:
    """Start workers without a main module: they need nothing of it.

    Spawned processes import the parent's script first. For `jettag` that is the whole command line, seconds and much
    memory for each worker; for a user's script without a main guard it is a process bomb.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
