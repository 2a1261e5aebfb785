"""Vertices are connected components: as scipy finds them, in any order of the tracks."""

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components

from jettag.models.vertices import components, vertex_index


def agree(adjacency, found):
    """The same partition, each part named by its first node."""
    for graph, numbers in zip(adjacency.numpy(), found.tolist(), strict=True):
        _, expected = connected_components(graph, directed=False)
        for node, number in enumerate(numbers):
            assert expected[node] == expected[number]
            assert number == np.flatnonzero(expected == expected[node])[0]


@pytest.mark.parametrize("nodes", [1, 2, 3, 8, 17, 40])
def test_components_of_random_graphs_are_scipys(nodes):
    generator = torch.Generator().manual_seed(nodes)
    share = torch.rand(50, 1, 1, generator=generator) * 2 / nodes
    adjacency = torch.rand(50, nodes, nodes, generator=generator) < share
    agree(adjacency, components(adjacency))


@pytest.mark.parametrize("nodes", [2, 3, 5, 64, 65, 66, 130])
def test_the_longest_paths_are_closed_by_the_fixed_number_of_squarings(nodes):
    """A chain in random order is the graph that takes most."""
    order = torch.randperm(nodes, generator=torch.Generator().manual_seed(0))
    adjacency = torch.zeros(1, nodes, nodes, dtype=torch.bool)
    adjacency[0, order[:-1], order[1:]] = True
    assert components(adjacency).eq(0).all()
    agree(adjacency, components(adjacency))


def test_vertices_are_numbered_by_their_first_track_and_padding_joins_nothing():
    probability = torch.zeros(1, 6, 6)
    for i, j, p in ((1, 3, 0.9), (3, 4, 0.6), (0, 5, 0.9), (2, 1, 0.4)):
        probability[0, i, j] = probability[0, j, i] = p
    track = torch.tensor([[True, True, True, True, True, False]])
    assert vertex_index(probability, track, 0.5).tolist() == [[0, 1, 2, 1, 1, -1]]
    assert vertex_index(probability, track, 0.7).tolist() == [[0, 1, 2, 1, 3, -1]]
    assert vertex_index(probability, track, 0.3).tolist() == [[0, 1, 1, 1, 1, -1]]
    # A track that is none would bridge two others.
    bridge = torch.ones(1, 3, 3)
    bridge[0, 0, 2] = bridge[0, 2, 0] = 0
    assert vertex_index(bridge, torch.tensor([[True, False, True]]), 0.5).tolist() == [[0, -1, 1]]
    assert vertex_index(bridge, torch.zeros(1, 3, dtype=torch.bool), 0.5).tolist() == [[-1, -1, -1]]


def test_clusters_follow_the_order_of_the_tracks():
    generator = torch.Generator().manual_seed(3)
    probability = torch.rand(20, 9, 9, generator=generator)
    probability = (probability + probability.transpose(1, 2)) / 2
    track = torch.rand(20, 9, generator=generator) > 0.2
    order = torch.randperm(9, generator=generator)
    before = vertex_index(probability, track, 0.8)[:, order]
    after = vertex_index(probability[:, order][:, :, order], track[:, order], 0.8)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[:, None] == a[None], b[:, None] == b[None])
        assert torch.equal(a < 0, b < 0)
