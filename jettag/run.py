"""What the command line, a notebook and a test call: one function behind each command."""

from jettag.config.recipe import load_any_recipe, load_recipe
from jettag.config.study import load_study
from jettag.runs.common import Sources, Told
from jettag.runs.exporting import export
from jettag.runs.finetuning import finetune
from jettag.runs.flavour_judging import Asking
from jettag.runs.importing import import_weaver
from jettag.runs.inference import embed, evaluate, predict
from jettag.runs.lhco import convert_lhco
from jettag.runs.pretraining import pretrain
from jettag.runs.scan import LabelScan, scan_labels
from jettag.runs.scan_plan import Rules
from jettag.runs.weak_calibration import calibration_study
from jettag.runs.weak_closure import closure
from jettag.runs.weak_data import WeakSources
from jettag.runs.weak_decorrelation import DECORRELATIONS, DecorrelationStudy, decorrelation_study
from jettag.runs.weak_hunt import FEWEST_RUNS, HUNT_FEATURES, HuntStudy, hunt_study
from jettag.runs.weak_outliers import OutlierStudy, outlier_study
from jettag.runs.weak_region import ResonanceStudy
from jettag.runs.weak_resonance import resonance_study
from jettag.runs.weak_shift import shift_study
from jettag.runs.weak_simulators import SimulatorStudy, simulator_study
from jettag.runs.weak_study import NETWORKS, WeakStudy, default_rows, weak_study
from jettag.training.devices import choose_device, has_fast_bf16, in_precision
from jettag.weak.autoencoders import AutoencoderSettings
from jettag.weak.flow import FlowSettings
from jettag.weak.hunt import HuntPlan, mass_edges
from jettag.weak.resonance import ResonanceSettings
from jettag.weak.windows import Window

__all__ = [
    "DECORRELATIONS",
    "FEWEST_RUNS",
    "HUNT_FEATURES",
    "NETWORKS",
    "Asking",
    "AutoencoderSettings",
    "DecorrelationStudy",
    "FlowSettings",
    "HuntPlan",
    "HuntStudy",
    "LabelScan",
    "OutlierStudy",
    "ResonanceSettings",
    "ResonanceStudy",
    "Rules",
    "SimulatorStudy",
    "Sources",
    "Told",
    "WeakSources",
    "WeakStudy",
    "Window",
    "calibration_study",
    "choose_device",
    "closure",
    "convert_lhco",
    "decorrelation_study",
    "default_rows",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "has_fast_bf16",
    "hunt_study",
    "import_weaver",
    "in_precision",
    "load_any_recipe",
    "load_recipe",
    "load_study",
    "mass_edges",
    "outlier_study",
    "predict",
    "pretrain",
    "resonance_study",
    "scan_labels",
    "shift_study",
    "simulator_study",
    "weak_study",
]
