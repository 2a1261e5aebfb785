"""Trees of events seen as jets: candidates joined to their jets by index tables, or by distance."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import awkward as ak
import numpy as np
import numpy.typing as npt

from jettag.data.card import Join
from jettag.errors import DataError, nearest

__all__ = ["JoinedSource"]

EVENTS = 2000  # at a time: an event of a hundred candidates and ten jets is as much as fifty jets of a jet tree

Ints = npt.NDArray[np.int64]


class _Events(Protocol):
    """The source of events behind."""

    tree_name: str
    names: list[str]
    num_entries: int
    note: str

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` events at a time."""

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Close the file."""


class JoinedSource:
    """One entry a jet: ``tree_name``, ``names``, ``num_entries``, ``chunks``, as any source.

    Args:
        events: what it wraps, and closes.
        join: of the card.
        where: the file, for messages.

    Raises:
        DataError: branches that the join needs are absent.
    """

    def __init__(self, events: _Events, join: Join, where: str) -> None:
        self._events, self._join, self._where = events, join, where
        self.tree_name, self.note, self.names = events.tree_name, events.note, events.names
        prefixes = (join.candidates,) if isinstance(join.candidates, str) else join.candidates
        self._candidates = next((p for p in prefixes if any(n.startswith(p) for n in self.names)), prefixes[0])
        own = [name for name in self.names if name.startswith(join.jets)]
        if not own:
            raise self._absent(f"{join.jets}...")
        self._counting = own[0]
        if join.cone is None:
            self._jet_index, self._candidate_index = self._one(join.jet_index), self._one(join.candidate_index)
            self._links = self._jet_index.rpartition("_")[0] + "_"
            self._needed: tuple[str, ...] = (self._counting, self._jet_index, self._candidate_index)
        else:
            axes = [prefix + end for prefix in (join.jets, self._candidates) for end in (join.eta, join.phi)]
            self._needed = (self._counting, *(self._one(name) for name in axes))
        number = "n" + join.jets.rstrip("_.")  # NanoAOD stores how many: a flat branch is quicker to read
        count = ak.sum if number in self.names else ak.count
        source = number if number in self.names else self._counting
        self.num_entries = sum(
            int(count(chunk[source], axis=None)) for chunk in events.chunks([source], EVENTS * 10, events.num_entries)
        )

    def _one(self, names: str | tuple[str, ...] | None) -> str:
        choices = (names,) if isinstance(names, str) else names or ()
        for name in choices:
            if name in self.names:
                return name
        raise self._absent(" or ".join(choices))

    def _absent(self, what: str) -> DataError:
        hint = nearest(what.split(" or ")[0], self.names)
        return DataError(f"no branch {what}, by which the card joins candidates to jets", where=self._where, do=hint)

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` jets at a time, up to jet ``stop``."""
        given = 0
        wanted = list(dict.fromkeys((*names, *self._needed)))
        for chunk in self._events.chunks(wanted, EVENTS, self._events.num_entries):
            if given >= stop:
                return
            jets = self._jets(chunk, names)
            count = min(int(ak.count(chunk[self._counting], axis=None)), stop - given)
            for begin in range(0, count, entries):
                end = min(begin + entries, count)
                yield {name: column[begin:end] for name, column in jets.items()}
            given += count

    def _jets(self, chunk: Mapping[str, ak.Array], names: Sequence[str]) -> dict[str, ak.Array]:
        """Columns of all jets of some events."""
        per_event = _counts(chunk[self._counting])
        link_jet, candidate, link = self._links_of(chunk, per_event)
        counts = np.bincount(link_jet, minlength=int(per_event.sum()))
        result: dict[str, ak.Array] = {}
        for name in names:
            column = chunk[name]
            if column.ndim == 1:
                result[name] = ak.Array(np.repeat(ak.to_numpy(column), per_event))
            elif name.startswith(self._join.jets):
                self._same(name, column, per_event)
                result[name] = ak.flatten(column)
            elif name.startswith(self._candidates):
                result[name] = ak.unflatten(ak.flatten(column)[candidate], counts)
            elif link is not None and name.startswith(self._links):
                result[name] = ak.unflatten(ak.flatten(column)[link], counts)
            else:
                what = f"{name} belongs neither to {self._join.jets} nor to {self._candidates}"
                raise DataError(what, where=self._where, do="correct `join` on the card")
        return result

    def _same(self, name: str, column: ak.Array, per_event: Ints) -> None:
        if not np.array_equal(_counts(column), per_event):
            raise DataError(f"{name} and {self._counting} have different numbers of jets", where=self._where)

    def _links_of(self, chunk: Mapping[str, ak.Array], per_event: Ints) -> tuple[Ints, Ints, Ints | None]:
        """(L,) jet and candidate of each link, both counted through the chunk, by jet; and which link it was."""
        first_jet = np.concatenate([[0], np.cumsum(per_event)])
        if self._join.cone is not None:
            jet, candidate = self._within_cone(chunk, first_jet)
            order = np.argsort(jet, kind="stable")
            return jet[order], candidate[order], None
        jet, candidate = _flat(chunk[self._jet_index]), _flat(chunk[self._candidate_index])
        event = np.repeat(np.arange(len(per_event)), _counts(chunk[self._jet_index]))
        of_candidates = self._candidate_counts(chunk)
        first_candidate = np.concatenate([[0], np.cumsum(of_candidates)])
        for what, index, size in (("jet", jet, per_event), ("candidate", candidate, of_candidates)):
            if (bad := index >= size[event]).any():
                one = int(np.argmax(bad))
                problem = f"a link to {what} {index[one]} of the {size[event[one]]} its event has"
                raise DataError(problem, where=self._where, do="the index table is of another collection")
        linked = np.flatnonzero((jet >= 0) & (candidate >= 0))  # -1 links to nothing
        linked = linked[np.argsort(jet[linked] + first_jet[event[linked]], kind="stable")]
        at = event[linked]
        return jet[linked] + first_jet[at], candidate[linked] + first_candidate[at], linked

    def _candidate_counts(self, chunk: Mapping[str, ak.Array]) -> Ints:
        named = [name for name in chunk if name.startswith(self._candidates)]
        if not named:  # nothing of the candidates is asked for: their indices cannot be wrong
            largest = ak.fill_none(ak.max(chunk[self._candidate_index], axis=1), -1)
            return np.asarray(largest, dtype=np.int64) + 1
        counts = _counts(chunk[named[0]])
        for name in named[1:]:
            if not np.array_equal(_counts(chunk[name]), counts):
                what = f"{name} and {named[0]} have different numbers of candidates"
                raise DataError(what, where=self._where, do="the file is inconsistent")
        return counts

    def _within_cone(self, chunk: Mapping[str, ak.Array], first_jet: Ints) -> tuple[Ints, Ints]:
        """Each candidate with the nearest jet of its event, where it is near enough."""
        join = self._join
        eta, phi = (chunk[join.jets + end] for end in (join.eta, join.phi))
        own_eta, own_phi = (chunk[self._candidates + end] for end in (join.eta, join.phi))
        d_phi = (own_phi[:, :, None] - phi[:, None, :] + np.pi) % (2 * np.pi) - np.pi
        distance = np.sqrt((own_eta[:, :, None] - eta[:, None, :]) ** 2 + d_phi**2)
        # Events without jets have no nearest one: None there, and no distance below the cone.
        nearest_one = ak.fill_none(ak.argmin(distance, axis=2), -1)
        inside = ak.fill_none(ak.min(distance, axis=2) < join.cone, value=False)
        event = np.repeat(np.arange(len(own_eta)), _counts(own_eta))
        chosen = np.flatnonzero(ak.to_numpy(ak.flatten(inside)))
        return _flat(nearest_one)[chosen] + first_jet[event[chosen]], chosen

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._events.__exit__(None, None, None)


def _counts(column: ak.Array) -> Ints:
    return np.asarray(ak.to_numpy(ak.num(column)), dtype=np.int64)


def _flat(column: ak.Array) -> Any:
    return ak.to_numpy(ak.flatten(column)).astype(np.int64)
