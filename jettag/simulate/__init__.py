"""Simulated jets: Pythia 8 events, a parametrised detector, FastJet clustering, truth labels, JetClass's schema."""

from jettag.simulate.dijets import DIJETS, DijetSettings, simulate_dijets
from jettag.simulate.generator import Summary, generate, simulate
from jettag.simulate.processes import LABELS, PROCESSES
from jettag.simulate.settings import GenerateSettings

__all__ = [
    "DIJETS",
    "LABELS",
    "PROCESSES",
    "DijetSettings",
    "GenerateSettings",
    "Summary",
    "generate",
    "simulate",
    "simulate_dijets",
]
