"""The `jettag` command: one file a command; parse, call one function of `jettag`, print."""

import os

# Before torch loads OpenMP: idle threads sleep instead of spinning. On cores shared with anything else, spinning makes
# a training 20 times slower (RESULTS.md, "Threads"); alone on the machine the difference is small.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
