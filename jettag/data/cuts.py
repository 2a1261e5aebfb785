"""Where the jets of a window, in their order, are cut into batches."""

import itertools

import numpy as np
import numpy.typing as npt

__all__ = ["cut", "cut_by_tokens"]

Index = npt.NDArray[np.int64]
Edges = list[tuple[int, int]]


def cut(jets: int, batch_size: int, least: int = 1) -> Edges:
    """(begin, end) of batches of ``batch_size``; a last one with fewer jets than ``least`` joins the one before."""
    edges = [*range(0, jets, batch_size), jets]
    if len(edges) > 2 and edges[-1] - edges[-2] < least:
        del edges[-2]
    return list(itertools.pairwise(edges))


def cut_by_tokens(counts: Index, batch_size: int, max_tokens: int, least: int = 1) -> Edges:
    """(begin, end) of batches of as many jets as ``max_tokens`` padded constituents and ``batch_size`` allow.

    It begins at the end, where jets sorted by length are longest. What is left at the beginning shares the jets of its
    neighbour, so that no batch has a few jets only: with sorted jets the smallest has half as many as the one of the
    longest jets, or all there are.

    Args:
        counts: (J,) constituents of each jet; ascending where they are sorted.
        batch_size: most jets in a batch.
        max_tokens: most constituents in a batch, each jet padded to its longest. A single jet may exceed it.
        least: jets that a batch has whatever its tokens, as far as there are so many.
    """
    edges = [len(counts)]
    while edges[-1]:
        tail = counts[max(edges[-1] - batch_size, 0) : edges[-1]][::-1]
        taken = min(max(_fitting(tail, max_tokens), least), len(tail))
        edges.append(edges[-1] - taken)
    edges.reverse()
    if len(edges) > 2:
        middle = edges[2] // 2
        edges[1] = max(edges[1], min(middle, _fitting(counts[:middle], max_tokens)))
        if edges[1] < least:
            del edges[1]
    return list(itertools.pairwise(edges))


def _fitting(counts: Index, max_tokens: int) -> int:
    """How many jets, from the first on, fit when padded to their longest; one at least."""
    padded = np.maximum.accumulate(counts) * np.arange(1, len(counts) + 1)
    return max(int(np.searchsorted(padded, max_tokens, side="right")), 1)
