"""jettag scan labels: how many labels pre-training saves, by training at many numbers of them."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from jettag.config.files import write_atomically
from jettag.config.recipe import FinetuneRecipe
from jettag.data.card import load_card
from jettag.data.identity import file_sha256, identify
from jettag.data.opening import expand_data, prepared_card
from jettag.data.read import InputFile
from jettag.errors import DataError, DivergenceError, JettagError
from jettag.evaluation.label_report import write_scan
from jettag.evaluation.label_saving import SCRATCH, ScanPoint
from jettag.evaluation.rows import Row, make_rows
from jettag.evaluation.scores import Scores
from jettag.runs.common import Sources, Told, with_truth
from jettag.runs.finetuning import finetune
from jettag.runs.inference import probabilities
from jettag.runs.scan_plan import Point, Rules, point_recipe, points_of, settle_plan
from jettag.runs.scan_pool import Pool, cut_pool, read_pool
from jettag.runs.seen import refuse_shared, seen_in_training
from jettag.runs.settling import settle_features
from jettag.training import load_tagger
from jettag.training.checkpoint import load_model_state, resolve_checkpoint
from jettag.training.devices import choose_device
from jettag.training.run_directory import occupy, read_run
from jettag.training.session import BATCH_SIZES

__all__ = ["LabelScan", "like_backbone", "run_of", "scan_labels"]

RESULT = "point.json"  # in the run directory of each point
FORWARD = 1 / 3  # of a training step's work

Report = Callable[[str], AbstractContextManager[Told]]


@dataclass(frozen=True)
class LabelScan:
    """What to scan.

    Attributes:
        recipe: of every point; its seed is the first of the seeds.
        sources: files of labelled jets, from which each point draws its own.
        test: files that judge, and do nothing else.
        labels: numbers of labelled jets, those held out for validation included.
        seeds: how many.
        modes: ``scratch`` and modes of fine-tuning.
        pretrained: run or checkpoint of every mode but ``scratch``.
        efficiencies: signal efficiencies at which rejections are given.
        rules: how long the trainings are.
        own_backbone: whether the recipe's backbone is the one that scratch takes, and not the shape of ``pretrained``.
    """

    recipe: FinetuneRecipe
    sources: Sources
    test: Sequence[str]
    labels: Sequence[int]
    seeds: int
    modes: Sequence[str]
    pretrained: Path | None = None
    efficiencies: Sequence[float] = (0.3,)
    rules: Rules = field(default_factory=Rules)
    own_backbone: bool = False


def scan_labels(
    scan: LabelScan,
    out: Path,
    *,
    device: str = "auto",
    told: Told,
    training_report: Report,
) -> tuple[dict[str, Any], JettagError | None]:
    """Train and judge every point that ``out`` does not hold yet; write the tables.

    Returns:
        The object of `scan --json`, and the first error of a point that failed, for the exit code.

    Raises:
        UsageError: modes, labels or ``out`` do not fit.
        DataError: a test file is among the training files, or there are fewer jets than labels.
        Stopped: a signal came; the same command goes on.
    """
    seeds = range(scan.recipe.seed, scan.recipe.seed + scan.seeds)
    points = points_of(scan.labels, seeds, scan.modes, pretrained=scan.pretrained is not None)
    chosen = choose_device(device)
    base = scan.recipe
    if scan.pretrained is not None and not scan.own_backbone:
        base = like_backbone(base, scan.pretrained)
    with occupy(out):
        train, val, test = (
            expand_data(files) if files else [] for files in (scan.sources.train, scan.sources.val, scan.test)
        )
        refuse_shared(train, test, "--data")
        refuse_shared(val, test, "--val")
        refuse_shared(train, val, "--data", "--val")
        card = prepared_card(train) or load_card(scan.sources.card or base.data.card)
        adapt = base.adaptation.adapt_features
        base = settle_features(base, [*train, *val, *test], card, told, network=scan.pretrained, adapt=adapt)
        base = with_truth(base, scan.sources, told)
        settle_plan(out, _plan(scan, base, points, train, val, test))
        pool = read_pool(base, scan.sources.card, points, train, val, test, told)
        notes = seen_in_training("the backbone", read_run(run_of(scan.pretrained)), test) if scan.pretrained else []
        for note in notes:
            told.note(note)
        return _carry_out(scan, base, points, pool, out, chosen, notes, told, training_report)


def _carry_out(
    scan: LabelScan,
    base: FinetuneRecipe,
    points: Sequence[Point],
    pool: Pool,
    out: Path,
    device: torch.device,
    notes: Sequence[str],
    told: Told,
    training_report: Report,
) -> tuple[dict[str, Any], JettagError | None]:
    auto = BATCH_SIZES["cpu" if device.type == "cpu" else "accelerator"]
    batch = auto if base.data.batch_size == "auto" else int(base.data.batch_size)
    val_given = bool(scan.sources.val)
    recipes = {p: point_recipe(base, p, scan.rules, batch_size=batch, val_given=val_given) for p in points}
    work = {p: _work(recipe, batch, len(pool.test)) for p, recipe in recipes.items()}
    found: list[ScanPoint] = []
    failed: list[dict[str, Any]] = []
    first: JettagError | None = None
    spent = done = 0.0
    known = {p: _known(out / "runs" / p.name, scan.efficiencies) for p in points}
    left = [p for p in points if known[p] is None]
    if left and len(left) < len(points):
        told.note(f"{len(points) - len(left)} of {len(points)} points are there already")
    for number, point in enumerate(points, start=1):
        result = known[point]
        if result is None:
            remaining = sum(work[p] for p in points[number - 1 :] if known[p] is None)
            time_left = f", about {_duration(remaining * spent / done)} left" if done else ""
            steps = recipes[point].training.max_steps
            told.note(f"point {number} of {len(points)}: {point.name}, up to {steps} steps{time_left}")
            begin = time.monotonic()
            with training_report(point.name) as point_told:
                quiet = point_told if done == 0 else replace(point_told, note=lambda _: None)
                result = _point(scan, recipes[point], point, pool, out / "runs" / point.name, device, quiet)
            spent += time.monotonic() - begin
            done += work[point]
        if "error" in result:
            told.note(f"{point.name} failed: {result['error']}")
            failed.append(
                {"run": point.name, "mode": point.mode, "n_train": point.labels, "seed": point.seed, **result}
            )
            first = first or _as_error(result, out / "runs" / point.name)
        else:
            facts = {key: result[key] for key in ("n_validation", "steps", "seconds")}
            found += [ScanPoint(point.mode, Row(**row), **facts) for row in result["rows"]]
        if point in left:
            write_scan(out, found, failed=failed, notes=notes, pictures=False)
    return write_scan(out, found, failed=failed, notes=notes), first


def _point(
    scan: LabelScan, recipe: FinetuneRecipe, point: Point, pool: Pool, run: Path, device: torch.device, told: Told
) -> dict[str, Any]:
    """Train, where that has not ended, and judge; what came of it is kept in the run directory."""
    try:
        jets = cut_pool(recipe, pool)
        if not ((run / "run.json").is_file() and read_run(run).get("finished")):
            finetune(
                recipe,
                jets,
                run,
                pretrained=None if point.mode == SCRATCH else scan.pretrained,
                device=str(device),
                resume=True,
                max_seconds=scan.rules.max_seconds,
                told=told,
                pictures=False,  # of dozens of trainings; the study has its own
            )
        # With few labels the validation loss is that of a handful of jets and picks checkpoints by chance, of training
        # from scratch most of all: a finished schedule is judged at its end, unless patience ends it early.
        tagger = load_tagger(resolve_checkpoint(run, prefer="best" if recipe.training.patience else "last"))
        assert pool.test.label is not None  # read with labels
        scores = Scores(
            run=point.name,
            class_names=tagger.class_names,
            probabilities=probabilities(tagger, pool.test, device),
            label=pool.test.label,
            seed=point.seed,
            parameters=tagger.facts.get("parameters"),
            n_train=point.labels,
        )
        result: dict[str, Any] = {
            "efficiencies": list(scan.efficiencies),
            "rows": [asdict(row) for row in make_rows(scores, efficiencies=scan.efficiencies)],
            "n_validation": len(jets.val_table),
            "steps": tagger.facts["steps"],
            "seconds": tagger.facts["seconds"],
            "ended_by": tagger.facts["ended_by"],
        }
    except (DivergenceError, DataError) as problem:
        result = {"error": str(problem), "exit_code": problem.exit_code}
    write_atomically(run / RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _known(run: Path, efficiencies: Sequence[float]) -> dict[str, Any] | None:
    """What an earlier call left of a point; None where there is something to do."""
    try:
        result: dict[str, Any] = json.loads((run / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if "error" in result or result.get("efficiencies") == list(efficiencies) else None


def _as_error(result: dict[str, Any], run: Path) -> JettagError:
    kind = DivergenceError if result["exit_code"] == DivergenceError.exit_code else DataError
    return kind(
        "a point of the scan failed", where=run, do="the other points stand; remove that folder to try it again"
    )


def like_backbone(recipe: FinetuneRecipe, pretrained: Path) -> FinetuneRecipe:
    """The recipe with the backbone's own shape, so that scratch trains the same network.

    Raises:
        CheckpointError: the backbone is damaged.
    """
    _, saved, _ = load_model_state(pretrained)
    shape = {key: value for key, value in saved["settings"]["backbone"].items() if key != "num_features"}
    size = "tiny" if recipe.backbone.size == "auto" else recipe.backbone.size  # each of its numbers is replaced
    backbone = recipe.backbone.model_copy(update={"size": size, "settings": shape})
    return recipe.model_copy(update={"backbone": backbone})


def run_of(pretrained: Path) -> Path:
    """The run directory behind a run or a checkpoint."""
    return resolve_checkpoint(pretrained).parent.parent


def _plan(
    scan: LabelScan,
    recipe: FinetuneRecipe,
    points: Sequence[Point],
    train: Sequence[InputFile],
    val: Sequence[InputFile],
    test: Sequence[InputFile],
) -> dict[str, Any]:
    """All that decides what a point is."""
    rules = asdict(scan.rules)
    rules["max_seconds"] = None if rules["max_seconds"] == float("inf") else rules["max_seconds"]

    def contents(files: Sequence[InputFile]) -> list[list[str | None]]:
        return [[identify(file).sha256, file.class_name, Path(file.address).name] for file in files]

    source = resolve_checkpoint(scan.pretrained) if scan.pretrained else None
    return {
        "schema": 1,
        "labels": sorted({point.labels for point in points}),
        "modes": list(dict.fromkeys(point.mode for point in points)),
        "seeds": sorted({point.seed for point in points}),
        "from": file_sha256(source / "state.json") if source else None,
        "recipe": recipe.model_dump(mode="json"),
        "rules": rules,
        "data": contents(train),
        "val": contents(val),
        "test": contents(test),
    }


def _work(recipe: FinetuneRecipe, batch: int, test_jets: int) -> float:
    """Jets pushed forward and back, for the time left."""
    labels, steps = recipe.data.max_jets or 0, recipe.training.max_steps or 0
    held = recipe.data.val_fraction * labels
    looks = steps / recipe.training.val_every
    return steps * min(batch, labels - held) + FORWARD * (looks * held + test_jets)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
