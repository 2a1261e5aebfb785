"""Batches prepared ahead by threads while the device computes: the same ones, in the same order, to the bit."""

import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jettag.data.jets import Batch
from jettag.data.loader import Loader, Share

__all__ = ["Batches", "Prefetched"]

Origin = Mapping[str, npt.NDArray[np.int64]]


class Batches(Protocol):
    """Endless batches with a place that can be saved."""

    @property
    def batch_size(self) -> int:
        """Most jets in a batch of all ranks."""

    @property
    def pieces(self) -> int:
        """In which a full batch is cut."""

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


@dataclass
class _Place:
    """One batch in the order: what its loader said right after it was drawn, and the batch once it is built."""

    state: dict[str, int | str] = field(default_factory=dict)
    origin: Origin = field(default_factory=dict)
    share: Share | None = None
    jets: Batch | None = None
    problem: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.jets is not None or self.problem is not None


class _Ahead:
    """What the threads and their owner share; they keep none of the owner alive."""

    def __init__(self, loader: Loader, size: int, workers: int) -> None:
        self.changed = threading.Condition()
        self.places: deque[_Place] = deque()
        self.stopped = False
        self._drawing = threading.Lock()  # one at a time, so that batches are in order
        self.threads = [
            threading.Thread(target=self._run, args=(loader, size), name="jettag-prefetch", daemon=True)
            for _ in range(workers)
        ]
        try:
            for thread in self.threads:
                thread.start()
        except BaseException:
            self.end()
            raise

    def stop(self) -> None:
        """Have the threads end after the batches that they are at."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()

    def end(self) -> None:
        """`stop`, wait for them, and forget what is prepared."""
        self.stop()
        for thread in self.threads:
            if thread.ident is not None:  # it was started
                thread.join()
        self.places.clear()

    def _run(self, loader: Loader, size: int) -> None:
        while True:
            place = _Place()
            try:
                with self._drawing:
                    with self.changed:
                        self.changed.wait_for(lambda: self.stopped or len(self.places) < size)
                        if self.stopped:
                            return
                        self.places.append(place)
                    build = loader.draw()
                    place.state, place.origin, place.share = loader.state_dict(), loader.origin(), loader.share()
                jets = build()
                del build  # and with it the jets that it is built from
                with self.changed:
                    place.jets = jets
                    self.changed.notify_all()
            except BaseException as problem:  # noqa: BLE001 - whatever it is, the owner raises it
                with self.changed:
                    place.problem = problem
                self.stop()


class Prefetched:
    """A loader whose next batches threads prepare; to be closed, or used in a ``with``.

    A batch counts as seen when it is given, not when it is prepared, so a saved place is the one without prefetching.
    What goes wrong in a thread is raised, as it was, where that batch would have come.

    Args:
        loader: where the batches come from; nobody else may use it meanwhile.
        ahead: batches that are prepared or being so, at most. They are kept in memory, beside the loader's window.
        workers: threads; of more than one, some may be at a window's last batches, in memory, while another thread
            loads the next window. Each has a batch to prepare, so ``ahead`` is as many at least.
    """

    def __init__(self, loader: Loader, ahead: int, workers: int = 1) -> None:
        self._loader = loader
        self._size, self._workers = max(ahead, workers), workers
        self._ahead: _Ahead | None = None
        self._state = loader.state_dict()
        self._origin: Origin = {}
        self._share: Share | None = None

    @property
    def batch_size(self) -> int:
        """As the loader's."""
        return self._loader.batch_size

    @property
    def pieces(self) -> int:
        """As the loader's."""
        return self._loader.pieces

    def __next__(self) -> Batch:
        if self._ahead is None:
            if self._loader.state_dict() != self._state:  # threads were stopped that had gone ahead
                self._loader.load_state_dict(self._state)
            self._ahead = _Ahead(self._loader, self._size, self._workers)
            self._forgotten = weakref.finalize(self, self._ahead.stop)
        shared = self._ahead
        with shared.changed:
            shared.changed.wait_for(lambda: shared.places and shared.places[0].done)
            made = shared.places[0]
            if made.problem is not None:
                raise made.problem
            shared.places.popleft()
            shared.changed.notify_all()
        assert made.jets is not None  # it is done
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
        """Stop the threads, after the batches they are at; the next call goes on behind the latest batch given."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._forgotten.detach()  # which would keep what is prepared
            ahead.end()

    def __enter__(self) -> "Prefetched":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
