"""jettag: pre-train, fine-tune and judge jet taggers. See `jettag.run` for the functions behind each command."""

__all__ = ["__version__"]

__version__ = "0.1.0"
