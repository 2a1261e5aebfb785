"""What the command line, a notebook and a test call: one function behind each command."""

from jettag.config.recipe import load_any_recipe, load_recipe
from jettag.runs.common import Sources, Told
from jettag.runs.exporting import export
from jettag.runs.finetuning import finetune
from jettag.runs.flavour_judging import Asking
from jettag.runs.importing import import_weaver
from jettag.runs.inference import embed, evaluate, predict
from jettag.runs.pretraining import pretrain
from jettag.runs.scan import LabelScan, scan_labels
from jettag.runs.scan_plan import Rules
from jettag.training.distributed import choose_device

__all__ = [
    "Asking",
    "LabelScan",
    "Rules",
    "Sources",
    "Told",
    "choose_device",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "import_weaver",
    "load_any_recipe",
    "load_recipe",
    "predict",
    "pretrain",
    "scan_labels",
]
