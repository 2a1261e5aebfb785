"""What test_standin starts: commands, one after the other, that find an accelerator which is none."""

import json
import sys

import jettag.training.distributed

from ..standin import DEVICE, on_standin

if __name__ == "__main__":
    jettag.training.distributed.choose_device = lambda _: DEVICE  # before others take it by name
    from jettag_cli.main import app

    with on_standin():
        for words in json.loads(sys.argv[1]):
            app(words, standalone_mode=False)
