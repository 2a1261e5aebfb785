"""The memory of the loader is that of a window, whatever the size of the data."""

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

BATCH = 64
COPIES = 60
TRAIN = """
import sys
from pathlib import Path
from jettag.data.card import load_card
from jettag.data.loader import Loader
from jettag.data.opening import expand_data, open_jets

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

card = load_card("generated")
def loader(folder, batch_size):
    table = open_jets(expand_data([folder]), card, split="train", features="jetclass_full", labels=True)
    return Loader(table, batch_size=batch_size, seed=0)

next(loader(sys.argv[1], 1))  # a few jets, so that every library has what it keeps
before = peak()
loader = loader(sys.argv[2], 64)
jets = sum(len(next(loader)) for _ in range(loader.batches_per_epoch))
print(jets, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_epoch_of_ten_budgets_fits_in_one(tmp_path):
    """The budget is six windows: one in use, one being loaded, what is made of them, and what the allocator keeps."""
    write_tree(tmp_path / "jets.root", "tree", [make_columns(4000, longest=80)], metadata={})
    small, large = tmp_path / "small", tmp_path / "large"
    chosen = Preparation(fractions=(1, 0, 0))
    dataset = prepare(expand_inputs([tmp_path / "jets.root"]), load_card("generated"), small, chosen)
    ((name, facts),) = dataset.shards.items()
    (large / "train").mkdir(parents=True)
    manifest = json.loads((small / "dataset.json").read_text())
    manifest["shards"] = {f"train/{number:05d}.safetensors": facts for number in range(COPIES)}
    for copy in manifest["shards"]:
        os.link(small / name, large / copy)
    (large / "dataset.json").write_text(json.dumps(manifest))

    budget = 6 * WINDOW * BATCH * facts["bytes"] / facts["jets"]
    assert COPIES * facts["bytes"] > 9.5 * budget
    run = subprocess.run([sys.executable, "-c", TRAIN, small, large], capture_output=True, text=True, check=True)
    jets, grown = map(int, run.stdout.split())
    assert jets == COPIES * 4000
    assert grown < budget, f"{grown / budget:.2f} of the budget"
