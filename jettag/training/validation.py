"""The validation loss."""

import torch
from torch import Tensor, nn

from jettag.data.jets import JetTable
from jettag.data.loader import once

__all__ = ["validate"]


@torch.no_grad()
def validate(model: nn.Module, table: JetTable, batch_size: int, device: torch.device, seed: int) -> dict[str, float]:
    """Mean of each loss per jet, in evaluation mode; what is hidden is drawn from ``seed``, so two calls agree."""
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    for _, jets in once(table, batch_size):
        for name, value in model(jets.to(device), generator).items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + value * len(jets)
    model.train(was_training)
    return {name: value.item() / len(table) for name, value in sums.items()}
