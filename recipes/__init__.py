"""Text only: the YAML files beside this one are found by name; see `jettag ls`."""
