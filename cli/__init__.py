"""The `jettag` command: one file a command; parse, call one function of `jettag`, print."""

import os

# Before torch loads OpenMP: idle threads spin for microseconds, then sleep. Left to spin as they like, two trainings on
# two cores run twenty times slower than one; sleeping at once halves the speed of one alone (RESULTS.md, "Threads").
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
