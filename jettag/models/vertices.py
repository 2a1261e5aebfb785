"""Vertices from pairs of tracks: connected components of all jets at once, on the device.

The adjacency matrix with ones on its diagonal, squared k times and cut back to zeros and ones, says which tracks a path
of at most 2^k edges joins. So ceil(log2(N - 1)) squarings are enough for any graph of N tracks: a fixed number, no loop
that asks the device whether it has ended.
"""

import math

import torch
from torch import Tensor

__all__ = ["components", "vertex_index"]

NO_VERTEX = -1


def components(adjacency: Tensor, squarings: int | None = None) -> Tensor:
    """Lowest node that each node is connected with.

    Args:
        adjacency: (B, N, N) bool; an edge in one direction is one in both.
        squarings: how often to square; where not given, enough for N nodes.

    Returns:
        (B, N) int64; equal numbers are one component.
    """
    nodes = adjacency.shape[-1]
    if squarings is None:
        squarings = max(math.ceil(math.log2(max(nodes - 1, 1))), 0)
    node = torch.arange(nodes, device=adjacency.device)
    joined = adjacency | adjacency.transpose(1, 2) | (node[:, None] == node)
    for _ in range(squarings):
        paths = joined.float()  # counts of paths up to N: exact in float32
        joined = paths @ paths > 0.5
    return joined.to(torch.int64).argmax(2)  # the first of the ones


def vertex_index(probability: Tensor, track: Tensor, threshold: float, squarings: int | None = None) -> Tensor:
    """The vertex of each track, numbered from 0 in the order of its first track.

    Args:
        probability: (B, N, N) that two tracks are from one vertex.
        track: (B, N) bool.
        threshold: pairs at or above it are joined.
        squarings: as for `components`.

    Returns:
        (B, N) int64; -1 where there is no track.
    """
    edges = (probability >= threshold) & track[:, :, None] & track[:, None]
    lowest = components(edges, squarings)
    is_first = (lowest == torch.arange(track.shape[1], device=track.device)) & track
    number = torch.cumsum(is_first.to(torch.int64), 1) - 1
    return number.gather(1, lowest).masked_fill(~track, NO_VERTEX)
