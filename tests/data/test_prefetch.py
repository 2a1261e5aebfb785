"""Prefetching is invisible: the same batches, the same place, the same errors; and it ends when it is told to."""

import contextlib
import itertools
import json
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jettag.data.loader import Loader
from jettag.data.prefetch import Prefetched
from jettag.errors import CheckpointError, DataError

from ..conftest import make_table

TABLE = make_table(97, longest=9)


def make_loader(**changes):
    return Loader(TABLE, **{"batch_size": 8, "seed": 3, **changes})


def same(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("p4", "features", "mask", "label"))


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "jettag-prefetch"]


@settings(max_examples=30, deadline=None)
@given(
    ahead=st.integers(1, 5),
    workers=st.integers(1, 4),
    taken=st.integers(0, 40),
    max_tokens=st.none() | st.integers(9, 100),
)
def test_the_same_batches_and_a_place_that_counts_only_what_was_given(ahead, workers, taken, max_tokens):
    plain = make_loader(max_tokens=max_tokens)
    with Prefetched(make_loader(max_tokens=max_tokens), ahead, workers) as fast:
        for _ in range(taken):
            assert same(next(plain), next(fast))
            assert (plain.origin()["row"] == fast.origin()["row"]).all()
            assert fast.state_dict() == plain.state_dict()
        place = json.loads(json.dumps(fast.state_dict()))
        for _ in range(2):  # batches that a killed run has had prepared, or seen and not saved
            next(fast)
        with Prefetched(make_loader(max_tokens=max_tokens), ahead) as resumed:
            resumed.load_state_dict(place)
            for one, other in itertools.islice(zip(plain, iter(lambda: next(resumed), None), strict=False), 15):
                assert same(one, other)
        fast.load_state_dict(place)  # the same one goes back
        again = make_loader(max_tokens=max_tokens)
        again.load_state_dict(place)
        assert same(next(again), next(fast))
    assert not threads()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_batches_wait_than_asked_for(workers):
    made = []

    class Counted(Loader):
        def draw(self):
            made.append(threading.current_thread().name)
            return super().draw()

    with Prefetched(Counted(TABLE, batch_size=8, seed=0), 3, workers) as fast:
        for taken in range(1, 6):
            next(fast)
            waiting = fast._ahead
            with waiting.changed:
                ready = lambda shared=waiting: sum(place.done for place in shared.places) == 3  # noqa: E731
                assert waiting.changed.wait_for(ready, timeout=10)
            assert len(made) == taken + 3
    assert set(made) == {"jettag-prefetch"}


def test_workers_build_at_the_same_time_and_a_slow_one_keeps_its_place():
    """Three meet while each builds a batch: they could not, one after the other."""
    together = threading.Barrier(3, timeout=10)

    class Meeting(Loader):
        def draw(self):
            build, number = super().draw(), self.state_dict()["cursor"]

            def slow():
                together.wait()
                time.sleep(0.02 * (3 - number % 3))  # the first drawn is the last built
                return build()

            return slow

    plain = make_loader()
    with Prefetched(Meeting(TABLE, batch_size=8, seed=3), 3, 3) as fast:
        for _ in range(6):
            assert same(next(plain), next(fast))
        together.abort()


class Failing:
    """A table whose third window cannot be read."""

    def __init__(self, problem):
        self.problem = problem
        self.block_sizes, self.identity = np.full(200, 4), {"jets": 800}

    def __len__(self):
        return 800

    def load(self, blocks):
        if 150 in blocks:
            raise self.problem
        return make_table(4 * len(blocks)), np.arange(4 * len(blocks))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "problem",
    [DataError("a damaged shard", where="shards/train/00003.safetensors"), KeyboardInterrupt("x"), ValueError()],
)
def test_what_goes_wrong_in_a_thread_is_raised_where_the_batch_would_have_come(problem, workers):
    plain = Loader(Failing(problem), batch_size=4, seed=0, shuffle=False)
    given_before = 0
    with contextlib.suppress(type(problem)):
        while True:
            next(plain)
            given_before += 1
    with Prefetched(Loader(Failing(problem), batch_size=4, seed=0, shuffle=False), 2, workers) as fast:
        for _ in range(given_before):
            next(fast)
        for _ in range(2):  # and again, whoever asks again
            with pytest.raises(type(problem)) as caught:
                next(fast)
            assert caught.value is problem
    assert not threads()


def test_a_window_that_could_not_be_loaded_is_asked_for_again():
    """As after a network that was away: no jet is left out."""

    class Away(Failing):
        def load(self, blocks):
            if int(blocks[0]) in away:
                away.remove(int(blocks[0]))
                raise self.problem
            return make_table(4 * len(blocks)), np.arange(4 * len(blocks))

    away = [0, 64, 128]  # the first block of each window, once
    table = Away(DataError("away"))
    loader = Loader(table, batch_size=4, seed=0, shuffle=False)
    with Prefetched(loader, 2) as fast:
        given = 0
        for _ in range(loader.batches_per_epoch + len(away)):
            try:
                given += len(next(fast))
            except DataError:
                fast.close()
    assert given == 800


def test_threads_that_cannot_start_leave_none_behind(monkeypatch):
    started, start = [], threading.Thread.start

    def one_only(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", one_only)
    fast = Prefetched(make_loader(), 3, 3)
    with pytest.raises(RuntimeError, match="new thread"):
        next(fast)
    assert not threads()
    monkeypatch.undo()
    plain = make_loader()
    assert same(next(plain), next(fast))
    fast.close()


def test_what_was_prepared_is_forgotten_with_its_threads():
    fast = Prefetched(make_loader(), 3)
    next(fast)
    ahead = weakref.ref(fast._ahead)
    fast.close()
    assert ahead() is None


def test_another_table_s_place_is_refused_as_without():
    place = Loader(TABLE, batch_size=9, seed=3).state_dict()
    with Prefetched(make_loader(), 2) as fast, pytest.raises(CheckpointError, match="batch_size 9 then, 8 now"):
        fast.load_state_dict(place)


def test_an_error_outside_stops_the_thread_and_one_that_is_forgotten_holds_nothing():
    def fail():
        with Prefetched(make_loader(), 2) as fast:
            next(fast)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not threads()
    forgotten = Prefetched(make_loader(), 2)
    next(forgotten)
    (thread,) = threads()
    assert thread.daemon  # does not keep the process
    gone = weakref.ref(forgotten)
    del forgotten
    thread.join(10)
    assert gone() is None
    assert not thread.is_alive()
