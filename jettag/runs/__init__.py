"""Recipe -> jets, model, objective -> loop -> run directory: what `jettag.run` offers, one file a command."""
