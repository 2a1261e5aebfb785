"""Jets that a frozen backbone sees once: afterwards batches carry its embeddings, in the order they would come anyway.

Without BatchNorm statistics or dropout to change, a jet's embedding is the same at every step, but for the rounding of
another padding. So a linear probe costs one pass of the backbone, whatever the number of epochs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from jettag.data.jets import Jets, JetTable, PackedJets, Table
from jettag.objectives import Classification
from jettag.training.distributed import ALONE, World

__all__ = ["KNOWN", "EmbeddedTable", "embedded"]

BATCH_SIZE = 512  # jets; no gradients are held
WINDOW = 64  # batches read at once from a table on disk
KNOWN = "embedding of the frozen backbone"  # jet column (J, S D) of whoever has asked it already
LARGEST = 4_000_000_000  # bytes of embeddings kept in memory; where more are needed the backbone runs at every step

Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Window(JetTable):
    """Some jets with their embeddings.

    Attributes:
        embedding: (J, D), or (M, D) of constituents, row by row with ``offsets``.
        is_frozen: whether batches are still to carry embeddings.
        original: the jets themselves, and their rows there.
    """

    embedding: npt.NDArray[np.float32] = None  # type: ignore[assignment]  # after fields that have defaults
    is_frozen: Callable[[], bool] = bool
    original: Callable[[], tuple[JetTable, Index]] = None  # type: ignore[assignment]

    def batch(self, index: Index, width: int | None = None) -> Jets:
        if not self.is_frozen():  # the backbone was set free within this window
            table, rows = self.original()
            return table.batch(rows[index], width)
        label = None if self.label is None else torch.from_numpy(self.label[index])
        if len(self.embedding) == len(self):
            own = torch.from_numpy(self.embedding[index])
            jets = Jets(own[:, None], torch.zeros(len(index), 1, 4), torch.ones(len(index), 1, dtype=torch.bool))
            return replace(jets, label=label, embedding=own)
        jets = JetTable.batch(self._embedded(), index, width)
        return replace(jets, embedding=jets.features)

    def pack(self, index: Index, width: int | None = None) -> PackedJets:
        if not self.is_frozen():
            table, rows = self.original()
            return table.pack(rows[index], width)
        if len(self.embedding) != len(self):
            return replace(JetTable.pack(self._embedded(), index, width), embeds="constituents")
        return PackedJets(
            features=torch.from_numpy(self.embedding[index]),
            p4=torch.zeros(len(index), 4),
            counts=torch.ones(len(index), dtype=torch.int64),
            width=1,
            label=None if self.label is None else torch.from_numpy(self.label[index]),
            embeds="jets",
        )

    def _embedded(self) -> "_Window":
        """These jets with embeddings for features."""
        return replace(self, features=self.embedding, p4=np.zeros((len(self.embedding), 4), np.float32))


class EmbeddedTable:
    """A table whose batches carry embeddings while the backbone is frozen; a `jettag.data.jets.Table`.

    The embeddings are computed when they are first asked for, but for a table that has them as jet column `KNOWN`.

    Args:
        table: the jets.
        model: whose backbone embeds them.
        device: where.
        note: told once, before the work.
        world: the processes that share the work.
    """

    def __init__(
        self,
        table: Table,
        model: Classification,
        device: torch.device,
        *,
        note: Callable[[str], None] = lambda _: None,
        world: World = ALONE,
    ) -> None:
        self._table, self._model, self._device, self._note, self._world = table, model, device, note, world
        self._embedding: npt.NDArray[np.float32] | None = None
        self._starts: Index = np.concatenate([[0], np.cumsum(table.block_sizes)]).astype(np.int64)

    feature_names = property(lambda self: self._table.feature_names)
    class_names = property(lambda self: self._table.class_names)
    notes = property(lambda self: self._table.notes)
    label = property(lambda self: self._table.label)
    class_counts = property(lambda self: self._table.class_counts)
    block_sizes = property(lambda self: self._table.block_sizes)
    identity = property(lambda self: self._table.identity)

    def __len__(self) -> int:
        return len(self._table)

    def sample_features(self, constituents: int, seed: int) -> npt.NDArray[np.float32]:
        """As the jets' own table."""
        return self._table.sample_features(constituents, seed)

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[Index | None, Mapping[str, npt.NDArray]]]:
        """As the jets' own table."""
        return self._table.scan(columns)

    @property
    def embeddings(self) -> npt.NDArray[np.float32]:
        """(J, S D) of the jets in the order of the table, or (M, D) of their constituents."""
        if self._embedding is None and isinstance(self._table, JetTable) and not self._model.constituents_are_read:
            known = self._table.jet.get(KNOWN)
            self._embedding = known if known is not None and known.shape[1] == self._model.embedding_dim else None
        if self._embedding is None:
            self._note(f"the frozen backbone embeds {len(self)} jets, once")
            self._embedding = self._embed()
        return self._embedding

    def load(self, blocks: Index) -> tuple[JetTable, Index]:
        """The jets of these blocks; with embeddings, where the backbone is frozen."""
        if not self._model.is_frozen:
            return self._table.load(blocks)
        embedding = self.embeddings
        loaded, rows = self._table.load(blocks)
        if self._model.constituents_are_read:
            whole = cast("JetTable", self._table)
            return self._window(whole, np.arange(len(whole)), embedding), rows
        sizes = self.block_sizes[blocks]
        begins = np.cumsum(sizes) - sizes
        places = np.repeat(self._starts[blocks] - begins, sizes) + np.arange(sizes.sum())
        return self._window(loaded, rows, embedding[places]), np.arange(len(rows))

    def _window(self, loaded: JetTable, rows: Index, embedding: npt.NDArray[np.float32]) -> _Window:
        counts = loaded.offsets[rows + 1] - loaded.offsets[rows]
        return _Window(
            features=loaded.features[:0],
            p4=loaded.p4[:0],
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            feature_names=loaded.feature_names,
            label=None if loaded.label is None else loaded.label[rows],
            class_names=loaded.class_names,
            jet={name: column[rows] for name, column in loaded.jet.items()},
            embedding=embedding,
            is_frozen=lambda: self._model.is_frozen,
            original=lambda: (loaded, rows),
        )

    @torch.no_grad()
    def _embed(self) -> npt.NDArray[np.float32]:
        """(J, D), or (M, D) of constituents; each process does its share of the batches."""
        model, dim = self._model, self._model.embedding_dim
        by_constituent = model.constituents_are_read
        length = int(cast("JetTable", self._table).offsets[-1]) if by_constituent else len(self)
        found = np.zeros((length, dim), dtype=np.float32)
        number = 0
        for low, high in self._stretches():
            loaded, rows = self._table.load(np.arange(low, high))
            order = np.argsort(-(loaded.offsets[rows + 1] - loaded.offsets[rows]), kind="stable")
            for begin in range(0, len(order), BATCH_SIZE):
                number += 1
                if number % self._world.size != self._world.rank:
                    continue
                chosen = order[begin : begin + BATCH_SIZE]
                jets = loaded.batch_for(self._device, rows[chosen]).to(self._device)
                values = model.embed(jets).float()
                if by_constituent:
                    counts = loaded.counts[chosen]
                    ends = np.cumsum(counts)
                    places = np.repeat(loaded.offsets[chosen] - (ends - counts), counts) + np.arange(ends[-1])
                    found[places] = values[jets.mask].cpu().numpy()
                else:
                    found[self._starts[low] + chosen] = values.cpu().numpy()
        return self._world.sum(torch.from_numpy(found)).numpy()

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """Blocks that are read together, in order."""
        width = len(self) if isinstance(self._table, JetTable) else WINDOW * BATCH_SIZE
        low, last = 0, len(self._starts) - 1
        while low < last:
            high = max(int(np.searchsorted(self._starts, self._starts[low] + width, side="right")) - 1, low + 1)
            yield low, high
            low = high


def embedded(
    table: Table, model: Classification, device: torch.device, note: Callable[[str], None], world: World = ALONE
) -> Table:
    """``table`` with the frozen backbone's embeddings, where they fit into memory; else the table as it is."""
    if model.constituents_are_read:
        rows = int(table.offsets[-1]) if isinstance(table, JetTable) else None
    else:
        rows = len(table)
    if rows is None or 4 * rows * model.embedding_dim > LARGEST:
        note("the embeddings of all jets do not fit into memory: the frozen backbone runs at every step")
        return table
    return EmbeddedTable(table, model, device, note=note, world=world)
