"""One loop for every objective: schedules, averages, exact resume, checkpoints that are whole or absent."""

from jettag.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_last_good,
    load_model_state,
    resolve_checkpoint,
)
from jettag.training.limits import Limits
from jettag.training.loop import train
from jettag.training.restore import Tagger, load_backbone, load_tagger
from jettag.training.trainer import Trainer

__all__ = [
    "Checkpoint",
    "Limits",
    "Tagger",
    "Trainer",
    "load_backbone",
    "load_checkpoint",
    "load_last_good",
    "load_model_state",
    "load_tagger",
    "resolve_checkpoint",
    "train",
]
