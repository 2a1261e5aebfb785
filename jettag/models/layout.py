"""Where the constituents of a padded batch lie while a model works on them: in rectangles of jets of similar length.

On the CPU jets are sorted by length and cut into groups, each a rectangle (b, n) with next to no padding and small
enough to stay in the cache from the first block to the last, in one thread of several (`jettag.models.threads`). On an
accelerator there is one group, the batch as it came: every shape then follows from the batch's shape and nothing waits
for the device. Both give the same numbers (tests/models/test_layout.py).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

__all__ = ["Group", "Layout"]

# A jet joins the group of a longer one if it fills this share of its row; below, a new group costs less than padding.
FILLED = 0.8
SMALLEST_GROUP = 8  # jets; smaller ones cost more in calls than they save in padding
LARGEST_GROUP = 1024  # slots; from 1024 to 4096 the rate on one and two cores is the same within the noise
LARGEST_HALF_GROUP = (
    4096  # in mixed precision, where weights are cast for every group: 1.14 times that of 1024; 1.46 on two
)
SHARED_GROUP = 256  # the fewest slots of a group that is made smaller so that every thread gets one


class _Pick(torch.autograd.Function):
    """``x[rows]`` for rows that are all different: the gradient is a copy instead of a serial accumulation."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = x.shape  # type: ignore[attr-defined]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient.new_zeros(ctx.shape).index_copy_(0, rows, gradient), None  # type: ignore[attr-defined]


def _pick(x: Tensor, rows: Tensor) -> Tensor:
    picked: Tensor = _Pick.apply(x, rows)
    return picked


@dataclass(frozen=True)
class Group:
    """Jets of similar length: a rectangle of b rows and n slots.

    Attributes:
        jets: (b,) index of each jet in the batch, or None for the batch as it came.
        real: (b, n) bool, True where a slot holds a constituent.
        slots: (m,) position in the flattened rectangle of each constituent, or None where every slot counts as one.
        pair_i: (P,) position in the flattened rectangle of the first constituent of each pair.
        pair_j: (P,) position of the second; each unordered pair of a jet once, with itself too.
        pair_is_real: (P,) bool, or None where no pair has padding.
        square: (b n n,) index into the P pairs, then one row for hidden keys and one for padded queries.
    """

    jets: Tensor | None
    real: Tensor
    slots: Tensor | None
    pair_i: Tensor
    pair_j: Tensor
    pair_is_real: Tensor | None
    square: Tensor

    def corners(self) -> tuple[Tensor, Tensor]:
        """(P,) positions of (i, j) and of (j, i) of each pair in the flattened (b, n, n)."""
        n = self.real.shape[1]
        return self.pair_i * n + self.pair_j % n, self.pair_j * n + self.pair_i % n

    def spread(self, tokens: Tensor) -> Tensor:
        """(m, K) constituents -> (b, n, K), zero in padded slots."""
        b, n = self.real.shape
        if self.slots is None:
            return tokens.view(b, n, -1)
        return tokens.new_zeros(b * n, tokens.shape[-1]).index_copy(0, self.slots, tokens).view(b, n, -1)

    def collect(self, rectangle: Tensor) -> Tensor:
        """(b, n, K) -> (m, K), the inverse of `spread`."""
        flat = rectangle.reshape(-1, rectangle.shape[-1])
        return flat if self.slots is None else _pick(flat, self.slots)


