"""What turns an embedding into numbers of a task."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from jettag.models.attention import ClassBlock, hide
from jettag.models.precision import unrounded

__all__ = ["AttentiveHead", "ClassHead"]


class ClassHead(nn.Module):
    """Class logits of a jet embedding: one linear layer as published, or hidden layers before it.

    Args:
        dim: width D of the embedding.
        num_classes: C.
        hidden: widths of hidden layers, each linear, ReLU, dropout as in weaver-core's ``fc_params``.
        dropout: after each hidden layer.
    """

    def __init__(self, dim: int, num_classes: int, *, hidden: Sequence[int] = (), dropout: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.num_classes = num_classes
        self.hidden = tuple(hidden)
        widths = [dim, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, embedding: Tensor) -> Tensor:
        """(B, D) -> (B, C) logits."""
        return _unrounded(self.layers, embedding)


class AttentiveHead(nn.Module):
    """Class logits read off the constituents of a jet: one class-attention block of its own, norm, linear.

    Args:
        dim: width D of the constituents.
        num_classes: C.
        num_heads: H; divides ``dim``.
        mlp_ratio: hidden width of the block's MLP over ``dim``.
    """

    def __init__(self, dim: int, num_classes: int, *, num_heads: int, mlp_ratio: int = 2) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.block = ClassBlock(dim, num_heads, mlp_ratio=mlp_ratio, drop=0.0, attention_drop=0.0, drop_path=0.0)
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.Linear(dim, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.token, std=0.02)

    def forward(self, constituents: Tensor, mask: Tensor) -> Tensor:
        """(B, N, D) constituents, (B, N) bool where they are real -> (B, C) logits."""
        hidden = hide(nn.functional.pad(mask, (1, 0), value=True), constituents)  # the token sees itself
        token = self.block(self.token.expand(len(mask), -1, -1), constituents, hidden)
        return _unrounded(self.layers, self.norm(token[:, 0]))


def _unrounded(layers: nn.Module, x: Tensor) -> Tensor:
    """Logits in the precision of the weights, in mixed precision too: in bf16 the scores of many jets would tie."""
    with unrounded(x):
        logits: Tensor = layers(x.to(next(layers.parameters()).dtype))
    return logits
