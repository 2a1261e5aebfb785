"""Worker processes of a study: one copy of the jets, one thread each, and an end that nobody waits for."""

import os
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from jettag.errors import DataError, ResourceError
from jettag.runs.common import NOBODY, Told
from jettag.runs.weak_workers import train_points

SLEEP = 500
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Number:
    value: int

    @property
    def name(self):
        return f"number {self.value}"

    @property
    def kind(self):
        return "number"


def add(shared, group):
    """The sum of the shared numbers and each of the group, and what did it."""
    found = [{"sum": float(shared["values"].sum() + point.value), "seconds": 1.0} for point in group]
    shared["empty"].sum()
    threads = {pool["num_threads"] for pool in threadpool_info()} | {torch.get_num_threads()}
    for point in found:
        point |= {"threads": max(threads), "process": os.getpid(), "mapped": isinstance(shared["values"], np.memmap)}
    return found


def fail(_shared, group):
    if group[0].value == 1:
        raise DataError("number 1", do="give another")
    time.sleep(SLEEP)
    return []


def die(_shared, group):
    if group[0].value == 2:
        os._exit(9)
    time.sleep(SLEEP)
    return []


GROUPS = [[Number(0), Number(1)], [Number(2)], [Number(3)]]


def run(train, workers, folder, told=NOBODY):
    shared = {"values": np.arange(1000.0), "empty": np.zeros((5, 0))}
    return train_points(train, shared, GROUPS, of=4, workers=workers, device=CPU, folder=folder, told=told)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_point_once_with_one_thread_and_the_time_left(tmp_path, workers):
    records = []
    found = run(add, workers, tmp_path, Told(log=records.append))
    assert sorted(point["sum"] for point in found) == [499500 + value for value in range(4)]
    assert {point["threads"] for point in found} == {1}
    assert (os.getpid() in {point["process"] for point in found}) == (workers == 1)
    assert {point["mapped"] for point in found} == {workers > 1}  # not a copy for each
    assert not list(tmp_path.iterdir())
    assert [record["done"] for record in records][-1] in (1, 2, 3)
    assert records[0]["seconds_left"] is None
    assert records[-1]["seconds_left"] == (4 - records[-1]["done"]) / workers


def test_an_error_stops_the_others_at_once(tmp_path):
    begin = time.monotonic()
    groups = [[Number(0)], [Number(1)]]
    with pytest.raises(DataError, match="number 1; give another"):
        train_points(fail, {}, groups, of=2, workers=2, device=CPU, folder=tmp_path, told=NOBODY)
    assert time.monotonic() - begin < SLEEP
    assert not list(tmp_path.iterdir())


def test_a_worker_that_dies_is_told(tmp_path):
    begin = time.monotonic()
    with pytest.raises(ResourceError, match=r"worker process died.*--workers"):
        run(die, 2, tmp_path)
    assert time.monotonic() - begin < SLEEP
    assert not list(tmp_path.iterdir())
