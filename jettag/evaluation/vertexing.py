"""Vertices that were found against those that are there, by the definition of ATLAS's puma.

A vertex is a number >= 0 that at least two tracks of a jet share. True vertices count where all their tracks are of b
or c hadrons. Of the found ones that with most tracks predicted Primary is taken for the primary vertex and left out,
then those without any track predicted to be of a b or c hadron. Where origins are not predicted, the one with most
tracks is left out. Pairs of a true and a found vertex are matched one to one, most shared tracks first (ties: the
smaller true one, then the smaller found one), where they share 65 % of the true one and 50 % of the found one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from jettag.config.flavour import ORIGINS
from jettag.evaluation.metrics import clopper_pearson

__all__ = ["MANY", "VertexCounts", "against_number", "against_pt", "count_vertices", "summary"]

RECALL, PURITY = 0.65, 0.5
MANY = 3  # true vertices in a jet; more are counted with these
PRIMARY = ORIGINS.index("Primary")
HEAVY = tuple(ORIGINS.index(name) for name in ("FromB", "FromBC", "FromC"))

Ints = npt.NDArray[np.int64]
Sets = list[frozenset[int]]


@dataclass(frozen=True)
class VertexCounts:
    """Of each jet, (J,) int64: true and found vertices, matched ones, and their tracks."""

    true: Ints
    found: Ints
    matched: Ints
    true_tracks: Ints
    found_tracks: Ints
    shared_tracks: Ints


def _vertices(number: Ints) -> Sets:
    """Sets of tracks, in the order of their numbers."""
    values, counts = np.unique(number[number >= 0], return_counts=True)
    return [frozenset(np.flatnonzero(number == value).tolist()) for value in values[counts >= 2]]


def _clean_true(vertices: Sets, origin: Ints) -> Sets:
    return [vertex for vertex in vertices if all(origin[track] in HEAVY for track in vertex)]


def _clean_found(vertices: Sets, origin: Ints | None) -> Sets:
    if not vertices:
        return []
    if origin is None:
        largest = max(range(len(vertices)), key=lambda place: len(vertices[place]))
        return [vertex for place, vertex in enumerate(vertices) if place != largest]
    primary = [sum(origin[track] == PRIMARY for track in vertex) for vertex in vertices]
    if max(primary):
        first = int(np.argmax(primary))
        vertices = [vertex for place, vertex in enumerate(vertices) if place != first]
    return [vertex for vertex in vertices if any(origin[track] in HEAVY for track in vertex)]


def _merged(vertices: Sets) -> Sets:
    return [frozenset().union(*vertices)] if vertices else []


def _match(true: Sets, found: Sets) -> Iterator[tuple[int, int, int]]:
    """(true, found, shared tracks) of each match."""
    shared = [(len(t & f), i, j) for i, t in enumerate(true) for j, f in enumerate(found) if t & f]
    shared.sort(key=lambda entry: (-entry[0], len(true[entry[1]]), len(found[entry[2]]), entry[1], entry[2]))
    taken_true: set[int] = set()
    taken_found: set[int] = set()
    for count, i, j in shared:
        if i in taken_true or j in taken_found:
            continue
        taken_true.add(i)
        taken_found.add(j)
        if count >= RECALL * len(true[i]) and count >= PURITY * len(found[j]):
            yield i, j, count


def count_vertices(
    offsets: Ints,
    true_vertex: Ints,
    true_origin: Ints,
    vertex: Ints,
    origin: Ints | None,
    *,
    inclusive: bool = False,
) -> VertexCounts:
    """Count the vertices of every jet.

    Args:
        offsets: (J + 1,) where each jet's tracks begin.
        true_vertex: (M,) number of each track's true vertex, negative without one.
        true_origin: (M,) index into `ORIGINS`, negative without one.
        vertex: (M,) number of the vertex it was put in, negative without one.
        origin: (M,) predicted index into `ORIGINS`; None where it is not predicted.
        inclusive: put all vertices that are left in a jet together, true ones and found ones.
    """
    counts = np.zeros((6, len(offsets) - 1), dtype=np.int64)
    for jet, (low, high) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        true = _clean_true(_vertices(true_vertex[low:high]), true_origin[low:high])
        found = _clean_found(_vertices(vertex[low:high]), None if origin is None else origin[low:high])
        if inclusive:
            true, found = _merged(true), _merged(found)
        matches = list(_match(true, found))
        counts[:, jet] = (
            len(true),
            len(found),
            len(matches),
            sum(len(true[i]) for i, _, _ in matches),
            sum(len(found[j]) for _, j, _ in matches),
            sum(shared for _, _, shared in matches),
        )
    return VertexCounts(*counts)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _share(name: str, part: int, whole: int) -> dict[str, float | None]:
    """A share and the 68 % Clopper-Pearson interval of its count."""
    if not whole:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    low, high = clopper_pearson(part, whole)
    return {name: part / whole, f"{name}_low": float(low), f"{name}_high": float(high)}


def summary(counts: VertexCounts, jets: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Efficiency and purity of vertices and of their tracks, and how often anything is found, for some of the jets.

    ``found_rate`` is the share of jets with a vertex found: of light jets, the fake rate. ``_low`` and ``_high`` are
    68 % Clopper-Pearson intervals, as if vertices were independent. None is for a share of none.
    """
    totals = {name: int(getattr(counts, name)[jets].sum()) for name in VertexCounts.__dataclass_fields__}
    return {
        "jets": int(jets.sum()),
        "true": totals["true"],
        "found": totals["found"],
        "matched": totals["matched"],
        **_share("efficiency", totals["matched"], totals["true"]),
        **_share("purity", totals["matched"], totals["found"]),
        "track_efficiency": _ratio(totals["shared_tracks"], totals["true_tracks"]),
        "track_purity": _ratio(totals["shared_tracks"], totals["found_tracks"]),
        **_share("found_rate", int((counts.found[jets] > 0).sum()), int(jets.sum())),
    }


def against_pt(
    counts: VertexCounts, jets: npt.NDArray[np.bool_], pt: npt.NDArray[np.float64], edges: Sequence[float]
) -> list[dict[str, Any]]:
    """The `summary` of some of the jets in each bin of pT [GeV] that has any of them."""
    inside = ((low, high, jets & (pt >= low) & (pt < high)) for low, high in pairwise(edges))
    return [{"pt_low": low, "pt_high": high, **summary(counts, rows)} for low, high, rows in inside if rows.any()]


def against_number(counts: VertexCounts, jets: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The `summary` of some of the jets by how many true vertices they have: none, one, two, three or more."""
    number = np.minimum(counts.true, MANY)
    groups = ((count, jets & (number == count)) for count in range(MANY + 1))
    return [{"vertices": count, **summary(counts, rows)} for count, rows in groups if rows.any()]
