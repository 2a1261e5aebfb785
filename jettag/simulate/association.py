"""Which jet a track, or a heavy hadron, belongs to: the nearest one, within a cone."""

import numpy as np

from jettag.simulate.clustering import Jets
from jettag.simulate.detector import eta_of
from jettag.simulate.events import Bools, Floats, Ints

__all__ = ["dense_core_loss", "nearest_jet", "shrinking_cone"]

DENSE_LOSS = 0.15  # of the tracks on the axis of a jet of 1 TeV: their clusters merge
DENSE_FROM, DENSE_FULL = 250.0, 1000.0  # jet pT [GeV] where that begins, and where it is complete
DENSE_RADIUS = 0.05


def shrinking_cone(pt: Floats) -> Floats:
    """ATLAS's cone of tracks, 0.239 + exp(-1.220 - 0.0164 pT / GeV): 0.45 at 20 GeV, 0.24 at 500 GeV; (J,) -> (J,)."""
    cone: Floats = 0.239 + np.exp(-1.220 - 1.64e-2 * pt)
    return cone


def nearest_jet(event: Ints, p4: Floats, jets: Jets, cone: Floats) -> tuple[Ints, Floats]:
    """The nearest jet of the same event that has the particle in its cone.

    Args:
        event: (K,) of the particles.
        p4: (K, 4).
        jets: J jets, grouped by event.
        cone: (J,) largest distance to each of them.

    Returns:
        (K,) the jet, -1 where there is none, and (K,) the distance to it, infinite where there is none.
    """
    begin = np.searchsorted(jets.event, event, side="left")
    count = np.searchsorted(jets.event, event, side="right") - begin
    jet_eta, jet_phi = eta_of(jets.p4), np.arctan2(jets.p4[:, 1], jets.p4[:, 0])
    eta, phi = eta_of(p4), np.arctan2(p4[:, 1], p4[:, 0])
    found, best = np.full(len(event), -1), np.full(len(event), np.inf)
    for step in range(int(count.max(initial=0))):
        tried = np.flatnonzero(step < count)
        jet = begin[tried] + step
        d_phi = np.remainder(phi[tried] - jet_phi[jet] + np.pi, 2 * np.pi) - np.pi
        distance = np.hypot(eta[tried] - jet_eta[jet], d_phi)
        closer = (distance < cone[jet]) & (distance < best[tried])
        found[tried[closer]], best[tried[closer]] = jet[closer], distance[closer]
    return found, best


def dense_core_loss(distance: Floats, jet_pt: Floats, rng: np.random.Generator) -> Bools:
    """(K,) tracks that are lost in the core of their jet, from the distance to its axis and its pT [GeV]."""
    strength = np.clip((jet_pt - DENSE_FROM) / (DENSE_FULL - DENSE_FROM), 0.0, 1.0)
    lost: Bools = rng.random(len(distance)) < DENSE_LOSS * strength * np.exp(-((distance / DENSE_RADIUS) ** 2))
    return lost
