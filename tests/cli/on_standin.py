"""What test_standin starts: commands, one after the other, that find an accelerator which is none.

A second word, ``single``, takes double precision away from it.
"""

import contextlib
import json
import sys

import jettag.training.devices

from ..standin import DEVICE, no_doubles, on_standin

if __name__ == "__main__":
    jettag.training.devices.choose_device = lambda _: DEVICE  # before others take it by name
    from jettag_cli.main import app

    with on_standin(), no_doubles() if sys.argv[2:] == ["single"] else contextlib.nullcontext():
        for words in json.loads(sys.argv[1]):
            if code := app(words, standalone_mode=False):
                sys.exit(code)
