"""Read every file once and leave shards that training maps: shuffled, checksummed, split.

The same jets make the same bytes, whoever makes them and however often.

While it runs, ``DIR/.staging`` holds the plan and what pass one has made of each file; a run that was killed goes on
from there, and what the disk has damaged meanwhile is made again. ``DIR/dataset.json`` comes last: where it is,
everything was once, and is made good by another call where the disk has damaged it since.
"""

import fcntl
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jettag.config.files import write_atomically
from jettag.data.buckets import PART, Layout, collect, scatter
from jettag.data.card import DataCard
from jettag.data.dataset import MANIFEST, SPLITS, Dataset, Dtype, Recorded, SplitRule, read_dataset, write_dataset
from jettag.data.features import feature_set
from jettag.data.identity import identify
from jettag.data.inputs import STAGING, InputFile
from jettag.data.labels import class_names
from jettag.data.precision import decide
from jettag.data.read import Job, plan_files, stored_in_all
from jettag.data.shards import describe, find_damage
from jettag.data.spread import Run, spread
from jettag.data.staged import Staged, StreamDamage
from jettag.errors import DataError, ResourceError, UsageError

__all__ = ["Preparation", "prepare"]

PLAN = "plan.json"
MANY_FILES = 50  # so many are dealt to splits as wholes
ALWAYS = ("pt", "mass")  # jet columns that sampling weights are binned in; summed where no file has them

Progress = Callable[[int], None]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Preparation:
    """What the person chooses.

    Attributes:
        features: name of a feature set.
        max_constituents: constituents kept in a jet, of highest pT.
        seed: of the shuffle.
        shard_jets: jets in a shard, on average. A worker holds two shards of them in memory.
        dtype: of the features on disk; four-momenta are float32 always. A feature that reaches 16 or more, from where
            float16 rounds by more than 0.004, stays float32 unless ``column_dtypes`` says otherwise.
        fractions: of train, val and test.
        split_by: ``auto`` takes event numbers where every file has them, else whole files, or where there are fewer
            than `MANY_FILES` each jet by itself: a few files would leave splits empty, or of one class.
        labels: False leaves label branches alone.
        column_dtypes: feature to its own dtype.
    """

    features: str = "jetclass_full"
    max_constituents: int = 128
    seed: int = 0
    shard_jets: int = 100_000
    dtype: Dtype = "f16"
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_by: Literal["auto", "event_number", "file", "entry"] = "auto"
    labels: bool = True
    column_dtypes: Mapping[str, Dtype] = field(default_factory=dict)


def prepare(
    inputs: Sequence[InputFile],
    card: DataCard,
    out: Path,
    chosen: Preparation = Preparation(),
    *,
    workers: int = 1,
    dask: str | None = None,
    on_progress: Progress | None = None,
    note: Tell = lambda _: None,
    warn: Tell = lambda _: None,
) -> Dataset:
    """Make ``out/{train,val,test}/*.safetensors`` and ``out/dataset.json``.

    Memory is a chunk of a file and two shards for each worker. What an earlier, interrupted call finished is not done
    again; in a directory that is complete every byte is compared with its checksum, and shards that are missing or
    damaged are made again, for which every file is read.

    Args:
        inputs: from `expand_inputs`.
        card: from `load_card`.
        out: the directory to make.
        chosen: feature set, split and so on.
        workers: processes; the result does not depend on them.
        dask: address of a Dask scheduler whose workers do it instead; they must see the files and ``out`` under the
            same paths as this process.
        on_progress: called with the number of jets through pass one.
        note: called with a sentence when another part of the work begins.
        warn: called with a sentence where something is made again, because the disk has damaged what there was.

    Raises:
        DataError: a file is missing, damaged, given twice, or holds what cannot be right; or no jet is left to train;
            or the disk damages what is made of a file again and again.
        CardError: the card has no column for what is wanted.
        UsageError: ``out`` holds another data set, prepared or half so.
        ResourceError: the disk is full or not writable, a worker died, or the cluster cannot be reached.
    """
    try:
        plan, jobs, layout = _plan(inputs, card, chosen)
        if dask is not None:  # a worker has another working directory
            out = out.absolute()
            jobs = [replace(job, file=replace(job.file, path=job.file.path.absolute())) for job in jobs]
        staging = out / STAGING
        earlier, whole = _earlier(out, plan), {}
        if earlier is not None:
            note(f"{out} is complete: the bytes of its {len(earlier.shards)} shards are compared with their checksums")
            with spread(workers, dask) as run:
                whole = _whole(out, earlier, run, warn)
            if whole == earlier.shards:
                if staging.exists():
                    with suppress(ResourceError), _alone(staging):  # of nobody who is still at it
                        shutil.rmtree(staging, ignore_errors=True)
                return earlier
        _agree_with(staging / PLAN, plan, out, is_known=earlier is not None)
        with _alone(staging), spread(workers, dask) as run:
            first = partial(_first_pass, plan, jobs, layout, staging, run, on_progress)
            files = first()
            note(f"{sum(item.entries for item in plan.sources)} entries read, their jets are dealt to shards")
            # Known only now, and whoever goes on from here finds the same.
            plan = decide(plan, {r.path: f.largest.tolist() for r, f in zip(plan.sources, files, strict=True)})
            layout = replace(layout, halved=plan.halved)
            shards = _second_pass(plan, files, first, layout, out, run, whole, warn)
        notes: Counter[str] = Counter(plan.notes)
        for file in files:
            notes.update(file.notes)
        dataset = plan.model_copy(update={"notes": dict(sorted(notes.items())), "shards": shards})
        if not dataset.count("train"):
            flow = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in notes.items())
            what = f"no jet left for training of {sum(item.entries for item in plan.sources)} read"
            raise DataError(what + (f" ({flow})" if flow else ""), where=out, do="give more files, or --split 1:0:0")
        write_dataset(out, dataset)
        shutil.rmtree(staging, ignore_errors=True)
    except OSError as problem:
        why = problem.strerror or str(problem)
        do = "free space or choose another folder, then run the same command: finished parts are kept"
        raise ResourceError(f"cannot write ({why})", where=out, do=do) from problem
    return dataset


