"""Whether a device trains as the CPU does: the same first steps on both, of the same weights and jets.

What `jettag doctor --device` runs on GPUs that nobody of us has seen. Everything is as in a run of `jettag pretrain`:
files, copies to the device, steps, validation, checkpoints. Nothing is dropped, so nothing is drawn on the device.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jettag.config.recipe import PretrainRecipe, load_recipe
from jettag.errors import JettagError, out_of_memory
from jettag.random_jets import CARD, write_random_jets
from jettag.runs.common import Sources
from jettag.runs.pretraining import pretrain
from jettag.training.devices import choose_device, has_fast_bf16

__all__ = ["Trial", "check_device"]

RECIPES = ("both", "supervised")  # every objective of the backbone
JETS = 320
STEPS = 4
CHANGES = (
    "backbone.size=tiny",
    "backbone.settings={dropout: 0, attention_dropout: 0, class_dropout: 0, drop_path: 0}",
    "data.batch_size=64",
    "training.log_every=1",
    f"training.max_steps={STEPS}",
)
# Largest difference of a loss. Single precision rounds by 1e-7 in each operation, bf16 by 4e-3, and steps add to it.
MOST = {"fp64": 1e-9, "fp32": 1e-3, "bf16": 0.1}


@dataclass(frozen=True)
class Trial:
    """One way of training, tried.

    Attributes:
        device: e.g. ``cuda``.
        recipe: whose first steps.
        precision: of the steps on the device. The CPU's are in double precision where these are, else in single.
        compiled: whether blocks went through `torch.compile`.
        difference: largest absolute difference of a loss or validation loss; None where there was a problem.
        most: what it may be.
        seconds: on the device, the start and the compiler included.
        problem: one line on what went wrong, None where nothing did.
    """

    device: str
    recipe: str
    precision: str
    compiled: bool
    difference: float | None
    most: float
    seconds: float
    problem: str | None

    @property
    def passed(self) -> bool:
        """Whether the device did as the CPU did."""
        return self.difference is not None and self.difference <= self.most


def check_device(name: str, *, on_begin: Callable[[str], None]) -> Iterator[Trial]:
    """Try every way of training that the device has; a minute or two, most of it the compiler.

    Args:
        name: as after ``--device``.
        on_begin: is told what begins.

    Raises:
        JettagError: the device is not there, or the CPU cannot train.
    """
    device = choose_device(name)
    ways = [("fp32", True)]
    if device.type != "cpu":
        ways = [("fp64", False)] * (device.type != "mps") + [("fp32", False), *ways]  # Apple's GPUs have no doubles
    if has_fast_bf16(device):
        ways += [("bf16", False), ("bf16", True)]
    with tempfile.TemporaryDirectory(prefix="jettag-doctor-") as folder:
        place = Path(folder)
        jets = write_random_jets(place / "jets.root", JETS)
        expected: dict[tuple[str, str], list[float]] = {}
        for recipe in RECIPES:
            for precision, compiled in ways:
                of_cpu = recipe, "fp64" if precision == "fp64" else "fp32"
                if of_cpu not in expected:
                    on_begin(f"{recipe} in {of_cpu[1]} on the cpu")
                    expected[of_cpu] = _losses(jets, place / "-".join(of_cpu), "cpu", *of_cpu, compiled=False)
                on_begin(f"{recipe} in {precision}{', compiled,' if compiled else ''} on {name}")
                begin = time.monotonic()
                difference, problem = None, None
                try:
                    run = place / f"{recipe}-{precision}-{compiled}"
                    found = _losses(jets, run, name, recipe, precision, compiled=compiled)
                    difference = _largest(found, expected[of_cpu])
                except (JettagError, RuntimeError, TypeError) as error:
                    if out_of_memory(error):
                        raise
                    problem = next(iter(str(error).splitlines()), type(error).__name__)
                seconds = time.monotonic() - begin
                yield Trial(name, recipe, precision, compiled, difference, MOST[precision], seconds, problem)


def _losses(jets: Path, run: Path, device: str, recipe: str, precision: str, *, compiled: bool) -> list[float]:
    """Of the steps, and of the validation after them."""
    changes = [*CHANGES, f"training.precision={precision}", f"training.compile={str(compiled).lower()}"]
    resolved = load_recipe(recipe, PretrainRecipe, changes, card=CARD)
    pretrain(resolved, Sources(train=[str(jets)], card=CARD), run, device=device)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line[name] for line in lines for name in ("loss", "val_loss") if name in line]


def _largest(found: Sequence[float], expected: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True))
