"""What turns an embedding into numbers of a task."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["ClassHead"]


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
        logits: Tensor = self.layers(embedding)
        return logits
