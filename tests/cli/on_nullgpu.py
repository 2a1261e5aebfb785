"""What test_nullgpu starts: commands, one after the other, whose steps wait for no GPU from the third on.

After each this process says on which GPUs it did anything, and what NCCL exchanged since it began.
"""

import contextlib
import json
import sys
from typing import Any

from jettag_cli.main import app
from torch._dynamo.utils import counters

from jettag.models import compiling
from jettag.runs import holding
from jettag.training import Trainer
from jettag.training.distributed import join

from ..nullgpu.inside import no_waiting, traffic

update = Trainer.update


def without_waiting(self: Trainer, *args: Any) -> Any:
    """A step, whose losses nobody looks at: none was computed, and what memory happened to hold may not be finite."""
    made = counters["stats"]["unique_graphs"]
    # In its second step DDP orders gradients as they came in the first, and times some steps by the events of others.
    with no_waiting(but_for_events=True) if self.step > 1 else contextlib.nullcontext():
        losses = update(self, *args)
    if self.step > 1:
        assert counters["stats"]["unique_graphs"] == made, "blocks were compiled again"
    self.unchecked.clear()
    return losses


if __name__ == "__main__":
    Trainer.update = without_waiting
    Trainer.refuse_bad_validation = lambda *_: None
    compiling.BACKEND = "eager"  # training/on_nullgpu.py has what inductor makes
    with join() as world:  # once: processes do not meet again at the same place
        holding.join = lambda: contextlib.nullcontext(world)
        for words in json.loads(sys.argv[1]):
            if code := app(words, standalone_mode=False):
                sys.exit(code)
            sys.stderr.write(f"traffic {json.dumps({**traffic(), 'programs': counters['stats']['unique_graphs']})}\n")
