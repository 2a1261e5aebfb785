"""The `Jets` batch that models see, the `PackedJets` that travel to an accelerator, and the `JetTable` of both.

Letters used for tensor shapes throughout: B jets, N constituents, F features, D width, H heads, C classes;
in a table J jets and M constituents of all jets together.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jettag.data.transfer import reads_beside, sent

__all__ = ["CPU", "NO_TRUTH", "TRUTH", "Batch", "JetTable", "Jets", "PackedJets", "Table", "concatenate"]

TRUTH = ("origin", "vertex")  # constituent columns that batches carry where a table has them
NO_TRUTH = -1  # of neutral constituents and padding
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Jets:
    """A padded batch; padded entries are zero and ``mask`` is True where a constituent is real.

    Attributes:
        features: (B, N, F) float32, standardised.
        p4: (B, N, 4) float32, (px, py, pz, energy) in GeV.
        mask: (B, N) bool.
        label: (B,) int64 index into the table's class names, or None.
        weight: (B,) float32 loss weights, or None for ones.
        embedding: (B, D), or (B, N, D) of constituents, where a frozen backbone has seen the jets already.
        origin: (B, N) int64 true origin of each track, -1 where there is none (neutral, padding); or None.
        vertex: (B, N) int64 number of the true production vertex of each track in its jet, negative where there is
            none; or None.
        columns: (B, K) float32 of the jet columns that were asked for, in GeV, mm, rad; or None.
    """

    features: Tensor
    p4: Tensor
    mask: Tensor
    label: Tensor | None = None
    weight: Tensor | None = None
    embedding: Tensor | None = None
    origin: Tensor | None = None
    vertex: Tensor | None = None
    columns: Tensor | None = None

    def __len__(self) -> int:
        return len(self.mask)

    def to(self, device: torch.device | str) -> "Jets":
        """The same batch on a device; the copy does not wait."""
        return _each(self, lambda x: sent(x, device))

    def pad(self, only: Collection[str] | None = None) -> "Jets":  # noqa: ARG002
        """This batch: it is padded."""
        return self

    def rows(self, chosen: slice) -> "Jets":
        """Some of the jets, padded as before."""
        return _each(self, lambda x: x[chosen])

    def keep(self, kept: Tensor, width: int | None = None) -> "Jets":
        """Only the constituents where ``kept`` (B, N) is True, moved to the front, in the same order.

        The result is as wide as the fullest jet, which ``width`` tells where it is known: then nothing waits for the
        device to find out.
        """
        kept = kept & self.mask
        order = torch.argsort(~kept, dim=1, stable=True)
        width = max(int(kept.sum(1).max()), 1) if width is None else width
        order = order[:, :width]
        mask = kept.gather(1, order)

        def pick(x: Tensor) -> Tensor:
            return x.gather(1, order[..., None].expand(-1, -1, x.shape[-1])) * mask[..., None]

        def pick_truth(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.gather(1, order).masked_fill(~mask, NO_TRUTH)

        return replace(
            self,
            features=pick(self.features),
            p4=pick(self.p4),
            mask=mask,
            origin=pick_truth(self.origin),
            vertex=pick_truth(self.vertex),
        )


@dataclass(frozen=True)
class PackedJets:
    """A batch without padding, as it travels to an accelerator; it is padded there, to the same bits as `Jets`.

    Attributes:
        features: (M, F) float32 or float16, standardised; constituents of all jets in a row.
        p4: (M, 4) float32, (px, py, pz, energy) in GeV.
        counts: (B,) int64 constituents of each jet.
        width: N, constituents to pad to: known here, so that nothing waits for the device to find out.
        label: as in `Jets`.
        weight: as in `Jets`.
        origin: (M,) int64, or None.
        vertex: (M,) int64, or None.
        columns: as in `Jets`.
        embeds: of what ``features`` are embeddings by a frozen backbone, if they are.
    """

    features: Tensor
    p4: Tensor
    counts: Tensor
    width: int
    label: Tensor | None = None
    weight: Tensor | None = None
    origin: Tensor | None = None
    vertex: Tensor | None = None
    columns: Tensor | None = None
    embeds: Literal["nothing", "jets", "constituents"] = "nothing"

    def __len__(self) -> int:
        return len(self.counts)

    def pin(self) -> "PackedJets":
        """The same batch in page-locked memory, from which a copy to CUDA need not wait."""
        return _each(self, lambda x: x.pin_memory())

    def to(self, device: torch.device | str) -> Jets:
        """The batch on a device, padded there; the copy, of real constituents only, does not wait."""
        return _each(self, lambda x: sent(x, device)).pad()

    def pad(self, only: Collection[str] | None = None) -> Jets:
        """The padded batch, where this one is; nothing waits for the device.

        Args:
            only: columns of constituents that are wanted; other ``features`` and ``p4`` are (B, N, 0), truths None.
        """
        place = torch.arange(self.width, device=self.counts.device)
        mask = place < self.counts[:, None]
        begins = self.counts.cumsum(0) - self.counts
        # As in `JetTable.batch`, padding is read from whatever follows and then overwritten.
        rows = (begins[:, None] + place).clamp(max=max(len(self.p4) - 1, 0)).flatten()

        def spread(values: Tensor) -> Tensor:
            flat = values.index_select(0, rows) if len(values) else values.new_zeros(len(rows), *values.shape[1:])
            return flat.view(*mask.shape, *values.shape[1:])

        def pick(name: str, values: Tensor) -> Tensor:
            wanted = values if only is None or name in only else values[:, :0]
            return spread(wanted).float().masked_fill(~mask[..., None], 0.0)

        def pick_truth(name: str, values: Tensor | None) -> Tensor | None:
            wanted = values if only is None or name in only else None
            return None if wanted is None else spread(wanted).masked_fill(~mask, NO_TRUTH)

        features = pick("features", self.features)
        embeddings = {"nothing": None, "jets": features[:, 0], "constituents": features}
        return Jets(
            features=features,
            p4=pick("p4", self.p4),
            mask=mask,
            label=self.label,
            weight=self.weight,
            embedding=embeddings[self.embeds],
            origin=pick_truth("origin", self.origin),
            vertex=pick_truth("vertex", self.vertex),
            columns=self.columns,
        )


Batch = Jets | PackedJets
BatchType = TypeVar("BatchType", Jets, PackedJets)


def _each(batch: BatchType, change: Callable[[Tensor], Tensor]) -> BatchType:
    """The batch with each of its tensors changed."""
    changed: dict[str, Any] = {name: change(x) for name, x in vars(batch).items() if isinstance(x, Tensor)}
    return replace(batch, **changed)


class Table(Protocol):
    """What training and evaluation need of a set of jets, be it in memory or on disk.

    Jets are reached by blocks, the pieces that are read together: single jets in memory, stretches of a shard on disk.
    """

    @property
    def feature_names(self) -> tuple[str, ...]:
        """F names in column order."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty without labels."""

    @property
    def notes(self) -> Mapping[str, int]:
        """Counts worth telling the user."""

    @property
    def label(self) -> npt.NDArray[np.int64] | None:
        """(J,) index into ``class_names``, or None."""

    @property
    def class_counts(self) -> npt.NDArray[np.int64] | None:
        """(C,) jets of each class, or None without labels."""

    @property
    def block_sizes(self) -> npt.NDArray[np.int64]:
        """Jets in each block; one after the other the blocks are the table."""

    @property
    def identity(self) -> dict[str, int | str]:
        """What must be equal for the same order to mean the same jets."""

    def __len__(self) -> int:
        """J."""

    def load(self, blocks: npt.NDArray[np.int64]) -> tuple["JetTable", npt.NDArray[np.int64]]:
        """A table in memory, and the rows in it of these blocks' jets, in the order of ``blocks``."""

    def sample_features(self, constituents: int, seed: int) -> npt.NDArray[np.float32]:
        """(M, F) features of at most so many constituents, drawn at random."""

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[npt.NDArray[np.int64] | None, Mapping[str, npt.NDArray]]]:
        """Labels and jet columns of all jets, some at a time."""


