"""Memory is that of a window, whatever the size of the data: of a loader, of each of several ranks, of `prepare`."""

import json
import os
import subprocess
import sys

import pytest

from jettag.data.card import load_card
from jettag.data.loader import WINDOW
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs
from jettag.data.root import write_tree

from .make import make_columns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

BATCH = 64
COPIES = 60
PEAK = """
import sys
from pathlib import Path

def number(file, name):
    return next(int(line.split()[1]) for line in open(file) if line.startswith(name)) * 1024

def peak():
    return number("/proc/self/status", "VmHWM")
"""
TRAIN = (
    PEAK
    + """
from jettag.data.card import load_card
from jettag.data.loader import Loader
from jettag.data.opening import expand_data, open_jets
from jettag.data.prefetch import Prefetched

rank, ranks = map(int, sys.argv[3:5])
card = load_card("generated")
def loader(folder, batch_size):
    table = open_jets(expand_data([folder]), card, split="train", features="jetclass_full", labels=True)
    return Loader(table, batch_size=batch_size, seed=0, rank=rank, world_size=ranks)

with Prefetched(loader(sys.argv[1], 2), 2) as few:
    next(few)  # a few jets, so that every library has what it keeps
before = peak()
loader = loader(sys.argv[2], 64)
steps, jets, rows, pss = loader.batches_per_epoch, 0, 0, 0
with Prefetched(loader, 2) as batches:
    for step in range(steps):
        jets += len(next(batches))
        rows += int(batches.origin()["entry"].sum())
        if step % 500 == 0:  # takes the kernel a while; shared pages count by their share
            pss = max(pss, number("/proc/self/smaps_rollup", "Pss:"))
print(steps, jets, rows, peak() - before, pss)
"""
)
PREPARE = (
    PEAK
    + """
from jettag.data.card import load_card
from jettag.data.prepare import Preparation, prepare
from jettag.data.read import expand_inputs

chosen = Preparation(shard_jets=int(sys.argv[2]), fractions=(1, 0, 0))
prepare(expand_inputs(sys.argv[3:5]), load_card("generated"), Path(sys.argv[1]) / "first", chosen)
before = peak()
dataset = prepare(expand_inputs(sys.argv[3:]), load_card("generated"), Path(sys.argv[1]) / "all", chosen)
print(dataset.count("train"), peak() - before)
"""
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """4000 jets in one shard."""
    folder = tmp_path_factory.mktemp("memory")
    write_tree(folder / "jets.root", "tree", [make_columns(4000, longest=80)], metadata={})
    chosen = Preparation(fractions=(1, 0, 0))
    prepare(expand_inputs([folder / "jets.root"]), load_card("generated"), folder / "small", chosen)
    return folder


@pytest.fixture(scope="module")
def large(small):
    """The same shard sixty times, as links: 240,000 jets that cost no disk."""
    folder = small / "large"
    (folder / "train").mkdir(parents=True)
    manifest = json.loads((small / "small" / "dataset.json").read_text())
    ((name, facts),) = manifest["shards"].items()
    manifest["shards"] = {f"train/{number:05d}.safetensors": facts for number in range(COPIES)}
    for copy in manifest["shards"]:
        os.link(small / "small" / name, folder / copy)
    del manifest["checksum"]  # of what it said before
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder, facts


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epoch_of_ten_budgets_fits_in_one_on_every_rank(small, large, ranks):
    """The budget is six windows: one in use, one being loaded, what is made of them, and what the allocator keeps.

    Ranks run side by side, take as many steps as each other, and see every jet once together.
    """
    folder, facts = large
    budget = 6 * WINDOW * BATCH * facts["bytes"] / facts["jets"]
    assert COPIES * facts["bytes"] > 9.5 * budget
    command = [sys.executable, "-c", TRAIN, small / "small", folder]
    runs = [
        subprocess.Popen([*command, str(rank), str(ranks)], stdout=subprocess.PIPE, text=True) for rank in range(ranks)
    ]
    found = [tuple(map(int, run.communicate()[0].split())) for run in runs]
    steps, jets, rows, grown, _ = zip(*found, strict=True)
    assert set(steps) == {COPIES * 4000 // BATCH}
    assert set(jets) == {COPIES * 4000 // ranks}
    assert sum(rows) == COPIES * sum(range(4000))  # the entries of all jets, each copy once
    assert max(grown) < budget, f"{max(grown) / budget:.2f} of the budget"


def test_both_passes_of_prepare_fit_in_a_tenth_of_the_data(tmp_path):
    """What ten files need beyond what two of them needed; each is a chunk of pass one and five shards of pass two."""
    columns = make_columns(5000, longest=80)
    for number in range(10):
        columns["event_number"] = columns["event_number"] + 5000
        write_tree(tmp_path / f"{number}.root", "tree", [columns], metadata={})
    files = [tmp_path / f"{number}.root" for number in range(10)]
    command = [sys.executable, "-c", PREPARE, tmp_path, "1000", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    jets, grown = map(int, done.stdout.split())
    assert jets == 50_000
    total = sum(path.stat().st_size for path in (tmp_path / "all" / "train").glob("*.safetensors"))
    assert grown < total / 10, f"{grown / total:.2f} of the data"
