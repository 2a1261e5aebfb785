"""Batches that travel packed: padded where they arrive they are, to the bit, those that are padded here."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from jettag.data.jets import TRUTH, Jets, JetTable, PackedJets
from jettag.data.loader import Loader
from jettag.data.once import dealt, once
from jettag.data.prefetch import Prefetched

from ..conftest import make_table

META = torch.device("meta")  # stands for any accelerator: its tensors hold no values, so asking for one raises


def make_jets(counts, *, kind=np.float32, truth=(), columns=0, labelled=True, seed=0):
    """A table of jets of these lengths, among whose numbers are -0, NaN and infinity."""
    rng = np.random.default_rng(seed)
    rows = int(sum(counts))
    features = rng.normal(size=(rows, 3)).astype(kind)
    features[rng.random(features.shape) < 0.1] = -0.0
    features[rng.random(features.shape) < 0.05] = np.nan
    features[rng.random(features.shape) < 0.05] = np.inf
    names = tuple(f"column_{i}" for i in range(columns))
    return JetTable(
        features=features,
        p4=rng.normal(size=(rows, 4)).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        feature_names=("a", "b", "c"),
        label=rng.integers(0, 2, len(counts)) if labelled else None,
        class_names=("QCD", "Tbqq"),
        jet={name: rng.normal(size=len(counts)) for name in names},
        constituent={name: rng.integers(-1, 8, rows).astype(np.float32) for name in truth},
        batch_columns=names,
    )


def bits(x):
    """Something that is equal where the bits are."""
    return None if x is None else (x.dtype, tuple(x.shape), x.numpy().tobytes())


def assert_same(one, other, *, but=()):
    for field in fields(Jets):
        if field.name not in but:
            assert bits(getattr(one, field.name)) == bits(getattr(other, field.name)), field.name


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    chosen=st.lists(st.integers(0, 11), max_size=8),
    wider=st.none() | st.integers(0, 4),
    kind=st.sampled_from([np.float16, np.float32]),
    truth=st.sampled_from([(), ("origin",), TRUTH]),
    columns=st.integers(0, 2),
    labelled=st.booleans(),
)
def test_packed_then_padded_is_padded(counts, chosen, wider, kind, truth, columns, labelled):
    """Jets without constituents too, the same jet twice, a batch of none, and one as wide as other processes' jets."""
    table = make_jets([*counts, 1], kind=kind, truth=truth, columns=columns, labelled=labelled)
    index = np.array([jet % len(counts) for jet in chosen], dtype=np.int64)
    width = None if wider is None else int(table.counts[index].max(initial=1)) + wider
    packed, expected = table.pack(index, width), table.batch(index, width)
    assert len(packed) == len(expected) == len(index)
    assert packed.features.dtype == (torch.float16 if kind is np.float16 else torch.float32)
    assert_same(packed.pad(), expected)
    assert_same(packed.to("cpu"), expected)
    weight = torch.rand(len(index))
    assert_same(replace(packed, weight=weight).pad(), replace(expected, weight=weight))


def test_what_a_draw_reads_is_padded_and_nothing_else():
    table = make_jets([3, 0, 2], truth=TRUTH)
    index = np.arange(3)
    packed, expected = table.pack(index), table.batch(index)
    for names in ((), ("p4",), ("features", "origin"), ("vertex",)):
        found = packed.pad(names)
        left_out = {"features", "p4", *TRUTH} - {*names}
        assert_same(found, expected, but=left_out)
        assert all(getattr(found, name).shape == (3, 3, 0) for name in left_out - {*TRUTH})
        assert all(getattr(found, name) is None for name in left_out & {*TRUTH})
        assert expected.pad(names) is expected


class Moves(TorchDispatchMode):
    """Counts the bytes that are copied from the CPU to another device."""

    moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and found.device.type != "cpu":
            self.moved += args[0].nbytes
        return found


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_only_real_constituents_travel_and_padding_does_not_ask_the_device(kind):
    table = make_jets([40, 1, 0, 2, 7], kind=kind, truth=TRUTH, columns=2)
    with Moves() as moves:
        batch = table.batch_for(META, np.arange(5)).to(META)
    assert batch.features.shape == (5, 40, 3)
    assert {x.device.type for x in vars(batch).values() if x is not None} == {"meta"}
    a_constituent = 3 * np.dtype(kind).itemsize + 4 * 4 + 2 * 8  # features, p4, two truths
    a_jet = 8 + 8 + 2 * 4  # count, label, two columns
    assert moves.moved == 50 * a_constituent + 5 * a_jet
    with Moves() as moves:
        table.batch(np.arange(5)).to(META)
    assert moves.moved > 200 * a_constituent // 2


def test_a_loader_packs_for_a_device_in_the_same_order():
    table = make_table(97, longest=9)
    for options in (
        {"batch_size": 16},
        {"batch_size": 16, "rank": 1, "world_size": 3},
        {"batch_size": 9, "max_tokens": 40},
    ):
        plain = Loader(table, seed=2, **options)
        with Prefetched(Loader(table, seed=2, **options, device=META), 2) as packing:
            for _ in range(20):
                expected, packed = next(plain), next(packing)
                assert isinstance(packed, PackedJets)
                assert_same(packed.pad(), expected)
                assert packing.state_dict() == plain.state_dict()
    for expected, batch in zip(dealt(table, 20), dealt(table, 20, device=META), strict=True):
        assert_same(batch.jets.pad(), expected.jets)
    assert {jets.mask.device.type for _, jets in once(table, 20, META)} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gets_the_same_bits_and_is_not_waited_for():
    table = make_jets([40, 1, 0, 2, 7], kind=np.float16, truth=TRUTH, columns=2)
    device, index = torch.device("cuda"), np.arange(5)
    packed = table.batch_for(device, index)
    assert all(x.is_pinned() for x in vars(packed).values() if isinstance(x, torch.Tensor) and x.numel())
    packed.to(device)  # what the first use sets up may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = packed.to(device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_same(batch.to("cpu"), table.batch(index))
