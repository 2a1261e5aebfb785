"""What test_nullgpu starts: commands, one after the other, whose steps wait for no GPU from the third on.

After each this process says on which GPUs it did anything, and what NCCL exchanged since it began.
"""

import contextlib
import json
import sys
from typing import Any

from jettag_cli.main import app

from jettag.runs import holding
from jettag.training import Trainer
from jettag.training.distributed import join

from ..nullgpu.inside import no_waiting, traffic

update = Trainer.update


def without_waiting(self: Trainer, *args: Any) -> Any:
    """A step, whose losses nobody looks at: none was computed, and what memory happened to hold may not be finite."""
    # In its second step DDP orders gradients as they came in the first, and times some steps by the events of others.
    with no_waiting(but_for_events=True) if self.step > 1 else contextlib.nullcontext():
        losses = update(self, *args)
    self.unchecked.clear()
    return losses


if __name__ == "__main__":
    Trainer.update = without_waiting
    with join() as world:  # once: processes do not meet again at the same place
        holding.join = lambda: contextlib.nullcontext(world)
        for words in json.loads(sys.argv[1]):
            if code := app(words, standalone_mode=False):
                sys.exit(code)
            sys.stderr.write(f"traffic {json.dumps(traffic())}\n")
