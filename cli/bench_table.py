"""What `jettag bench train` and `infer` print."""

from typing import TYPE_CHECKING

from .console import say

if TYPE_CHECKING:
    from jettag.benchmarks import Comparison

__all__ = ["rates_json", "say_rates"]


def say_rates(found: "Comparison", device: str) -> None:
    """Print a line a side and precision, with its ratio to weaver-core in the same one, and to what it has on a CPU."""
    sides = [("jettag", found.ours, found.weaver), ("weaver-core", found.weaver, None)]
    sides += [("jettag, bf16", found.ours_mixed, found.weaver_mixed), ("weaver-core, bf16", found.weaver_mixed, None)]
    for name, rate, rival in sides:
        if rate is not None:
            ratio = (
                f"   {rate.wall / rival.wall:.2f} and {rate.cpu / rival.cpu:.2f} times weaver-core's" if rival else ""
            )
            say(f"{name:<18}{rate.wall:8.1f} jets/s   {rate.cpu:8.1f} jets per CPU second{ratio}")
    ours, theirs = found.ours_mixed, found.weaver
    if ours is not None and theirs is not None and device == "cpu":
        note = "our bf16 beside weaver-core's single precision, all that it has on a CPU"
        say(f"{ours.wall / theirs.wall:.2f} and {ours.cpu / theirs.cpu:.2f} times: {note}")


def rates_json(found: "Comparison") -> dict[str, float | None]:
    """Rates and ratios; ``_bf16`` in mixed precision, whose ratio is that to weaver-core in single precision."""
    told: dict[str, float | None] = {}
    sides = [("", "", found.ours), ("weaver_", "", found.weaver)]
    sides += [("", "_bf16", found.ours_mixed), ("weaver_", "_bf16", found.weaver_mixed)]
    for side, precision, rate in sides:
        told[f"{side}jets_per_second{precision}"] = None if rate is None else round(rate.wall, 2)
        told[f"{side}jets_per_cpu_second{precision}"] = None if rate is None else round(rate.cpu, 2)
    for precision, ours in (("", found.ours), ("_bf16", found.ours_mixed)):
        both = (ours, found.weaver) if ours is not None and found.weaver is not None else None
        told[f"ratio{precision}"] = None if both is None else round(both[0].wall / both[1].wall, 4)
        told[f"ratio_cpu{precision}"] = None if both is None else round(both[0].cpu / both[1].cpu, 4)
    return told
