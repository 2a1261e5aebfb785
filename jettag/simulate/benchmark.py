"""How fast the generator is, beside bare Pythia making the very same events."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from jettag.data.root import write_tree
from jettag.simulate.chunk import EVENTS, Maker
from jettag.simulate.generator import TREE
from jettag.simulate.settings import GenerateSettings
from jettag.simulate.workers import Workers

__all__ = ["Rates", "measure"]

# Chunks a round, at most: with three, the wait for a pool's last chunk cost a tenth of the two workers' rate.
ROUND = 8


@dataclass(frozen=True)
class Rates:
    """Events per second of each side, all on the same seeds and hence the same events.

    Args:
        bare: `pythia.next()` in a loop.
        one, two: `jettag generate` with one and two workers, files included.
        events: of each side; two workers make twice as many.
        start_one, start_two: seconds before the first event: worker processes with their imports, Pythia's
            initialisation. The imports of this process are over by then.
    """

    bare: float
    one: float
    two: float
    events: int
    start_one: float
    start_two: float

    @property
    def ratio(self) -> float:
        """One worker against bare Pythia."""
        return self.one / self.bare

    @property
    def ratio_two(self) -> float:
        """Two workers against one."""
        return self.two / self.one


def measure(process: str, events: int, on_progress: Callable[[int], None] | None = None) -> Rates:
    """Time the three sides in turn, round by round, so that what else the machine does falls on all of them.

    Args:
        process: name.
        events: at least this many on each side.
        on_progress: told the events made so far, all sides together.

    Raises:
        ResourceError: Pythia or FastJet is absent.
    """
    settings = GenerateSettings((process,), jets=1)
    chunks = -(-events // EVENTS)
    size = min(ROUND, chunks)
    rounds = -(-chunks // size)
    spent = {"bare": 0.0, "one": 0.0, "two": 0.0}
    made = 0
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "jets.root"
        maker = Maker(process, settings)
        begin = time.perf_counter()
        maker.start()
        initialise = time.perf_counter() - begin
        pools, started = [], []
        for count in (1, 2):
            begin = time.perf_counter()
            pool = stack.enter_context(Workers(count))
            pool.warm_up()
            started.append(time.perf_counter() - begin + initialise)
            # Enough chunks that every worker has made its Pythia before the clock runs.
            for _ in pool.several(process, settings, range(3 * count)):
                pass
            pools.append(pool)
        for number in range(rounds):
            indices = range(number * size, (number + 1) * size)
            begin = time.perf_counter()
            for index in indices:
                maker.bare(index)
            spent["bare"] += time.perf_counter() - begin
            for side, pool, count in (("one", pools[0], 1), ("two", pools[1], 2)):
                begin = time.perf_counter()
                share = range(indices.start * count, indices.stop * count)
                write_tree(path, TREE, (chunk.columns for chunk in pool.several(process, settings, share)), metadata={})
                spent[side] += time.perf_counter() - begin
            made += 4 * size * EVENTS
            if on_progress is not None:
                on_progress(made)
    total = rounds * size * EVENTS
    return Rates(
        bare=total / spent["bare"],
        one=total / spent["one"],
        two=2 * total / spent["two"],
        events=total,
        start_one=started[0],
        start_two=started[1],
    )
