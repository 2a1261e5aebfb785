"""Batches prepared ahead by a thread while the device computes: the same ones, in the same order, to the bit."""

import threading
import weakref
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from jettag.data.jets import Batch
from jettag.data.loader import Share

__all__ = ["Batches", "Prefetched"]

Origin = Mapping[str, npt.NDArray[np.int64]]


class Batches(Protocol):
    """Endless batches with a place that can be saved."""

    @property
    def batch_size(self) -> int:
        """Most jets in a batch of all ranks."""

    def __next__(self) -> Batch:
        """The next batch."""

    def origin(self) -> Origin:
        """Where each jet of the latest batch is from."""

    def share(self) -> Share:
        """What this rank has of the latest batch."""

    def state_dict(self) -> dict[str, int | str]:
        """The place behind the latest batch."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place."""


class _Ready(NamedTuple):
    """A batch that waits, with what its loader said right after it."""

    jets: Batch
    state: dict[str, int | str]
    origin: Origin
    share: Share


class _Ahead:
    """What the thread and its owner share; the thread keeps none of the owner alive."""

    def __init__(self, loader: Batches, size: int) -> None:
        self.changed = threading.Condition()
        self.ready: deque[_Ready] = deque()
        self.problem: BaseException | None = None
        self.stopped = False
        self.thread = threading.Thread(target=self._run, args=(loader, size), name="jettag-prefetch", daemon=True)

    def stop(self) -> None:
        """Have the thread end after the batch that it is at."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def _run(self, loader: Batches, size: int) -> None:
        try:
            while True:
                with self.changed:
                    self.changed.wait_for(lambda: self.stopped or len(self.ready) < size)
                    if self.stopped:
                        return
                made = _Ready(next(loader), loader.state_dict(), loader.origin(), loader.share())
                with self.changed:
                    self.ready.append(made)
                    self.changed.notify_all()
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the owner raises it
            with self.changed:
                self.problem = problem
                self.changed.notify_all()


class Prefetched:
    """A loader whose next batches a thread prepares; to be closed, or used in a ``with``.

    A batch counts as seen when it is given, not when it is prepared, so a saved place is the one without prefetching.
    What goes wrong in the thread is raised, as it was, where that batch would have come.

    Args:
        loader: where the batches come from; nobody else may use it meanwhile.
        ahead: batches that are prepared and wait, at most. They are kept in memory, beside the loader's window.
    """

    def __init__(self, loader: Batches, ahead: int) -> None:
        self._loader = loader
        self._size = ahead
        self._ahead: _Ahead | None = None
        self._state = loader.state_dict()
        self._origin: Origin = {}
        self._share: Share | None = None

    @property
    def batch_size(self) -> int:
        """As the loader's."""
        return self._loader.batch_size

    def __next__(self) -> Batch:
        if self._ahead is None:
            if self._loader.state_dict() != self._state:  # a thread was stopped that had gone ahead
                self._loader.load_state_dict(self._state)
            self._ahead = _Ahead(self._loader, self._size)
            self._ahead.thread.start()
            weakref.finalize(self, self._ahead.stop)
        shared = self._ahead
        with shared.changed:
            shared.changed.wait_for(lambda: shared.ready or shared.problem)
            if not shared.ready:
                assert shared.problem is not None  # else it would have waited
                raise shared.problem
            made = shared.ready.popleft()
            shared.changed.notify_all()
        self._state, self._origin, self._share = made.state, made.origin, made.share
        return made.jets

    def origin(self) -> Origin:
        """As the loader's, of the latest batch given."""
        return self._origin

    def share(self) -> Share:
        """As the loader's, of the latest batch given."""
        assert self._share is not None  # there was a batch
        return self._share

    def state_dict(self) -> dict[str, int | str]:
        """The loader's place behind the latest batch given."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Drop what was prepared, and go on from a place.

        Raises:
            CheckpointError: as the loader's.
        """
        self.close()
        self._loader.load_state_dict(state)
        self._state = self._loader.state_dict()

    def close(self) -> None:
        """Stop the thread, after the batch that it is at; the next call for a batch goes on behind the latest given."""
        if self._ahead is None:
            return
        self._ahead.stop()
        self._ahead.thread.join()
        self._ahead = None

    def __enter__(self) -> "Prefetched":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
