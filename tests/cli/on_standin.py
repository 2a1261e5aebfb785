"""What test_standin starts: commands, one after the other, that find an accelerator which is none.

A second word, ``single``, takes double precision away from it.
"""

import contextlib
import json
import sys

import torch

import jettag.training.devices

from ..standin import DEVICE, no_doubles, on_standin

if __name__ == "__main__":
    # Before others take it by name.
    jettag.training.devices.choose_device = lambda name: torch.device("cpu") if name == "cpu" else DEVICE
    from jettag_cli.main import app

    from jettag.runs import device_check

    device_check.RECIPES = ("supervised",)  # the other takes a minute

    with on_standin(), no_doubles() if sys.argv[2:] == ["single"] else contextlib.nullcontext():
        for words in json.loads(sys.argv[1]):
            if code := app(words, standalone_mode=False):
                sys.exit(code)
