"""Which feature columns a shard stores in float16, and which in float32; four-momenta are float32 always."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np

from jettag.data.dataset import Dataset, Dtype
from jettag.errors import DataError, UsageError, nearest

__all__ = ["SAFE", "decide", "parse_dtypes"]

# float16 has 11 bits, so below 16 it rounds by at most 2^-8 = 0.004, little beside features of spread one.
SAFE = 16.0
LARGEST = float(np.finfo(np.float16).max)


def parse_dtypes(texts: Sequence[str], names: Sequence[str]) -> tuple[Dtype, dict[str, Dtype]]:
    """(dtype of all columns, those of single ones) of ``f16``, ``f32`` and ``COLUMN=f32``; f16 where none is for all.

    Args:
        texts: as typed.
        names: the columns that there are.

    Raises:
        UsageError: another dtype, or no column of that name.
    """
    base: Dtype = "f16"
    columns: dict[str, Dtype] = {}
    for text in texts:
        name, separator, dtype = text.rpartition("=")
        if dtype not in ("f16", "f32"):
            raise UsageError(f"--dtype {text!r} is no dtype", do="write it as f16, f32 or COLUMN=f32")
        if not separator:
            base = cast("Literal['f16', 'f32']", dtype)
        elif name == "p4":
            raise UsageError("four-momenta are always f32", do="leave p4 out of --dtype")
        elif name not in names:
            raise UsageError(f"--dtype {text!r}: no feature {name!r}", do=nearest(name, names))
        else:
            columns[name] = cast("Literal['f16', 'f32']", dtype)
    return base, columns


def decide(plan: Dataset, largest: Mapping[str, Sequence[float]]) -> Dataset:
    """The plan with the columns that float16 would round by more than features bear, and that nobody asked for in it.

    Args:
        plan: what was asked for.
        largest: of each file the largest absolute value of every column.

    Raises:
        DataError: a column asked for in float16 holds what it cannot.
    """
    kept = {}
    for place, name in enumerate(plan.feature_names):
        file = max(largest, key=lambda path: largest[path][place])
        reached = largest[file][place]
        if name not in plan.column_dtypes and plan.feature_dtype == "f16" and reached >= SAFE:
            kept[name] = reached
        elif plan.column_dtypes.get(name) == "f16" and reached > LARGEST:
            what = f"{name} reaches {reached:g} and f16 ends at {LARGEST:g}"
            raise DataError(what, where=file, do=f"use --dtype {name}=f32")
    return plan.model_copy(update={"kept_f32": kept})
