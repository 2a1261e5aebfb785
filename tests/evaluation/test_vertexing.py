"""Vertices of jets that were matched by hand."""

import math

import numpy as np
import pytest

from jettag.evaluation.flavour_plots import across_bins, scale_pt
from jettag.evaluation.vertex_plots import draw_vertices
from jettag.evaluation.vertex_report import vertex_lines
from jettag.evaluation.vertexing import against_number, against_pt, count_vertices, summary


def jets_of(*jets):
    """Arrays of several jets, each with true vertices, true origins, found vertices and predicted origins."""
    offsets = np.cumsum([0] + [len(jet[0]) for jet in jets])
    return offsets, *(np.concatenate([np.array(jet[k]) for jet in jets]) for k in range(4))


P, B, BC, C = 2, 3, 4, 5


def test_vertices_of_jets_that_were_matched_by_hand():
    right = ([0, 0, 1, 1, 1], [P, P, B, B, B], [0, 0, 1, 1, 1], [P, P, B, B, B])
    # Two of three true tracks and one of another vertex: recall 0.67, purity 0.67.
    enough = ([0, 0, 0, 1, 1, 1], [P, P, P, B, B, B], [0, 0, 1, 1, 1, 2], [P, P, P, B, B, B])
    # One of two true tracks: recall 0.5 is below 0.65.
    too_few = ([0, 0, 1, 1, 0], [P, P, B, B, P], [0, 0, 1, 2, 1], [P, P, B, B, B])
    # Predicted, but not there: the fake rate of light jets.
    fake = ([0, 0, 0, 0], [P, P, P, P], [0, 0, 1, 1], [P, P, C, P])
    nothing = ([-1], [-1], [-1], [-1])
    counts = count_vertices(*jets_of(right, enough, too_few, fake, nothing))
    assert counts.true.tolist() == [1, 1, 1, 0, 0]
    assert counts.found.tolist() == [1, 1, 1, 1, 0]
    assert counts.matched.tolist() == [1, 1, 0, 0, 0]
    found = summary(counts, np.array([True, True, True, False, False]))
    assert found["efficiency"] == pytest.approx(2 / 3)
    assert found["purity"] == pytest.approx(2 / 3)
    assert found["track_efficiency"] == pytest.approx(5 / 6)  # 3 of 3 and 2 of 3
    assert found["track_purity"] == pytest.approx(5 / 6)
    light = summary(counts, np.array([False, False, False, True, True]))
    assert light["found_rate"] == 0.5
    assert light["efficiency"] is None


def test_secondary_and_tertiary_vertices_are_one_when_they_are_taken_together():
    jet = ([0, 0, 1, 1, 2, 2], [P, P, B, B, BC, BC], [0, 0, 1, 1, 1, 1], [P, P, B, B, BC, BC])
    one_by_one = count_vertices(*jets_of(jet))
    together = count_vertices(*jets_of(jet), inclusive=True)
    assert (one_by_one.true[0], one_by_one.found[0], one_by_one.matched[0]) == (2, 1, 1)
    assert (together.true[0], together.found[0], together.matched[0]) == (1, 1, 1)


def test_cleaning_needs_purity_of_the_truth_and_a_heavy_track_of_the_found():
    mixed = ([1, 1, 2, 2], [B, P, C, C], [0, 0, 1, 1], [7, 7, C, 7])
    counts = count_vertices(*jets_of(mixed))
    assert counts.true[0] == 1  # the first has a primary track
    assert counts.found[0] == 1  # the first has no track predicted to be of a hadron
    assert counts.matched[0] == 1
    offsets, true_vertex, true_origin, vertex, _ = jets_of(
        ([0] * 3 + [1] * 2, [P] * 3 + [C] * 2, [0] * 3 + [1] * 2, [0] * 5)
    )
    without = count_vertices(offsets, true_vertex, true_origin, vertex, None)
    assert (without.found[0], without.matched[0]) == (1, 1)  # the largest is taken for the primary one


