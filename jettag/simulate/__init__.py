"""Simulated jets: Pythia 8 events, a parametrised detector, FastJet clustering, truth labels, JetClass's schema."""

from jettag.simulate.generator import Summary, generate, simulate
from jettag.simulate.processes import LABELS, PROCESSES
from jettag.simulate.settings import GenerateSettings

__all__ = ["LABELS", "PROCESSES", "GenerateSettings", "Summary", "generate", "simulate"]
