"""Recipes and cards: strict YAML in, pydantic models out, every mistake of a file reported at once."""

from jettag.config.loading import Section, apply_overrides, dump_yaml, read_yaml, validate
from jettag.config.shipped import find, list_shipped, read_text

__all__ = [
    "Section",
    "apply_overrides",
    "dump_yaml",
    "find",
    "list_shipped",
    "read_text",
    "read_yaml",
    "validate",
]
