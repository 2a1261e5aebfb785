"""`python -m jettag_cli`, as torchrun calls it."""

from .main import app

app(prog_name="jettag")
