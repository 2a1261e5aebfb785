"""Small jets for every test: made here, no file, no network."""

import gc
import signal

import numpy as np
import pytest
import torch

from jettag.data.features import FEATURE_SETS
from jettag.data.jets import JetTable

# A shell has what it starts with "&" ignore SIGINT, and our child processes would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_table(jets: int = 200, *, seed: int = 0, features: str = "jetclass_kin", longest: int = 12) -> JetTable:
    """Jets of two classes that differ in their spread, with features that are true functions of the four-momenta."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, jets)
    counts = rng.integers(1, longest + 1, jets)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    owner = np.repeat(np.arange(jets), counts)
    spread = np.where(label[owner] == 1, 0.4, 0.1)
    pt = rng.exponential(20.0, offsets[-1]) + 1.0
    order = np.lexsort((-pt, owner))
    pt = pt[order]
    eta, phi = rng.normal(0, spread), rng.normal(0, spread)
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    names = FEATURE_SETS[features].names
    columns = rng.normal(size=(len(pt), len(names)))
    columns[:, 0], columns[:, -2], columns[:, -1] = 0.7 * (np.log(pt) - 1.7), eta, phi
    return JetTable(
        features=columns.astype(np.float32),
        p4=p4.astype(np.float32),
        offsets=offsets,
        feature_names=tuple(names),
        label=label.astype(np.int64),
        class_names=("QCD", "Tbqq"),
    )


@pytest.fixture
def table() -> JetTable:
    """200 jets of two classes."""
    return make_table()


@pytest.fixture(scope="session", autouse=True)
def _modules_stay():
    """What all tests have imported is no garbage: each full collection would spend most of its second on it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tests share two cores with others: one thread each is faster, and reproducible."""
    torch.set_num_threads(1)
