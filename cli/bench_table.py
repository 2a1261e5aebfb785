"""What `jettag bench train` and `infer` print."""

from typing import TYPE_CHECKING

from .console import say

if TYPE_CHECKING:
    from jettag.benchmarks import Comparison

__all__ = ["rates_json", "say_rates"]


def say_rates(found: "Comparison", device: str) -> None:
    """Print a line a side and precision.

    Ratios are to weaver-core in the same precision, on a CPU to its single precision, too, and of compiled blocks to
    the others.
    """
    sides = []
    for more, ours, weaver, compiled in (
        ("", found.ours, found.weaver, found.compiled),
        (", bf16", found.ours_mixed, found.weaver_mixed, found.compiled_mixed),
    ):
        sides += [("jettag" + more, ours, weaver, "weaver-core's"), ("compiled" + more, compiled, ours, "uncompiled")]
        sides += [("weaver-core" + more, weaver, None, "")]
    for name, rate, other, whose in sides:
        if rate is not None:
            ratio = f"   {rate.wall / other.wall:.2f} and {rate.cpu / other.cpu:.2f} times {whose}" if other else ""
            say(f"{name:<18}{rate.wall:8.1f} jets/s   {rate.cpu:8.1f} jets per CPU second{ratio}")
    ours, theirs = found.ours_mixed, found.weaver
    if ours is not None and theirs is not None and device == "cpu":
        note = "our bf16 beside weaver-core's single precision, all that it has on a CPU"
        say(f"{ours.wall / theirs.wall:.2f} and {ours.cpu / theirs.cpu:.2f} times: {note}")


def rates_json(found: "Comparison") -> dict[str, float | None]:
    """Rates and ratios; ``_bf16`` in mixed precision, whose ratio is that to weaver-core in single precision.

    ``compiled_ratio`` is that of compiled blocks to the others in the same precision.
    """
    told: dict[str, float | None] = {}
    sides = [("", "", found.ours), ("weaver_", "", found.weaver), ("compiled_", "", found.compiled)]
    sides += [("", "_bf16", found.ours_mixed), ("weaver_", "_bf16", found.weaver_mixed)]
    sides += [("compiled_", "_bf16", found.compiled_mixed)]
    for side, precision, rate in sides:
        told[f"{side}jets_per_second{precision}"] = None if rate is None else round(rate.wall, 2)
        told[f"{side}jets_per_cpu_second{precision}"] = None if rate is None else round(rate.cpu, 2)
    for name, rate, other in (
        ("ratio{}", found.ours, found.weaver),
        ("ratio{}_bf16", found.ours_mixed, found.weaver),
        ("compiled_ratio{}", found.compiled, found.ours),
        ("compiled_ratio{}_bf16", found.compiled_mixed, found.ours_mixed),
    ):
        both = (rate, other) if rate is not None and other is not None else None
        told[name.format("")] = None if both is None else round(both[0].wall / both[1].wall, 4)
        told[name.format("_cpu")] = None if both is None else round(both[0].cpu / both[1].cpu, 4)
    return told
