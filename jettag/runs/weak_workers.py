"""The trainings of a weak study, one after the other or by worker processes: the same points either way."""

import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

import joblib
import numpy as np
import torch
from threadpoolctl import threadpool_limits

from jettag.config.processes import Processes, stoppable, usable_cores
from jettag.errors import ResourceError
from jettag.models.threads import one_thread
from jettag.runs.common import Told

__all__ = ["Point", "train_points"]

MOST = 8  # worker processes, unless more are asked for
WORTH = 2  # groups of trainings that are worth the seconds in which a worker starts
PREFIX = ".workers-"  # of the folder through which workers have the jets

Results = list[dict[str, Any]]
Train = Callable[[Any, Any], Results]  # what all trainings share, and some of them: what came of each
T = TypeVar("T")
P = TypeVar("P", bound="Point")
Trained = Generator[tuple[T, Results], None, None]

_given: tuple[Train, Any] | None = None  # of a worker process, which lives for one study


class Point(Protocol):
    """One training, by what tells it from the others; hashable."""

    @property
    def name(self) -> str:
        """As its file is called."""

    @property
    def kind(self) -> str:
        """Of trainings that cost about the same."""


def train_points(
    train: Train,
    shared: Any,
    groups: Sequence[Sequence[P]],
    *,
    of: int,
    workers: int | None,
    device: torch.device,
    folder: Path | None,
    told: Told,
) -> list[dict[str, Any]]:
    """What ``train(shared, group)`` gives of every group of points, in any order.

    Args:
        train: importable; what it gives has the ``seconds`` of each point, and does not depend on other groups.
        shared: arrays in dataclasses; workers map the same copy into memory.
        groups: of points that are trained one after the other, by the same process.
        of: trainings of the whole study, for its progress.
        workers: processes with one thread each, one of them is this process; None takes one for each core on a CPU, as
            far as the groups are worth it.
        device: one thread is kept to in this process too where it is a CPU, so that sums have the same order.
        folder: where the copy of ``shared`` lies meanwhile; None for the system's.
        told: hears of progress and workers.

    Raises:
        JettagError: that of the first point that fails; the other workers are stopped.
        ResourceError: a worker died.
    """
    if workers is None:
        workers = min(usable_cores(), MOST, len(groups) // WORTH) if device.type == "cpu" else 1
    workers = max(min(workers, len(groups)), 1)
    spent: dict[str, list[float]] = {}
    left = [point for group in groups for point in group]  # those that run among them
    found: list[dict[str, Any]] = []

    def begins(group: Sequence[P]) -> None:
        known = all(point.kind in spent for point in left)
        seconds = sum(np.mean(spent[point.kind]) for point in left) / workers if known else None
        told.log({"point": group[0].name, "done": of - len(left), "of": of, "seconds_left": seconds})

    if workers == 1:
        trained = _here(train, shared, groups, begins, one_thread=device.type == "cpu")
    else:
        told.note(f"{workers} worker processes with one thread each")
        trained = _beside(train, shared, groups, begins, workers, folder)
    with closing(trained):
        for group, results in trained:
            for point, result in zip(group, results, strict=True):
                left.remove(point)
                spent.setdefault(point.kind, []).append(result["seconds"])
            found += results
    return found


def _here(
    train: Train, shared: Any, groups: Sequence[T], begins: Callable[[T], None], *, one_thread: bool
) -> Trained[T]:
    for group in groups:
        begins(group)
        with _one_thread() if one_thread else nullcontext():
            results = train(shared, group)
        yield group, results


def _beside(
    train: Train, shared: Any, groups: Sequence[T], begins: Callable[[T], None], workers: int, folder: Path | None
) -> Trained[T]:
    for dead in folder.glob(f"{PREFIX}*") if folder else ():  # of a study that was killed
        shutil.rmtree(dead, ignore_errors=True)
    waiting: dict[Future[Any], T] = {}
    coming = iter(groups)
    with TemporaryDirectory(prefix=PREFIX, dir=folder) as place:
        copy = Path(place) / "shared"
        joblib.dump(shared, copy)
        with Processes(workers, _begin, (train, copy)) as processes:

            def hand_out() -> None:
                for group in islice(coming, 1):
                    begins(group)
                    waiting[processes.submit(_train, group)] = group

            try:
                for _ in range(workers):  # no more, so that each is told when its turn comes
                    hand_out()
                while waiting:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        results = future.result()
                        yield waiting.pop(future), results
                        hand_out()
            except BrokenProcessPool:
                do = "free memory or use fewer --workers; the same command goes on"
                raise ResourceError("a worker process died", do=do) from None
            except BaseException:
                processes.stop()
                raise


def _begin(train: Train, copy: Path) -> None:
    global _given
    # Mapped, so that all workers have one copy; what one writes into it is its own.
    _given = train, joblib.load(copy, mmap_mode="c")


def _train(group: Any) -> Results:
    assert _given is not None  # `_begin`
    train, shared = _given
    with stoppable(), _one_thread():
        return train(shared, group)


@contextmanager
def _one_thread() -> Iterator[None]:
    with one_thread(), threadpool_limits(1):
        yield