def _plan(inputs: Sequence[InputFile], card: DataCard, chosen: Preparation) -> tuple[Dataset, list[Job], Layout]:
    """Everything that decides the result, with the files in the order of their checksums."""
    features = feature_set(chosen.features)
    labelled = chosen.labels and bool(card.labels or any(file.class_name for file in inputs))
    names = class_names(card, inputs, None) if labelled else ()
    stored = stored_in_all(inputs, card, tuple(card.jet))
    by = chosen.split_by
    if by == "auto":
        by = "event_number" if "event_number" in stored else "file" if len(inputs) >= MANY_FILES else "entry"
    elif by == "event_number" and by not in stored:
        raise DataError("not every file has an event_number to split by", do="use --split-by file")
    columns = (*stored, *(name for name in ALWAYS if name not in stored))
    jobs, notes = plan_files(inputs, card, features.fields, columns, names if labelled else None)
    records: dict[str, tuple[Recorded, Job]] = {}
    alike: dict[str, tuple[Recorded, Job]] = {}  # by their ends, as copies at addresses are known
    for job in jobs:
        record = _record(job)
        same = records.get(record.sha256) or alike.get(record.ends)
        if same and (same[0].sha256 == record.sha256 or job.file.url or same[1].file.url):
            raise DataError(f"the same content as {same[0].path}", where=record.path, do="give each file once")
        records[record.sha256] = (record, job)
        if record.ends and (record.ends not in alike or job.file.url):
            alike[record.ends] = (record, job)
    ordered = [records[digest] for digest in sorted(records)]
    rule = SplitRule(by=by, fractions=chosen.fractions)
    plan = Dataset(
        features=chosen.features,
        feature_names=features.names,
        feature_dtype=chosen.dtype,
        column_dtypes=dict(sorted(chosen.column_dtypes.items())),
        class_names=names,
        jet_columns=columns,
        max_constituents=chosen.max_constituents,
        seed=chosen.seed,
        shard_jets=chosen.shard_jets,
        split=rule,
        card=card,
        sources=tuple(record for record, _ in ordered),
        notes=notes,
    )
    entries = sum(record.entries for record, _ in ordered)
    train, val, test = (max(round(entries * fraction / chosen.shard_jets), 1) for fraction in chosen.fractions)
    layout = Layout(
        card,
        chosen.features,
        chosen.max_constituents,
        columns,
        chosen.seed,
        rule,
        (train, val, test),
    )
    return plan, [job for _, job in ordered], layout


def _record(job: Job) -> Recorded:
    """A file with what tells its content from another's."""
    return Recorded(**asdict(identify(job.file)), class_name=job.file.class_name, entries=job.entries)


def _earlier(out: Path, plan: Dataset) -> Dataset | None:
    """What an earlier call made of the same plan, where it came to an end."""
    if not (out / MANIFEST).is_file():
        return None
    found = read_dataset(out)
    if _identity(found) != _identity(plan):
        raise UsageError("the directory holds another data set already", where=out, do="choose another --out")
    return found


def _whole(out: Path, dataset: Dataset, run: Run, warn: Tell) -> dict[str, dict[str, Any]]:
    """The facts of those shards whose every byte is the one written."""
    tasks = [partial(_checked, name, out / name, facts) for name, facts in dataset.shards.items()]
    wrong = {name: what for name, what in run(tasks) if what}
    if wrong:
        first = min(wrong)
        warn(f"{len(wrong)} of {len(tasks)} shards are made again: {wrong[first]} in {out / first}")
    return {name: facts for name, facts in dataset.shards.items() if name not in wrong}


