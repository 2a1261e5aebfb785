"""How time and memory grow: with the number of jets in the data path, with constituents in the network.

Every point is measured in a process of its own, so that its peak of memory is its own: what the process has at most,
less what it has before the first jet. ``python -m jettag.scaling POINT`` measures one and prints it as JSON.
"""

import contextlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F

from jettag.data.card import load_card
from jettag.data.inputs import InputFile
from jettag.data.jets import JetTable
from jettag.data.loader import Loader
from jettag.data.opening import expand_data, open_jets
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs
from jettag.data.root import write_tree
from jettag.errors import ResourceError
from jettag.models import build_backbone
from jettag.objectives import Classification
from jettag.random_jets import random_table

__all__ = ["Point", "check_network", "constituent_scaling", "exponent", "growth", "jet_scaling", "weaver_ratios"]

DATA_FEATURES = "jetclass_kin"  # of random jets, which have four-momenta and nothing else
WIDTH = 17  # features of a constituent in the network's points: those of jetclass_full
CLASSES = 10
CHUNK = 10_000  # random jets written at a time
LOADER_BATCH = 512  # jets
STEPS = 3  # timed, after one that is not
LEARNING_RATE = 1e-3

Side = Literal["jettag", "weaver"]


@dataclass(frozen=True)
class Point:
    """One measured point.

    Attributes:
        what: ``loader``, ``train`` or ``infer``.
        side: whose.
        number: of jets (``loader``) or of constituents in each jet.
        jets: seen while the clock ran.
        jets_per_second: by the clock.
        jets_per_cpu_second: which other work on the machine does not change much.
        peak_bytes: of memory, above what the process had before the first jet; on CUDA, of the device.
        device: that did the work.
    """

    what: str
    side: str
    number: int
    jets: int
    jets_per_second: float
    jets_per_cpu_second: float
    peak_bytes: int
    device: str = "cpu"

    @property
    def rate(self) -> float:
        """Jets per second of whatever does the work: the CPU, or an accelerator, for which it waits."""
        return self.jets_per_second if self.device != "cpu" else self.jets_per_cpu_second


def exponent(numbers: Sequence[float], values: Sequence[float]) -> float | None:
    """Slope of a straight line through log value against log number; None for fewer than two usable points."""
    pairs = [(math.log(n), math.log(v)) for n, v in zip(numbers, values, strict=True) if n > 0 and v > 0]
    if len({x for x, _ in pairs}) < 2:
        return None
    x, y = np.array(pairs).T
    return float(np.polyfit(x, y, 1)[0])


def growth(points: Sequence[Point]) -> list[dict[str, Any]]:
    """``time_exponent`` and ``memory_exponent`` of each ``what`` and ``side``; None where one point was measured.

    Of the loader an epoch's time with its jets, of the network a jet's time with its constituents.
    """
    found = []
    for what, side in dict.fromkeys((point.what, point.side) for point in points):
        mine = [point for point in points if (point.what, point.side) == (what, side)]
        numbers = [point.number for point in mine]
        spent = [(point.jets if what == "loader" else 1) / point.rate for point in mine]
        powers = {
            "time_exponent": exponent(numbers, spent),
            "memory_exponent": exponent(numbers, [point.peak_bytes for point in mine]),
        }
        found.append({"what": what, "side": side, **powers})
    return found


def weaver_ratios(points: Sequence[Point]) -> list[float]:
    """Jettag's rate over weaver-core's, at every point that both have."""
    theirs = {(point.what, point.number): point.rate for point in points if point.side == "weaver"}
    mine = [point for point in points if point.side == "jettag" and (point.what, point.number) in theirs]
    return [point.rate / theirs[point.what, point.number] for point in mine]


