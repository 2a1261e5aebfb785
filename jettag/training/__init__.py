"""One loop for every objective: schedules, averages, exact resume, checkpoints that are whole or absent."""

from jettag.training.checkpoint import Checkpoint, load_checkpoint, load_model_state, resolve_checkpoint
from jettag.training.loop import Limits, Trainer, train
from jettag.training.restore import Tagger, load_backbone, load_tagger

__all__ = [
    "Checkpoint",
    "Limits",
    "Tagger",
    "Trainer",
    "load_backbone",
    "load_checkpoint",
    "load_model_state",
    "load_tagger",
    "resolve_checkpoint",
    "train",
]
