"""The `jettag` command: one file a command; parse, call one function of `jettag`, print."""