def _checked(name: str, path: Path, facts: Mapping[str, Any]) -> tuple[str, str]:
    return name, find_damage(path, facts)


def _identity(dataset: Dataset) -> dict[str, Any]:
    """What decides the shards: not where the files lie, nor what came of them."""
    content = dataset.model_dump(mode="json", exclude={"notes", "shards", "kept_f32"})
    return content | {"sources": [{**item, "path": "", "ends": ""} for item in content["sources"]]}


def _agree_with(path: Path, plan: Dataset, out: Path, *, is_known: bool) -> None:
    """Begin, or go on with the same plan; ``is_known`` says that the shards there may be its own."""
    wanted = json.dumps(_identity(plan), indent=1, sort_keys=True)
    if path.is_file():
        if path.read_bytes() != wanted.encode():
            do = f"repeat the command that began it, remove {path.parent}, or choose another --out"
            raise UsageError("another preparation was begun and not finished", where=out, do=do)
        return
    leftover = [name for name in SPLITS if (out / name).exists()]
    if leftover and not is_known:
        raise UsageError(f"the directory holds {leftover[0]} of something else", where=out, do="choose another --out")
    write_atomically(path, wanted)


@contextmanager
def _alone(staging: Path) -> Iterator[None]:
    """Hold the directory for this process; a second one is refused."""
    with (staging / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ResourceError("another process is preparing it", where=staging.parent, do="wait for it") from None
        yield


def _first_pass(
    plan: Dataset, jobs: Sequence[Job], layout: Layout, staging: Path, run: Run, on_progress: Progress | None
) -> list[Staged]:
    done = 0
    tasks = []
    for broken in staging.glob(f"*{PART}"):
        shutil.rmtree(broken, ignore_errors=True)
    for place, (record, job) in enumerate(zip(plan.sources, jobs, strict=True)):
        folder = staging / record.sha256
        if Staged.load(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)  # of another version, or damaged
            tasks.append(partial(_scatter, job, record.sha256, place, layout, folder))
        else:
            done += record.entries
    for entries in run(tasks):
        done += entries
        if on_progress:
            on_progress(done)
    staged = [Staged.load(staging / record.sha256) for record in plan.sources]
    if None in staged:
        do = "give an --out that all machines share under the same path"
        raise ResourceError("what the workers wrote is not seen here", where=staging.parent, do=do)
    return [file for file in staged if file is not None]


def _scatter(job: Job, sha256: str, place: int, layout: Layout, folder: Path) -> int:
    scatter(job, sha256, place, layout, folder)
    return job.entries


def _second_pass(
    plan: Dataset,
    files: Sequence[Staged],
    first: Callable[[], list[Staged]],
    layout: Layout,
    out: Path,
    run: Run,
    whole: Mapping[str, dict[str, Any]],
    warn: Tell,
) -> dict[str, dict[str, Any]]:
    """The facts of all shards, of which ``whole`` need not be made.

    Files whose streams the disk has damaged go through the first pass again, once.
    """
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, int] = {}
    names = [f"{split}/{n:05d}.safetensors" for split, k in zip(SPLITS, layout.buckets, strict=True) for n in range(k)]
    for bucket, name in enumerate(names):
        facts = whole.get(name) or describe(out / name)
        if facts is None:
            missing[name] = bucket
        else:
            found[name] = facts
    sources = {record.sha256: record.path for record in plan.sources}
    repaired: set[str] = set()
    while missing:
        damaged: dict[str, StreamDamage] = {}
        for name, made in run(
            [partial(_collect, files, bucket, layout, out, name) for name, bucket in missing.items()]
        ):
            if isinstance(made, StreamDamage):
                damaged[name] = made
            elif made is not None:
                found[name] = made
        for sha256, damage in sorted({damage.folder.name: damage for damage in damaged.values()}.items()):
            if sha256 in repaired:
                what = f"what was made of {sources[sha256]} is damaged again ({damage.what})"
                raise DataError(what, where=damage.where, do="check the disk, or choose an --out on another one")
            warn(f"{damage.what} in {damage.where}: {sources[sha256]} is read again")
            shutil.rmtree(damage.folder, ignore_errors=True)
            repaired.add(sha256)
        missing = {name: missing[name] for name in damaged}
        files = first() if damaged else files
    return {name: found[name] for split in SPLITS for name in sorted(found) if name.startswith(split)}


def _collect(
    files: Sequence[Staged], bucket: int, layout: Layout, out: Path, name: str
) -> tuple[str, dict[str, Any] | StreamDamage | None]:
    try:
        return name, collect(files, bucket, layout, out / name)
    except StreamDamage as damage:  # no reason to end the others
        return name, damage
