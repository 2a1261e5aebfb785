"""Choose the checkpoint of a weak training without labels: ARGOS (arXiv:2511.14832) on held-out mixtures.

The cross entropy of two mixtures hardly moves where little signal is in them, and its minimum says little of the
signal found; ARGOS is proportional to the significance improvement.
"""

import numpy as np
import torch

from jettag.data.jets import Table
from jettag.data.once import once
from jettag.objectives import Classification, Objective
from jettag.training.loop import Criterion
from jettag.weak.measures import argos

__all__ = ["ARGOS"]

BATCH_SIZE = 512  # jets; no gradients are held


@torch.no_grad()
def _argos(model: Objective, table: Table, device: torch.device) -> float:
    """ARGOS of the model's order of the held-out jets; class 0 is the sample with more signal."""
    assert isinstance(model, Classification)  # only `finetune` asks for it
    assert table.label is not None  # of jets that train
    was_training = model.training
    model.eval()
    score = np.empty(len(table))
    for index, jets in once(table, BATCH_SIZE, device):
        logits = model.logits(jets)
        score[index] = (logits[:, 0] - logits[:, 1]).cpu().numpy()
    model.train(was_training)
    return argos(score[table.label == 0], score[table.label == 1])


ARGOS = Criterion("argos", _argos)