@dataclass(frozen=True)
class Layout:
    """The groups of one batch.

    Attributes:
        mask: (B, N) bool as it came.
        rows: (M,) position in the flattened (B, N) of each constituent, groups in turn; None for all slots in order.
        groups: the rectangles.
        counts: constituents m of each group.
        spare: slots that the only group has beside those N, where there is one for the batch as it came.
    """

    mask: Tensor
    rows: Tensor | None
    groups: tuple[Group, ...]
    counts: tuple[int, ...]
    spare: int = 0

    @classmethod
    def of(cls, mask: Tensor, *, whole: bool = False, spare: int = 0) -> "Layout":
        """The layout that suits the device of a mask.

        Args:
            mask: (B, N) bool, True where there is a constituent.
            whole: one group on the CPU too.
            spare: slots that jets have beside those N where there is one group.
        """
        return cls.packed(mask) if mask.device.type == "cpu" and not whole else cls.padded(mask, spare=spare)

    @classmethod
    def padded(cls, mask: Tensor, *, spare: int = 0) -> "Layout":
        """One group, every slot counts as a constituent; no shape depends on the mask's content."""
        came, mask = mask, _wider(mask, spare)
        b, n = mask.shape
        tri_i, tri_j, corner = _triangle(n, mask.device)
        row = torch.arange(b, device=mask.device)[:, None]
        # A jet without constituents lets its first padded slot be seen: a softmax over nothing is NaN.
        visible = mask | (~mask.any(1, keepdim=True) & (torch.arange(n, device=mask.device) == 0))
        total = b * len(tri_i)
        square = torch.where(visible[:, :, None], row[..., None] * len(tri_i) + corner, total + 1)
        group = Group(
            jets=None,
            real=mask,
            slots=None,
            pair_i=(row * n + tri_i).flatten(),
            pair_j=(row * n + tri_j).flatten(),
            pair_is_real=(mask[:, tri_i] & mask[:, tri_j]).flatten(),
            square=torch.where(visible[:, None, :], square, total).flatten(),
        )
        return cls(mask=came, rows=None, groups=(group,), counts=(b * n,), spare=spare)

    @classmethod
    def packed(cls, mask: Tensor) -> "Layout":
        """Jets sorted by length and cut into groups."""
        lengths = mask.sum(1)
        order = torch.argsort(lengths, descending=True, stable=True)
        groups, rows = [], []
        largest = LARGEST_HALF_GROUP if torch.is_autocast_enabled(mask.device.type) else LARGEST_GROUP
        if torch.get_num_threads() > 1:  # two for each at least, so that none waits long for the last
            largest = min(largest, max(int(lengths.sum()) // (2 * torch.get_num_threads()), SHARED_GROUP))
        for members in _cut(order, lengths[order].tolist(), largest):
            count = lengths[members]
            groups.append(_packed_group(members, count))
            jet, column = mask[members].nonzero(as_tuple=True)
            rows.append(members[jet] * mask.shape[1] + column)
        return cls(mask=mask, rows=torch.cat(rows), groups=tuple(groups), counts=tuple(len(piece) for piece in rows))

    @property
    def is_real(self) -> Tensor | None:
        """(M,) bool: which rows of `pack` are constituents; None for all."""
        return self.groups[0].real.flatten() if self.rows is None else None

    def pack(self, x: Tensor) -> Tensor:
        """(B, N, K) -> (M, K); what stands in padded slots does not matter, not even NaN."""
        if self.rows is None:
            return _wider(x.masked_fill(~self.mask[..., None], 0), self.spare).reshape(-1, x.shape[-1])
        return _pick(x.reshape(-1, x.shape[-1]), self.rows)

    def spread(self, tokens: Tensor) -> list[Tensor]:
        """(M, K) -> the rectangle (b, n, K) of each group."""
        pieces = torch.split(tokens, list(self.counts))
        return [group.spread(piece) for group, piece in zip(self.groups, pieces, strict=True)]

    def unpack(self, rectangles: list[Tensor]) -> Tensor:
        """Rectangles (b, n, K) -> (B, N, K), zero in padded slots."""
        if self.rows is None:
            return rectangles[0][:, : self.mask.shape[1]].masked_fill(~self.mask[..., None], 0)
        b, n = self.mask.shape
        tokens = torch.cat([group.collect(x) for group, x in zip(self.groups, rectangles, strict=True)])
        return tokens.new_zeros(b * n, tokens.shape[-1]).index_copy(0, self.rows, tokens).view(b, n, -1)

    def in_batch_order(self, x: Tensor) -> Tensor:
        """(B, K) one row a jet, groups in turn -> the rows in the order of the batch."""
        jets = [group.jets for group in self.groups if group.jets is not None]
        return _pick(x, torch.argsort(torch.cat(jets))) if jets else x


def _wider(x: Tensor, spare: int) -> Tensor:
    """(B, N, ...) -> (B, N + spare, ...), 0 or False in what is new."""
    return F.pad(x, (*[0] * 2 * (x.ndim - 2), 0, spare)) if spare else x


def _cut(order: Tensor, lengths: list[int], largest: int) -> tuple[Tensor, ...]:
    """Jets of descending length -> the jets of each group, of at most ``largest`` slots; the last has more than one."""
    cuts = [0]
    for place, length in enumerate(lengths):
        widest, size = max(lengths[cuts[-1]], 1), place - cuts[-1]
        if size >= SMALLEST_GROUP and (length < FILLED * widest or (size + 1) * widest > largest):
            cuts.append(place)
    if len(cuts) > 1 and cuts[-1] == len(lengths) - 1:
        cuts[-1] -= 1  # a compiler makes other programs for sizes of 1
    return torch.split(order, [end - begin for begin, end in pairwise([*cuts, len(lengths)])])


def _triangle(n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Indices i <= j of an n x n square, and for each (i, j) of the square the place of its pair among them."""
    i, j = torch.triu_indices(n, n, device=device)
    corner = torch.empty(n, n, dtype=torch.long, device=device)
    corner[i, j] = corner[j, i] = torch.arange(len(i), device=device)
    return i, j, corner


def _packed_group(jets: Tensor, count: Tensor) -> Group:
    """The group of these jets (b,), which have ``count`` (b,) constituents each."""
    b, n = len(jets), max(int(count.max()), 2)
    real = torch.arange(n) < count[:, None]
    tri_i, tri_j, corner = _triangle(n, real.device)
    jet, which = (tri_j < count[:, None]).nonzero(as_tuple=True)
    i, j = tri_i[which], tri_j[which]
    place = torch.full((b, len(tri_i)), len(jet))
    place[jet, which] = torch.arange(len(jet))
    square = place[:, corner.flatten()].view(b, n, n)
    # A jet without constituents sees its padding: a softmax over nothing is NaN.
    padded_query = ~real[:, :, None] & (real[:, None, :] | (count == 0)[:, None, None])
    return Group(
        jets=jets,
        real=real,
        slots=None if bool(real.all()) else real.flatten().nonzero().flatten(),
        pair_i=jet * n + i,
        pair_j=jet * n + j,
        pair_is_real=None,
        square=torch.where(padded_query, len(jet) + 1, square).flatten(),
    )
