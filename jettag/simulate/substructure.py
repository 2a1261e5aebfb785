"""Soft-drop mass, on FastJet's Cambridge/Aachen tree, and N-subjettiness, by the contrib code in the wheel."""

import itertools

import awkward as ak
import numpy as np

from jettag.simulate.clustering import import_fastjet, momenta
from jettag.simulate.events import Floats, Ints

__all__ = ["n_subjettiness", "soft_drop_mass"]

Z_CUT = 0.1  # as JetClass: beta 0, zcut 0.1
MAX_TAU = 4
WHOLE = 10.0  # a radius that puts every constituent into one jet, whatever its distance


def soft_drop_mass(p4: Floats, offsets: Ints, *, radius: float, beta: float = 0.0, z_cut: float = Z_CUT) -> Floats:
    """Mass after soft drop, arXiv:1402.2657: C/A undone until min(pT1, pT2) > z_cut (dR/R)^beta (pT1 + pT2).

    Args:
        p4: (K, 4) constituents [GeV], jet by jet.
        offsets: (J + 1,) where each jet begins.
        radius: R of the jets.
        beta: exponent.
        z_cut: threshold.

    Returns:
        (J,) [GeV]; where one constituent is left, its mass.
    """
    if len(offsets) < 2:
        return np.zeros(0)
    fastjet = import_fastjet()
    definition = fastjet.JetDefinition(fastjet.cambridge_algorithm, WHOLE)
    mass = np.zeros(len(offsets) - 1)
    first, second = fastjet.PseudoJet(), fastjet.PseudoJet()
    # The wheel's own grooming of arrays gives the same masses in five times the time.
    for number, (begin, end) in enumerate(itertools.pairwise(offsets.tolist())):
        particles = [fastjet.PseudoJet(*momentum) for momentum in p4[begin:end].tolist()]
        sequence = fastjet.ClusterSequence(particles, definition)
        jet = sequence.inclusive_jets()[0]
        while jet.has_parents(first, second):
            low, high = sorted((first.pt(), second.pt()))
            angle = (first.delta_R(second) / radius) ** beta if beta else 1.0
            if low > z_cut * angle * (low + high):
                break
            jet = fastjet.PseudoJet(first if first.pt() > second.pt() else second)
        mass[number] = max(jet.m(), 0.0)
    return mass


def n_subjettiness(p4: Floats, offsets: Ints, *, radius: float) -> Floats:
    """tau1 to tau4, arXiv:1011.2268: sum pT min(dR to N axes) / sum pT R; beta 1, one-pass kT axes, as JetClass.

    Args:
        p4: (K, 4) constituents [GeV], jet by jet.
        offsets: (J + 1,) where each jet begins.
        radius: R of the jets, the normalisation.

    Returns:
        (J, 4); zero where a jet has no more constituents than axes.
    """
    if len(offsets) < 2:
        return np.zeros((0, MAX_TAU))
    fastjet = import_fastjet()
    sequence = fastjet.ClusterSequence(momenta(p4, offsets), fastjet.JetDefinition(fastjet.cambridge_algorithm, WHOLE))
    taus = sequence.njettiness("NormalizedMeasure", "OnePass_KT_Axes", njets=[1, 2, 3, 4], beta=1.0, R0=radius)
    values = np.asarray(ak.to_numpy(ak.flatten(taus, axis=None)), dtype=np.float64).reshape(-1, MAX_TAU)
    too_few = np.diff(offsets)[:, None] <= np.arange(1, MAX_TAU + 1)[None]
    return np.where(too_few, 0.0, values)
