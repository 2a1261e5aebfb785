"""How fast jets come, from shards and from ROOT, beside bare uproot and weaver-core's loader on the same files."""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jettag.data.card import DataCard
from jettag.data.features import feature_set
from jettag.data.inputs import InputFile
from jettag.data.labels import class_names
from jettag.data.loader import Loader
from jettag.data.opening import expand_data, open_jets
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import plan_files, read_table
from jettag.data.remote import Remote
from jettag.data.root import iterate_bare, uproot_as_it_comes
from jettag.data.weaver_loader import SLICE, import_weaver, weaver_batches
from jettag.errors import DataError

__all__ = ["FEATURES", "LoaderRates", "measure_loader"]

FEATURES = "jetclass_full"


@dataclass(frozen=True)
class LoaderRates:
    """Jets per CPU second of this process, all its threads together; the median over rounds, files in the page cache.

    Attributes:
        jets: of the files, which every side reads whole in every round.
        constituents: mean of a jet, after the cut.
        prepare: `jettag data prepare` with one worker, once.
        shards: padded, shuffled, bucketed batches from shards, checksums included.
        root: files to a table in memory, features and checks included.
        root_batches: the same, and the table once through the loader.
        uproot: ``uproot.iterate`` over the same branches as it comes, and nothing done with them.
        uproot_unpacked: the same where ZLIB is unpacked as jettag does it.
        weaver: padded, shuffled batches of weaver-core's `SimpleIterDataset`, which reads whole files as the others do;
            None where it was not asked for.
        weaver_slices: the same, once, as its command line does it by itself, and the published training on JetClass
            (train_JetClass.sh of jet-universe/particle_transformer): a hundredth of every file at a time.
    """

    jets: int
    constituents: float
    prepare: float
    shards: float
    root: float
    root_batches: float
    uproot: float
    uproot_unpacked: float
    weaver: float | None
    weaver_slices: float | None


def measure_loader(
    inputs: Sequence[InputFile],
    card: DataCard,
    *,
    against_weaver: bool,
    batch_size: int = 512,
    rounds: int = 3,
    on_progress: Callable[[int], None] | None = None,
) -> LoaderRates:
    """Time all sides in turn, round by round, after one round that fills caches and compiles what others compile.

    Args:
        inputs: from `expand_inputs`; of JetClass's branch names where weaver-core is to read them.
        card: from `load_card`.
        against_weaver: whether to time weaver-core's loader.
        batch_size: jets in a batch.
        rounds: timed ones.
        on_progress: called with the number of jets read so far, all sides together.

    Raises:
        DataError: a file cannot be used, or has other branch names than weaver-core's configuration.
        ResourceError: weaver-core is asked for and not installed.
    """
    if against_weaver:
        import_weaver()  # before the minute that the rest takes
    names = class_names(card, inputs, None)
    jobs, _ = plan_files(inputs, card, feature_set(FEATURES).fields, (), names)
    branches = [(*job.binding.branches, *(job.labels.branches if job.labels else ())) for job in jobs]
    jets = sum(job.entries for job in jobs)
    if against_weaver and any(file.url for file in inputs):
        raise DataError("weaver-core reads no addresses", where=inputs[0].address, do="copy the files here first")
    if against_weaver and not {"part_px", "part_d0val"} <= set(branches[0]):
        raise DataError("weaver-core's configuration is for JetClass's branch names", where=inputs[0].address)

    def table() -> int:
        return len(read_table(inputs, card, features=FEATURES, labels=True))

    def batches() -> int:
        return _epoch(Loader(read_table(inputs, card, features=FEATURES, labels=True), batch_size=batch_size, seed=0))

    def unpacked() -> int:
        places = [Remote(job.file.url) if job.file.url else job.file.path for job in jobs]
        return sum(iterate_bare(place, card.tree, found) for place, found in zip(places, branches, strict=True))

    def bare() -> int:
        with uproot_as_it_comes():
            return unpacked()

    def weaver(share: float = 1) -> int:
        paths = [str(file.path) for file in inputs]
        with uproot_as_it_comes():
            return weaver_batches(paths, card.tree, names, Path(folder), batch_size, share)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "shards"
        begin = time.process_time()
        dataset = prepare(inputs, card, out, Preparation(features=FEATURES, fractions=(1, 0, 0)))
        prepared = time.process_time() - begin
        on_disk = open_jets(expand_data([out]), card, split="train", features=FEATURES, labels=True)
        loader = Loader(on_disk, batch_size=batch_size, seed=0)
        sides: dict[str, Callable[[], int]] = {
            "shards": lambda: _epoch(loader),
            "root": table,
            "root_batches": batches,
            "uproot": bare,
            "uproot_unpacked": unpacked,
        }
        if against_weaver:
            sides["weaver"] = weaver
        last = {"weaver_slices": lambda: weaver(SLICE)} if against_weaver else {}
        rates: dict[str, list[float]] = {name: [] for name in (*sides, *last)}
        read = 0
        for number in range(rounds + 1):
            for name, side in (sides if number < rounds else sides | last).items():
                begin = time.process_time()
                seen = side()
                spent = time.process_time() - begin
                if number:
                    rates[name].append(seen / spent)
                read += seen
                if on_progress:
                    on_progress(read)
        mean = sum(facts["constituents"] for facts in dataset.shards.values()) / dataset.count("train")
    median = {name: statistics.median(values) for name, values in rates.items()}
    peers = (median.pop("weaver", None), median.pop("weaver_slices", None))
    return LoaderRates(jets, mean, jets / prepared, weaver=peers[0], weaver_slices=peers[1], **median)


def _epoch(loader: Loader) -> int:
    """Jets of one epoch's batches."""
    return sum(len(next(loader)) for _ in range(loader.batches_per_epoch))
