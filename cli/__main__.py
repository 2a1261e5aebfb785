"""`python -m jettag_cli`, as torchrun calls it."""

from .entry import main

main()
