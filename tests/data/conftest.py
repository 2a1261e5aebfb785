"""Tracks with truth that tests write as experiments and public sets do."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def truth():
    """Tracks of 24 jets in GeV, mm, rad and the ATLAS sign, one jet without tracks; some cross the edge in azimuth."""
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 9, 24)
    counts[5] = 0
    size = counts.sum()
    owner = np.repeat(np.arange(24), counts)
    jet = {"pt": rng.uniform(25, 200, 24), "eta": rng.uniform(-2, 2, 24), "phi": rng.uniform(-3.1, 3.1, 24)}
    jet |= {"mass": rng.uniform(3, 15, 24), "flavour": np.tile([5, 4, 0, 0], 6), "event": np.arange(24) // 3 + 7}
    deta, dphi = rng.normal(0, 0.1, size), rng.normal(0, 0.1, size)
    pt = rng.exponential(5, size) + 0.6
    order = np.lexsort((-pt, owner))  # as they will be read
    track = {"pt": pt[order], "deta": deta, "dphi": dphi, "d0": rng.normal(0, 0.3, size), "z0": rng.normal(0, 2, size)}
    track |= {"d0err": rng.uniform(0.01, 0.1, size), "z0err": rng.uniform(0.05, 0.2, size)}
    track |= {
        "charge": rng.choice([-1, 1], size),
        "origin": rng.integers(0, 8, size),
        "vertex": rng.integers(-2, 4, size),
    }
    track |= {"eta": deta + jet["eta"][owner], "phi": (dphi + jet["phi"][owner] + np.pi) % (2 * np.pi) - np.pi}
    return counts, jet, track