def jet_scaling(
    numbers: Sequence[int],
    *,
    inputs: Sequence[InputFile] = (),
    card: str = "jetclass",
    features: str = "jetclass_full",
    on_point: Callable[[Point], None] | None = None,
) -> list[Point]:
    """An epoch of batches from shards, for each number of jets: files of the person, or random jets without files.

    The jets are prepared once for each number, as `jettag data prepare` does, into a temporary folder.

    Raises:
        DataError: the files cannot be used.
        ResourceError: the disk is full, or a measuring process died.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            place = Path(folder) / str(number)
            chosen = features if inputs else DATA_FEATURES
            files = inputs or expand_inputs([f"QCD:{_random_file(place, number)}"])
            preparation = Preparation(features=chosen, fractions=(1, 0, 0), labels=False)
            shards = place / "shards"
            prepare(files, load_card(card), shards, preparation)
            told = {"shards": str(shards), "card": card, "features": chosen}
            found.append(_measure("loader", "jettag", told, where=f"{number} jets"))
            if on_point:
                on_point(found[-1])
    return found


def constituent_scaling(
    numbers: Sequence[int],
    *,
    size: str,
    batch_size: int,
    device: str,
    weaver: bool = False,
    on_point: Callable[[Point], None] | None = None,
) -> list[Point]:
    """Steps of training and inference on random jets that have exactly so many constituents each.

    Raises:
        ResourceError: weaver-core is asked for and not installed, or the memory is too small.
    """
    sides: tuple[Side, ...] = ("jettag", "weaver") if weaver else ("jettag",)
    found = []
    for number in numbers:
        for what in ("train", "infer"):
            for side in sides:
                told = {"number": number, "size": size, "batch_size": batch_size, "device": device}
                found.append(_measure(what, side, told, where=f"{number} constituents"))
                if on_point:
                    on_point(found[-1])
    return found


def check_network(size: str, *, weaver: bool) -> None:
    """See, before minutes of jets, that there is a network to measure.

    Raises:
        RecipeError: an unknown size.
        ResourceError: weaver-core is asked for and not installed.
    """
    from jettag.benchmarks import weaver_twin

    network = Classification(build_backbone("particle_transformer", size, WIDTH), CLASSES)
    if weaver:
        weaver_twin(network)


def _measure(what: str, side: Side, told: dict[str, Any], *, where: str) -> Point:
    """One point, in a process of its own."""
    request = json.dumps({"what": what, "side": side, **told})
    command = [sys.executable, "-m", "jettag.scaling", request]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise ResourceError(
            f"{what} at {where} cannot be measured ({last[:200]})", do="lower --most-jets or --batch-size"
        )
    return Point(**json.loads(done.stdout.splitlines()[-1]))


def _random_file(folder: Path, jets: int) -> Path:
    """A ROOT file of random jets: four-momenta, and event numbers."""

    def chunks() -> Iterator[dict[str, Any]]:
        import awkward as ak

        for begin in range(0, jets, CHUNK):
            table = random_table(min(CHUNK, jets - begin), num_features=1, seed=begin)
            momenta = {
                f"part_{name}": ak.unflatten(table.p4[:, i], table.counts)
                for i, name in enumerate(("px", "py", "pz", "energy"))
            }
            yield momenta | {"event_number": np.arange(begin, begin + len(table))}

    path = folder / "jets.root"
    write_tree(path, "tree", chunks(), metadata={})
    return path


def _peak() -> int:
    """Most memory this process has had, in bytes; where Linux tells, without what its parent had when it began."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _loader(shards: str, card: str, features: str) -> dict[str, Any]:
    table = open_jets(expand_data([shards]), load_card(card), split="train", features=features, labels=False)
    # What every library keeps comes with the first jets and counts before, not as memory that grows.
    next(Loader(table, batch_size=1, seed=1))
    before = _peak()
    begin = _clocks()
    loader = Loader(table, batch_size=LOADER_BATCH, seed=0)
    jets = sum(len(next(loader)) for _ in range(loader.batches_per_epoch))
    return {"number": jets, "jets": jets, **_rates(jets, begin), "peak_bytes": max(_peak() - before, 0)}


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _rates(jets: int, begin: tuple[float, float]) -> dict[str, float]:
    wall, cpu = (now - then for now, then in zip(_clocks(), begin, strict=True))
    return {"jets_per_second": jets / wall, "jets_per_cpu_second": jets / cpu}


def _equal_jets(jets: int, constituents: int) -> JetTable:
    """Random jets of exactly so many constituents."""
    random = np.random.default_rng(0)
    pt = -np.sort(-np.exp(random.normal(1.5, 1.2, (jets, constituents))), axis=1).reshape(-1)
    eta, phi = random.normal(0, 0.3, (2, jets * constituents))
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    return JetTable(
        features=random.normal(size=(jets * constituents, WIDTH)).astype(np.float32),
        p4=p4.astype(np.float32),
        offsets=np.arange(jets + 1, dtype=np.int64) * constituents,
        feature_names=tuple(f"feature_{i}" for i in range(WIDTH)),
        label=random.integers(0, CLASSES, jets),
        class_names=tuple(f"class_{i}" for i in range(CLASSES)),
    )


def _network(what: str, side: Side, number: int, size: str, batch_size: int, device: str) -> dict[str, Any]:
    from jettag.benchmarks import weaver_twin

    place = torch.device(device)
    torch.manual_seed(0)
    ours = Classification(build_backbone("particle_transformer", size, WIDTH), CLASSES)
    network, logits = (ours, ours.logits) if side == "jettag" else weaver_twin(ours)
    network.to(place).train(what == "train")
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    jets = _equal_jets(batch_size, number).batch(np.arange(batch_size)).to(place)
    before = _peak()
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
        before = torch.cuda.memory_allocated(place)
    begin = _clocks()
    for step in range(STEPS + 1):
        if step == 1:
            begin = _clocks()
        if what == "infer":
            with torch.inference_mode():
                logits(jets).sum().item()
            continue
        optimizer.zero_grad()
        assert jets.label is not None  # random jets have labels
        loss = F.cross_entropy(logits(jets), jets.label)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
    rates = _rates(STEPS * batch_size, begin)
    peak = _peak()
    if place.type == "cuda":
        peak = torch.cuda.max_memory_allocated(place)
    elif place.type == "mps":  # which keeps what it had, and is not this process's
        before, peak = 0, torch.mps.driver_allocated_memory()
    seen = {"number": number, "jets": STEPS * batch_size, "device": place.type}
    return seen | rates | {"peak_bytes": max(peak - before, 0)}


def _main(request: str) -> None:
    told = json.loads(request)
    what, side = told.pop("what"), told.pop("side")
    found = _loader(**told) if what == "loader" else _network(what, side, **told)
    sys.stdout.write(json.dumps(asdict(Point(what=what, side=side, **found))) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1])
