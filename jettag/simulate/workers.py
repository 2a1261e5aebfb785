"""Chunks in their order, made here or by worker processes, with the same content either way."""

import contextlib
import itertools
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

from jettag.config.processes import Processes
from jettag.errors import RecipeError, ResourceError
from jettag.simulate.chunk import Chunk, Maker
from jettag.simulate.processes import find_process
from jettag.simulate.settings import GenerateSettings

__all__ = ["MAX_EMPTY", "Workers", "check_acceptance"]

MAX_EMPTY = 2000  # events without a jet (after each jet found, as many again) before giving up: under half a minute

_makers: dict[str, Maker] = {}  # of a worker process, which lives for one run


def _ready() -> bool:
    """Import what a worker needs, so that a first chunk does not wait for it."""
    from jettag.simulate.clustering import import_fastjet
    from jettag.simulate.events import make_bare

    import_fastjet()
    make_bare()
    return True


def _make(name: str, settings: GenerateSettings, index: int) -> Chunk:
    if name not in _makers:
        _makers[name] = Maker(name, settings)
    return _makers[name].make(index)


def check_acceptance(name: str, settings: GenerateSettings, events: int, jets: int) -> None:
    """Stop a run that would not end.

    Raises:
        RecipeError: far too few jets for the events tried.
    """
    if events < MAX_EMPTY * (jets + 1):
        return
    cuts = settings.cuts(find_process(name))
    found = "no jet" if not jets else f"{jets} jet{'s' * (jets > 1)}"
    raise RecipeError(
        f"{found} of {name} out of {events} events passed (acceptance {jets / events:.2g}, at 95 % below "
        f"{(jets + 3 + 1.7 * jets**0.5) / events:.1g})",
        where=f"--pt {cuts.pt_min:g}:{cuts.pt_max:g} --eta {cuts.eta_max:g} --radius {cuts.radius:g}",
        do="widen the cuts",
    )


class Workers:
    """A context in which chunks are made. One worker is this process itself; more are spawned.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: Processes | None = None
        self._starting: list[Future[bool]] = []

    def __enter__(self) -> "Workers":
        if self.count > 1:
            self._pool = Processes(self.count)
            self._starting = [self._pool.submit(_ready) for _ in range(self.count)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def warm_up(self) -> None:
        """Wait until every worker has imported what it needs."""
        if self._pool is None:
            _ready()
        for future in self._starting:
            future.result()

    def chunks(self, name: str, settings: GenerateSettings, jets: int) -> Iterator[Chunk]:
        """Chunk 0, 1, 2, ... of a process, until they hold `jets` jets in all; the last may hold more than needed.

        Raises:
            RecipeError: the cuts let (nearly) nothing pass.
            ResourceError: a worker died.
        """
        source = self._spawned(name, settings, jets) if self._pool is not None else self._here(name, settings)
        events = found = 0
        with contextlib.closing(source):
            for chunk in source:
                events, found = events + chunk.events, found + chunk.jets
                yield chunk
                if found >= jets:
                    return
                check_acceptance(name, settings, events, found)

    def several(self, name: str, settings: GenerateSettings, indices: range) -> Iterator[Chunk]:
        """Those chunks of a process, in order, whatever they hold."""
        if self._pool is None:
            yield from (_make(name, settings, index) for index in indices)
        else:
            yield from self._pool.map(_make, *zip(*((name, settings, index) for index in indices), strict=True))

    @staticmethod
    def _here(name: str, settings: GenerateSettings) -> Generator[Chunk, None, None]:
        maker = Maker(name, settings)
        yield from (maker.make(index) for index in itertools.count())

    def _spawned(self, name: str, settings: GenerateSettings, jets: int) -> Generator[Chunk, None, None]:
        assert self._pool is not None
        waiting: deque[Future[Chunk]] = deque()
        submitted = done = found = 0
        try:
            while True:
                # What is on its way should fill the order, and no more: the rest would be made for nothing.
                expected = found / done * 0.9 if done else 0.0
                while len(waiting) < self.count + 2 and (not waiting or found + expected * len(waiting) < jets):
                    waiting.append(self._pool.submit(_make, name, settings, submitted))
                    submitted += 1
                chunk = waiting.popleft().result()
                done, found = done + 1, found + chunk.jets
                yield chunk
        except BrokenProcessPool as problem:
            raise ResourceError(
                "a worker process died", where=f"jettag generate {name}", do="free memory or use fewer --workers"
            ) from problem
        finally:
            for future in waiting:
                future.cancel()
