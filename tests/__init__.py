"""Tests of jettag; this is imported before anything else."""

import gc

# What modules are made of stays. Looking for garbage among it as often as Python does takes a sixth of a start.
gc.set_threshold(10_000)
