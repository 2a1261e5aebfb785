"""Vertices that were found against those that are there, by the definition of ATLAS's puma.

A vertex is a number >= 0 that at least two tracks of a jet share. True vertices count where all their tracks are of b
or c hadrons. Of the found ones that with most tracks predicted Primary is taken for the primary vertex and left out,
then those without any track predicted to be of a b or c hadron. Where origins are not predicted, the one with most
tracks is left out. Pairs of a true and a found vertex are matched one to one, most shared tracks first (ties: the
smaller true one, then the smaller found one), where they share 65 % of the true one and 50 % of the found one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jettag.config.flavour import ORIGINS

__all__ = ["VertexCounts", "count_vertices", "summary"]

RECALL, PURITY = 0.65, 0.5
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


def summary(counts: VertexCounts, jets: npt.NDArray[np.bool_]) -> dict[str, float | int | None]:
    """Efficiency and purity of vertices and of their tracks, and how often anything is found, for some of the jets.

    ``found_rate`` is the share of jets with a vertex found: of light jets, the fake rate. None is for a share of none.
    """
    totals = {name: int(getattr(counts, name)[jets].sum()) for name in VertexCounts.__dataclass_fields__}
    return {
        "jets": int(jets.sum()),
        "true": totals["true"],
        "found": totals["found"],
        "matched": totals["matched"],
        "efficiency": _ratio(totals["matched"], totals["true"]),
        "purity": _ratio(totals["matched"], totals["found"]),
        "track_efficiency": _ratio(totals["shared_tracks"], totals["true_tracks"]),
        "track_purity": _ratio(totals["shared_tracks"], totals["found_tracks"]),
        "found_rate": _ratio(int((counts.found[jets] > 0).sum()), int(jets.sum())),
    }
