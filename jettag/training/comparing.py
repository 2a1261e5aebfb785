"""Losses that compare the jets of a batch, where the batch is cut in pieces: GradCache (Gao et al., arXiv:2101.06983).

Every piece is first embedded without gradients. The whole batch is then compared, over all processes, and the gradient
of that loss in the embeddings is taken. With it each piece has a loss of its own: embedded again, with gradients and
from the same random numbers, it moves the parameters as it would have within the whole, for one more forward pass.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from jettag.models.randomness import forked
from jettag.objectives import Objective
from jettag.objectives.contrastive import Compared
from jettag.training.pieces import Piece

__all__ = ["compare"]


def compare(
    model: Objective,
    parallel: Callable[..., dict[str, Tensor]],
    pieces: Sequence[Piece],
    *,
    total: int,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> list[Compared]:
    """What comparing a whole batch gives each of this process's pieces.

    Random states and buffers (batch statistics) are left as they were: the pieces meet them again.

    Args:
        model: whose loss compares jets.
        parallel: the model as it is called in training.
        pieces: from `jettag.training.pieces.cut`.
        total: jets of the batch, over all processes.
        device: where the model is.
        autocast: mixed precision, or none.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with forked(device), torch.no_grad():
        looked = []
        for jets, rows, _ in pieces:
            with autocast():
                looked.append(parallel(jets, drawn=rows, look=True))
        for buffer, value in before:
            buffer.copy_(value)
    points = [seen["points"] for seen in looked]
    whole = torch.cat(points).requires_grad_()
    losses = model.compare(whole, torch.cat([seen["jet"] for seen in looked]))
    losses.pop("weight")
    (pull,) = torch.autograd.grad(losses["loss"] * (len(whole) / total), whole)
    told = {name: value.detach() for name, value in losses.items()}
    counts = [len(piece) for piece in points]
    return [Compared(told, part * (total / len(part))) for part in torch.split(pull, counts)]
