"""LoRA: low-rank updates of a backbone's matrices (Hu et al., arXiv:2106.09685).

W + alpha / r * B A with A (r, inputs) drawn Kaiming-uniform and B (outputs, r) zero, so that an adapted network is at
first the network it was. The packed projection of queries, keys and values has an update for each of them.

The update is one of the matrix, not a second path beside it, because attention here uses its matrices in rearranged
products. Dropout therefore hides the same inputs of A from all constituents of a batch, where the paper draws for each.
"""

import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from jettag.errors import CheckpointError, RecipeError, nearest
from jettag.models.particle_transformer import ParticleTransformer

__all__ = ["TARGETS", "LowRankUpdate", "adapters", "add_lora", "draw_dropout", "merge_lora"]

# Target: the linear layer of a block it is in, and which of the layer's equal row slices it is.
TARGETS: dict[str, tuple[str, int, int]] = {
    "q": ("qkv", 0, 3),
    "k": ("qkv", 1, 3),
    "v": ("qkv", 2, 3),
    "out": ("out", 0, 1),
    "fc1": ("fc1", 0, 1),
    "fc2": ("fc2", 0, 1),
}


class LowRankUpdate(nn.Module):
    """W -> W + alpha / r * B A on some of the equal row slices of W.

    Args:
        outputs: rows of W.
        inputs: columns of W.
        slices: which slices are updated.
        num_slices: how many there are.
        rank: r.
        alpha: strength.
        dropout: probability of hiding an input from A.
    """

    def __init__(
        self,
        outputs: int,
        inputs: int,
        *,
        slices: Sequence[int] = (0,),
        num_slices: int = 1,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        self.slices = tuple(slices)
        self.num_slices = num_slices
        self.scale = alpha / rank
        self.dropout = dropout
        self.lora_a = nn.Parameter(torch.empty(len(slices), rank, inputs))
        self.lora_b = nn.Parameter(torch.zeros(len(slices), outputs // num_slices, rank))
        for a in self.lora_a:
            nn.init.kaiming_uniform_(a, a=math.sqrt(5))  # the paper's code
        self.kept: Tensor | None = None

    def draw(self) -> None:
        """Draw what dropout hides until the next call: one forward and backward pass sees one matrix."""
        self.kept = None
        if self.training and self.dropout:
            drawn = torch.rand(self.lora_a.shape[-1], device=self.lora_a.device) >= self.dropout
            self.kept = drawn.to(self.lora_a.dtype) / (1 - self.dropout)

    def forward(self, weight: Tensor) -> Tensor:
        """(outputs, inputs) -> the updated matrix."""
        a = self.lora_a if self.kept is None or not self.training else self.lora_a * self.kept
        update = torch.bmm(self.lora_b, a) * self.scale
        parts = dict(zip(self.slices, update, strict=True))
        rows = weight.view(self.num_slices, -1, weight.shape[1])
        return torch.cat([row + parts[i] if i in parts else row for i, row in enumerate(rows)])


def add_lora(
    backbone: ParticleTransformer,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.05,
    targets: Sequence[str] = ("q", "k", "v", "out"),
) -> None:
    """Put updates on the matrices of every block, and leave nothing else to be trained but layer norms and tokens.

    BatchNorm, embeddings, biases and NormFormer's scales stay as they are.

    Raises:
        RecipeError: an unknown target.
    """
    for target in targets:
        if target not in TARGETS:
            raise RecipeError(f"unknown target {target!r}", where="adaptation.lora", do=nearest(target, TARGETS))
    backbone.requires_grad_(False)
    for module in backbone.modules():
        if isinstance(module, nn.LayerNorm):
            module.requires_grad_(True)
    for token in (backbone.class_token, backbone.registers):
        if token is not None:
            token.requires_grad_(True)
    if backbone.embedding.joining_linear is not None:  # features it was not pre-trained on
        backbone.embedding.joining_linear.requires_grad_(True)
    layers: dict[str, list[int]] = {}
    for target in TARGETS:
        if target in targets:
            layers.setdefault(TARGETS[target][0], []).append(TARGETS[target][1])
    parts = {layer: parts for layer, _, parts in TARGETS.values()}
    for block in (*backbone.blocks, *backbone.class_blocks):
        for name, slices in layers.items():
            linear = cast("nn.Linear", getattr(block, name))
            update = LowRankUpdate(
                linear.out_features,
                linear.in_features,
                slices=slices,
                num_slices=parts[name],
                rank=rank,
                alpha=alpha,
                dropout=dropout,
            )
            parametrize.register_parametrization(linear, "weight", update.to(linear.weight.device))


def adapters(backbone: nn.Module) -> Iterator[LowRankUpdate]:
    """The updates in a backbone; none where it has not been adapted."""
    return (module for module in backbone.modules() if isinstance(module, LowRankUpdate))


def draw_dropout(backbone: nn.Module) -> None:
    """Draw the dropout of every update anew."""
    for update in adapters(backbone):
        update.draw()


def merge_lora(backbone: ParticleTransformer) -> ParticleTransformer:
    """Add the updates to the matrices and take them off: a plain network with the outputs it had in evaluation.

    Raises:
        CheckpointError: there are none.
    """
    adapted = [module for module in backbone.modules() if parametrize.is_parametrized(module, "weight")]
    if not adapted:
        raise CheckpointError("the backbone has no low-rank updates to merge")
    for update in adapters(backbone):
        update.eval()
    for module in adapted:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return backbone