@dataclass(frozen=True)
class JetTable:
    """Jets in memory, jagged: constituents of all jets in a row, and where each jet begins.

    Attributes:
        features: (M, F) float32, or float16 where it is a piece of a shard.
        p4: (M, 4) float32, (px, py, pz, energy) in GeV; descending pT within a jet.
        offsets: (J + 1,) int64; jet j owns rows ``offsets[j]:offsets[j + 1]``, at least one.
        feature_names: F names in column order.
        label: (J,) int64 index into ``class_names``, or None where labels were not asked for.
        class_names: names of the classes; empty without labels.
        jet: jet-level columns (J,) that were asked for, in GeV, mm, rad; ``entry`` is the jet's row in its file.
        constituent: constituent columns (M,) that were asked for beside the features, in GeV, mm, rad.
        batch_columns: jet columns that batches carry.
        notes: counts worth telling the user, such as jets left out.
        num_entries: entries of the files read, kept or not.
    """

    features: npt.NDArray[np.float32]
    p4: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    feature_names: tuple[str, ...]
    label: npt.NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()
    jet: Mapping[str, npt.NDArray] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)
    num_entries: int = 0
    constituent: Mapping[str, npt.NDArray] = field(default_factory=dict)
    batch_columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(J,) number of constituents of each jet."""
        return np.diff(self.offsets)

    @property
    def class_counts(self) -> npt.NDArray[np.int64] | None:
        """(C,) jets of each class, or None without labels."""
        return None if self.label is None else np.bincount(self.label, minlength=len(self.class_names))

    @property
    def block_sizes(self) -> npt.NDArray[np.int64]:
        """(J,) ones: in memory every jet is a block of its own."""
        return np.ones(len(self), dtype=np.int64)

    @property
    def identity(self) -> dict[str, int | str]:
        """Numbers of jets and constituents."""
        return {"jets": len(self), "constituents": int(self.offsets[-1])}

    def load(self, blocks: npt.NDArray[np.int64]) -> tuple["JetTable", npt.NDArray[np.int64]]:
        """This table, and ``blocks``, which are its rows."""
        return self, blocks

    def sample_features(self, constituents: int, seed: int) -> npt.NDArray[np.float32]:
        """(M, F) features of at most so many constituents, drawn with ``seed``, in the table's order."""
        random = np.random.default_rng(seed)
        rows = random.choice(len(self.features), min(constituents, len(self.features)), replace=False)
        return self.features[np.sort(rows)].astype(np.float32, copy=False)

    def scan(self, columns: Sequence[str]) -> Iterator[tuple[npt.NDArray[np.int64] | None, Mapping[str, npt.NDArray]]]:
        """Labels and those jet columns that there are, of all jets at once."""
        yield self.label, {name: self.jet[name] for name in columns if name in self.jet}

    def batch(self, index: npt.NDArray[np.int64], width: int | None = None) -> Jets:
        """The jets at ``index`` (B,), padded to the longest of them, or to ``width``."""
        begins = self.offsets[index]
        counts = self.offsets[index + 1] - begins
        width = int(counts.max(initial=1)) if width is None else width
        mask = np.arange(width) < counts[:, None]
        # Padding is read from whatever follows and then set to zero: whole rows move faster than chosen elements.
        rows = np.minimum(begins[:, None] + np.arange(width), max(len(self.p4) - 1, 0)).reshape(-1)
        padding = np.flatnonzero(~mask.reshape(-1))

        def pick(values: npt.NDArray) -> Tensor:
            picked = torch.from_numpy(values.take(rows, axis=0)).float()
            picked.numpy()[padding] = 0.0
            return picked.view(len(index), width, values.shape[1])

        def pick_truth(name: str) -> Tensor | None:
            if name not in self.constituent:
                return None
            picked = self.constituent[name].take(rows).astype(np.int64)
            picked[padding] = NO_TRUTH
            return torch.from_numpy(picked).view(len(index), width)

        return Jets(
            features=pick(self.features),
            p4=pick(self.p4),
            mask=torch.from_numpy(mask),
            label=None if self.label is None else torch.from_numpy(self.label[index]),
            origin=pick_truth("origin"),
            vertex=pick_truth("vertex"),
            columns=self._columns(index),
        )

    def pack(self, index: npt.NDArray[np.int64], width: int | None = None) -> PackedJets:
        """The jets at ``index`` (B,), which `PackedJets.pad` pads to the longest of them, or to ``width``."""
        rows, offsets = self._rows(index)
        counts = np.diff(offsets)
        truth: dict[str, Any] = {
            name: torch.from_numpy(self.constituent[name].take(rows).astype(np.int64))
            for name in TRUTH
            if name in self.constituent
        }
        return PackedJets(
            features=torch.from_numpy(self.features.take(rows, axis=0)),
            p4=torch.from_numpy(self.p4.take(rows, axis=0)),
            counts=torch.from_numpy(counts),
            width=int(counts.max(initial=1)) if width is None else width,
            label=None if self.label is None else torch.from_numpy(self.label[index]),
            columns=self._columns(index),
            **truth,
        )

    def batch_for(self, device: torch.device, index: npt.NDArray[np.int64], width: int | None = None) -> Batch:
        """The jets at ``index`` as they best go to a device: to the CPU padded, else packed, to CUDA page-locked."""
        if device.type == "cpu":
            return self.batch(index, width)
        packed = self.pack(index, width)
        return packed.pin() if reads_beside(device) else packed

    def _columns(self, index: npt.NDArray[np.int64]) -> Tensor | None:
        """(B, K) of the jet columns that batches carry."""
        columns = [self.jet[name][index].astype(np.float32) for name in self.batch_columns]
        return torch.from_numpy(np.stack(columns, axis=1)) if columns else None

    def _rows(self, index: npt.NDArray, most: int | None = None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows of the constituents of the jets at ``index`` (B,), and the (B + 1,) offsets of the jets among them."""
        counts = self.counts[index] if most is None else np.minimum(self.counts[index], most)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return np.repeat(self.offsets[index] - offsets[:-1], counts) + np.arange(offsets[-1]), offsets

    def select(self, index: npt.NDArray, most: int | None = None) -> "JetTable":
        """The jets at ``index``, positions or (J,) bool; of each ``most`` constituents of highest pT, or all."""
        chosen = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        rows, offsets = self._rows(chosen, most)
        return replace(
            self,
            features=self.features[rows],
            p4=self.p4[rows],
            offsets=offsets,
            label=None if self.label is None else self.label[chosen],
            jet={name: column[chosen] for name, column in self.jet.items()},
            constituent={name: column[rows] for name, column in self.constituent.items()},
        )


def concatenate(tables: Sequence[JetTable]) -> JetTable:
    """One table of several with the same features, classes and jet columns."""
    first = tables[0]
    starts = np.cumsum([0] + [len(table.features) for table in tables])
    pieces = [table.offsets[:-1] + start for table, start in zip(tables, starts, strict=False)]
    notes: Counter[str] = Counter()
    for table in tables:
        notes.update(table.notes)
    return replace(
        first,
        features=np.concatenate([table.features for table in tables]),
        p4=np.concatenate([table.p4 for table in tables]),
        offsets=np.concatenate([*pieces, starts[-1:]]).astype(np.int64),
        label=None if first.label is None else np.concatenate([t.label for t in tables if t.label is not None]),
        jet={name: np.concatenate([table.jet[name] for table in tables]) for name in first.jet},
        constituent={name: np.concatenate([table.constituent[name] for table in tables]) for name in first.constituent},
        notes=dict(notes),
        num_entries=sum(table.num_entries for table in tables),
    )