def test_against_pt_each_bin_counts_its_own_jets_and_intervals_are_those_of_so_few():
    right = ([0, 0, 1, 1, 1], [P, P, B, B, B], [0, 0, 1, 1, 1], [P, P, B, B, B])
    too_few = ([0, 0, 1, 1, 0], [P, P, B, B, P], [0, 0, 1, 2, 1], [P, P, B, B, B])
    fake = ([0, 0, 0, 0], [P, P, P, P], [0, 0, 1, 1], [P, P, C, P])
    nothing = ([-1], [-1], [-1], [-1])
    counts = count_vertices(*jets_of(right, right, too_few, fake, nothing))
    pt = np.array([29.9, 30.0, 39.0, 20.0, 39.0])
    heavy = np.array([True, True, True, False, False])
    rows = against_pt(counts, heavy, pt, (20, 30, 40, 60))
    assert [(row["pt_low"], row["pt_high"], row["true"], row["matched"]) for row in rows] == [
        (20, 30, 1, 1),
        (30, 40, 2, 1),
    ]
    # One of one: p = 0.16 at the lower edge. One of two: 1 - (1 - p)^2 = 0.16 below, 1 - p^2 = 0.16 above.
    assert (rows[0]["efficiency"], rows[0]["efficiency_high"]) == (1, 1)
    assert rows[0]["efficiency_low"] == pytest.approx(0.16)
    assert rows[1]["efficiency"] == rows[1]["purity"] == 0.5
    assert rows[1]["efficiency_low"] == pytest.approx(1 - math.sqrt(0.84))
    assert rows[1]["efficiency_high"] == pytest.approx(math.sqrt(0.84))
    light = against_pt(counts, ~heavy, pt, (20, 30, 40, 60))
    assert [row["found_rate"] for row in light] == [1, 0]
    assert light[1]["found_rate_high"] == pytest.approx(0.84)  # none of one: 1 - p = 0.16
    assert light[0]["efficiency"] is light[0]["efficiency_low"] is None
    assert light[0]["purity"] == 0

    text = "\n".join(
        vertex_lines(
            {
                "vertices": {"exclusive": {"b": summary(counts, heavy)}},
                "vertices_by_pt": {"exclusive": {"b": rows}, "inclusive": {"b": rows}},
                "vertices_by_number": {"b": against_number(counts, heavy)},
            }
        )
    )
    assert "| b | 20-30 | 1 [0.16, 1] | 1 [0.16, 1] | 1 [0.16, 1] | 1 [0.16, 1] | 1 [0.16, 1] |" in text
    figure = draw_vertices({kind: {"b": rows, "light": light} for kind in ("exclusive", "inclusive")})
    efficiency, _, share = figure.axes
    assert [text.get_text() for text in efficiency.get_legend().get_texts()] == ["b", "b, together"]
    assert [text.get_text() for text in share.get_legend().get_texts()] == ["b", "light"]
    (low, _), (left, right) = across_bins(rows, 0, 3)  # the first of three: a quarter into its bin
    assert (low, left[0], right[0]) == (22.5, 2.5, 7.5)
    scale_pt(share, [{"pt_low": 250, "pt_high": 6000}])
    assert [label.get_text() for label in share.get_xticklabels()] == ["500", "1000", "2000", "5000"]


def test_by_number_jets_with_many_vertices_are_counted_together():
    def jet(vertices, found):
        tracks = [number for number in range(1, vertices + 1) for _ in range(2)]
        kept = [number if number <= found else -1 for number in tracks]
        return [0, 0, *tracks], [P, P] + [B] * len(tracks), [0, 0, *kept], [P, P] + [B] * len(tracks)

    counts = count_vertices(*jets_of(jet(0, 0), jet(1, 1), jet(2, 1), jet(3, 2), jet(5, 1)))
    rows = against_number(counts, np.ones(5, dtype=bool))
    assert [(row["vertices"], row["jets"], row["true"], row["matched"]) for row in rows] == [
        (0, 1, 0, 0),
        (1, 1, 1, 1),
        (2, 1, 2, 1),
        (3, 2, 8, 3),
    ]
    assert [row["vertices"] for row in against_number(counts, np.array([True, False, False, False, True]))] == [0, 3]
