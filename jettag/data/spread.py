"""Who does the tasks of a preparation: this process, processes beside it, or the workers of a Dask cluster.

A task is a picklable function without arguments that leaves its result in a file and returns little; which of the three
does it, in which order and how often, does not show in what is written.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from jettag.config.processes import Processes, stoppable
from jettag.errors import ResourceError

__all__ = ["Run", "spread"]

CONNECT = 10  # seconds that a Dask scheduler has to answer
PATIENCE = 60  # seconds that a cluster may be without any worker: a lost one may be started anew
POLL = 0.05  # seconds between looks at what is done
INSTALL = 'pip install "jettag[cluster]"'

T = TypeVar("T")
Run = Callable[[Sequence[Callable[[], Any]]], Iterator[Any]]


@contextmanager
def spread(workers: int = 1, dask: str | None = None) -> Iterator[Run]:
    """Yield what runs tasks and gives their results in any order; the first that fails ends it with its own error.

    Args:
        workers: processes; one does them here.
        dask: address of a Dask scheduler, as ``tcp://HOST:8786``, or a scheduler file; its workers do them.

    Raises:
        ResourceError: a worker died, the scheduler cannot be reached or went away, or Dask is not installed.
    """
    if dask is not None:
        with _cluster(dask) as run:
            yield run
    elif workers > 1:
        with _processes(workers) as run:
            yield run
    else:
        yield lambda tasks: (task() for task in tasks)


@contextmanager
def _processes(workers: int) -> Iterator[Run]:
    with Processes(workers) as pool:

        def run(tasks: Sequence[Callable[[], T]]) -> Iterator[T]:
            try:
                for future in as_completed([pool.submit(_do, task) for task in tasks]):
                    yield future.result()
            except BrokenProcessPool:
                do = "use fewer --workers or a smaller --shard-jets; finished parts are kept"
                raise ResourceError("a worker died, perhaps for want of memory", do=do) from None

        try:
            yield run
        except BaseException:
            pool.stop()
            raise


def _do(task: Callable[[], T]) -> T:
    with stoppable():
        return task()


def _watched(client: Any, completed: Any, address: str) -> Iterator[Any]:
    """Results as they come, for as long as somebody works on them.

    Raises:
        ResourceError: no worker is left, or the scheduler does not answer, for `PATIENCE` seconds.
    """
    alive = time.monotonic()
    while not completed.is_empty():
        for future in completed.next_batch(block=False):
            yield future.result()
        if client.status == "running" and client.scheduler_info(n_workers=-1)["workers"]:
            alive = time.monotonic()
        elif time.monotonic() - alive > PATIENCE:
            do = "start some and run the same command again: finished parts are kept"
            raise ResourceError(f"no Dask worker is left since {PATIENCE} s", where=address, do=do)
        time.sleep(POLL)


@contextmanager
def _cluster(address: str) -> Iterator[Run]:
    try:
        import distributed
        from distributed.comm import CommClosedError
    except ImportError:
        raise ResourceError("Dask is not installed", do=INSTALL) from None
    try:
        # A path without a scheme is the file that `dask scheduler --scheduler-file` wrote.
        where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
        client = distributed.Client(**where, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as problem:
        do = "start one with `dask scheduler` and workers with `dask worker`, or leave --dask out"
        raise ResourceError(f"no Dask scheduler answers within {CONNECT} s", where=address, do=do) from problem

    def run(tasks: Sequence[Callable[[], T]]) -> Iterator[T]:
        if not tasks:
            return
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise ResourceError("a Dask scheduler without workers", where=address, do="start some with `dask worker`")
        # Not pure: an equal task of an earlier call wrote to a folder that may be gone.
        futures = [client.submit(task, pure=False, retries=0) for task in tasks]
        try:
            yield from _watched(client, distributed.as_completed(futures, loop=client.loop), address)
        except distributed.KilledWorker:
            do = "give workers more memory, or use a smaller --shard-jets; finished parts are kept"
            raise ResourceError("a Dask worker died over a task, and others after it", where=address, do=do) from None
        except (CommClosedError, distributed.client.FutureCancelledError) as problem:
            do = "start it and run the same command again: finished parts are kept"
            raise ResourceError("the Dask scheduler went away", where=address, do=do) from problem
        finally:
            client.cancel(futures)

    with client:
        yield run
