"""From nothing to a rejection table: simulate, pre-train, fine-tune, train from scratch, judge."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from jettag.config.files import write_atomically
from jettag.config.processes import usable_cores
from jettag.config.recipe import FinetuneRecipe, PretrainRecipe, load_recipe
from jettag.errors import UsageError
from jettag.runs.common import Sources, Told
from jettag.runs.finetuning import finetune
from jettag.runs.inference import Judgement, evaluate
from jettag.runs.pretraining import pretrain
from jettag.simulate import GenerateSettings, generate
from jettag.training.devices import choose_device
from jettag.training.run_directory import read_run

__all__ = ["Plan", "make_plan", "quickstart"]

PROCESSES = ("QCD", "Tbqq")
TEST_FRACTION = 0.3  # of the simulated jets; judging needs background, and each jet of it costs the same
MOST_JETS = 8_000  # of each process: in minutes a network sees more only a few times
FEWEST_JETS = 500
SIMULATING = 0.22  # share of the budget that decides how many jets are simulated
# Shares of what simulation leaves. The rest is start-up, reading and judging.
PRETRAINING = 0.36
TRAINING = 0.24  # each, fine-tuned and from scratch
LEAST_LEFT = 0.5  # share of the budget that trainings get even where simulation took longer than planned

# The recipes are made for hours; minutes of a small network take twice the learning rate and look more often.
FOR_MINUTES = ("training.learning_rate=2e-3", "training.val_every=250", "training.epochs=1000")

Report = Callable[[str, int | None], AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class Plan:
    """What a quickstart will do; kept in ``plan.json``, so that an interrupted one goes on with the same."""

    jets: int  # of each process
    seconds: float  # in all
    seed: int
    workers: int

    @property
    def test_jets(self) -> int:
        """Jets of each process that only judge."""
        return max(int(self.jets * TEST_FRACTION), 1)


def make_plan(out: Path, *, jets: int | None, seconds: float, seed: int, workers: int | None, told: Told) -> Plan:
    """The plan in ``out``, or a new one: as many jets as this machine simulates in its share of the budget.

    Raises:
        UsageError: ``out`` holds a quickstart with another number of jets or seed.
    """
    path = out / "plan.json"
    if path.is_file():
        try:
            plan = Plan(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise UsageError("not the plan of a quickstart", where=path, do="choose another --out") from None
        if (jets is not None and jets != plan.jets) or seed != plan.seed:
            raise UsageError(
                f"the folder holds a quickstart of {plan.jets} jets with seed {plan.seed}",
                where=out,
                do="choose another --out, or leave --jets and --seed as they were",
            )
        told.note(f"going on with the quickstart in {out}, whose budget is {plan.seconds / 60:g} minutes")
        return plan
    workers = workers or min(usable_cores(), 8)
    if jets is None:
        rate = _simulation_rate(workers)
        jets = int(rate * seconds * SIMULATING / len(PROCESSES))
        jets = max(min(jets // 100 * 100, MOST_JETS), FEWEST_JETS)
        told.note(f"this machine simulates about {rate:.0f} jets/s: {jets} jets of each process")
    plan = Plan(jets=jets, seconds=seconds, seed=seed, workers=workers)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(plan.__dict__) + "\n")
    return plan


def _simulation_rate(workers: int) -> float:
    """Jets per second of this machine, start-up left out: the longer of two short runs minus the shorter."""
    times = []
    sizes = (20, 220)
    with TemporaryDirectory() as folder:
        for size in sizes:
            begin = time.monotonic()
            generate(GenerateSettings(PROCESSES, jets=size, seed=1), Path(folder) / str(size))
            times.append(time.monotonic() - begin)
    per_core = len(PROCESSES) * (sizes[1] - sizes[0]) / max(times[1] - times[0], 1e-3)
    return per_core * workers


def quickstart(
    out: Path,
    plan: Plan,
    *,
    spent: float = 0.0,
    report: Report,
    training_report: Callable[[str], AbstractContextManager[Told]],
    device: str = "auto",
) -> Judgement:
    """Run the plan; leaves ``data``, ``runs/{pretrain,finetuned,scratch}`` and nothing else but the plan.

    What an earlier, interrupted call finished is not done again.

    Args:
        out: where everything goes.
        plan: what `make_plan` said.
        spent: seconds of the budget that are gone already.
        report: opens a progress bar: name and total -> function of the number done.
        training_report: opens the reports of a training.
        device: of the trainings.
    """
    begin = time.monotonic() - spent
    train = _simulate(out / "data", "train", plan, plan.jets - plan.test_jets, 1, report)
    test = _simulate(out / "data", "test", plan, plan.test_jets, 2, report)
    left = max(plan.seconds - (time.monotonic() - begin), LEAST_LEFT * plan.seconds)
    runs = out / "runs"
    # A tiny network in small batches is no faster on two threads, and one does not mind what else the machine does.
    torch.set_num_threads(1)
    changes = [f"seed={plan.seed}", *FOR_MINUTES]
    if not _finished(runs / "pretrain"):
        with training_report("pretrain") as told:
            pretrain(
                load_recipe("mpm-observables", PretrainRecipe, changes, card="generated"),
                Sources(train=train, card="generated"),
                runs / "pretrain",
                device=device,
                resume=True,
                max_seconds=left * PRETRAINING,
                told=told,
            )
    for name, start, mode in (("finetuned", runs / "pretrain", "lpft"), ("scratch", None, "full")):
        if _finished(runs / name):
            continue
        with training_report(name) as told:
            finetune(
                load_recipe("top", FinetuneRecipe, [*changes, f"mode={mode}"], card="generated"),
                Sources(train=train, card="generated"),
                runs / name,
                pretrained=start,
                device=device,
                resume=True,
                max_seconds=left * TRAINING,
                told=told,
            )
    with report("eval", 2 * len(PROCESSES) * plan.test_jets) as update:
        return evaluate([runs / "finetuned", runs / "scratch"], test, device=choose_device(device), on_progress=update)


def _finished(run: Path) -> bool:
    """Whether an earlier call ended this training."""
    return (run / "run.json").is_file() and bool(read_run(run).get("finished"))


def _simulate(folder: Path, part: str, plan: Plan, jets: int, seed_offset: int, report: Report) -> list[str]:
    """``folder/PART_PROCESS.root``: simulate what is not there yet; a file that is there is whole."""
    files = {name: folder / f"{part}_{name}.root" for name in PROCESSES}
    missing = tuple(name for name, path in files.items() if not path.is_file())
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        with report(f"simulate {part}", len(missing) * jets) as update, TemporaryDirectory(dir=folder) as made:
            settings = GenerateSettings(missing, jets=jets, seed=2 * plan.seed + seed_offset)
            for path in generate(settings, Path(made), workers=plan.workers, on_progress=update):
                path.replace(files[path.stem])
    return [str(path) for path in files.values()]
