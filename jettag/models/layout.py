"""Where the constituents of a padded batch lie while a model works on them: as rows of real constituents.

Linear layers see rows (M, D), one a token, and no padding. Attention needs rectangles, so jets are sorted by length
and cut into groups of similar length, each a rectangle (b, n). On an accelerator there is one group, the batch as it
came, and padding stays in the rows: every shape then follows from the batch's shape and nothing waits for the device.
Both give the same numbers (tests/models/test_layout.py).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

__all__ = ["Group", "Layout"]

# A jet joins the group of a longer one if it fills this share of its row; below, a new group costs less than padding.
FILLED = 0.85
SMALLEST_GROUP = 8  # jets; smaller ones cost more in calls than they save in padding


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
    """Jets of similar length, as a rectangle of b rows and n slots.

    Attributes:
        jets: (b,) index of each jet in the batch, or None for the batch as it came.
        real: (b, n) bool, True where a slot holds a real constituent.
        slots: (m,) position in the flattened rectangle of each token, or None where every slot is a token.
        upper: (P,) position in the flattened (b, n, n) cube of pair (i, j), i <= j, in the order of `Layout.pair_i`.
        lower: (P,) position of (j, i).
        square: (b * n * n,) index into the group's P pairs, then one row for hidden keys and one for padded queries.
    """

    jets: Tensor | None
    real: Tensor
    slots: Tensor | None
    upper: Tensor
    lower: Tensor
    square: Tensor

    def spread(self, tokens: Tensor) -> Tensor:
        """(m, K) -> (b, n, K); padding is zero where tokens hold none."""
        b, n = self.real.shape
        if self.slots is None:
            return tokens.view(b, n, -1)
        return tokens.new_zeros(b * n, tokens.shape[-1]).index_copy(0, self.slots, tokens).view(b, n, -1)

    def gather(self, rectangle: Tensor) -> Tensor:
        """(b, n, K) -> (m, K), the inverse of `spread`."""
        flat = rectangle.reshape(-1, rectangle.shape[-1])
        return flat if self.slots is None else _pick(flat, self.slots)


@dataclass(frozen=True)
class Layout:
    """The order of tokens and pairs of one batch.

    Attributes:
        mask: (B, N) bool as it came.
        rows: (M,) position of each token in the flattened (B, N), or None for all of them in order.
        jet: (M,) index in the batch of each token's jet.
        is_real: (M,) bool, or None where no token is padding.
        pair_i: (P,) token index of the first constituent of each pair, groups in order.
        pair_j: (P,) token index of the second; each unordered pair of a jet once, with itself too.
        pair_is_real: (P,) bool, or None where no pair has padding.
        groups: in token order.
        token_counts: tokens of each group.
        pair_counts: pairs of each group.
    """

    mask: Tensor
    rows: Tensor | None
    jet: Tensor
    is_real: Tensor | None
    pair_i: Tensor
    pair_j: Tensor
    pair_is_real: Tensor | None
    groups: tuple[Group, ...]
    token_counts: tuple[int, ...]
    pair_counts: tuple[int, ...]

    @classmethod
    def of(cls, mask: Tensor, *, packed: bool | None = None) -> "Layout":
        """The layout of a (B, N) mask: packed on the CPU, padded elsewhere, unless ``packed`` says."""
        if packed is None:
            packed = mask.device.type == "cpu"
        return cls.packed(mask) if packed else cls.padded(mask)

    @classmethod
    def padded(cls, mask: Tensor) -> "Layout":
        """One group, every slot a token; no shape depends on the mask's content."""
        b, n = mask.shape
        tri_i, tri_j, corner = _triangle(n, mask.device)
        first = torch.arange(b, device=mask.device)[:, None] * n
        # A jet without constituents lets its first padded slot be seen: a softmax over nothing is NaN.
        visible = mask | (~mask.any(1, keepdim=True) & (torch.arange(n, device=mask.device) == 0))
        pair = torch.arange(b, device=mask.device)[:, None, None] * len(tri_i) + corner
        total = b * len(tri_i)
        square = torch.where(visible[:, :, None], pair, total + 1)
        square = torch.where(visible[:, None, :], square, total)
        cube = torch.arange(b, device=mask.device)[:, None] * (n * n)
        group = Group(
            jets=None,
            real=mask,
            slots=None,
            upper=(cube + tri_i * n + tri_j).flatten(),
            lower=(cube + tri_j * n + tri_i).flatten(),
            square=square.flatten(),
        )
        return cls(
            mask=mask,
            rows=None,
            jet=torch.arange(b, device=mask.device).repeat_interleave(n),
            is_real=mask.flatten(),
            pair_i=(first + tri_i).flatten(),
            pair_j=(first + tri_j).flatten(),
            pair_is_real=(mask[:, tri_i] & mask[:, tri_j]).flatten(),
            groups=(group,),
            token_counts=(b * n,),
            pair_counts=(total,),
        )

    @classmethod
    def packed(cls, mask: Tensor) -> "Layout":
        """Real constituents only, jets sorted by length and cut into groups."""
        counts = mask.sum(1)
        order = torch.argsort(counts, descending=True, stable=True)
        sorted_counts: list[int] = counts[order].tolist()
        groups, rows, jets, pairs_i, pairs_j, tokens_before = [], [], [], [], [], 0
        for begin, end in _cuts(sorted_counts):
            members = order[begin:end]
            count, n = counts[members], max(sorted_counts[begin], 1)
            real = torch.arange(n, device=mask.device) < count[:, None]
            group, pair_i, pair_j = _packed_group(members, real)
            first, column = mask[members].nonzero(as_tuple=True)
            rows.append(members[first] * mask.shape[1] + column)
            jets.append(members[first])
            pairs_i.append(pair_i + tokens_before)
            pairs_j.append(pair_j + tokens_before)
            groups.append(group)
            tokens_before += len(first)
        return cls(
            mask=mask,
            rows=torch.cat(rows),
            jet=torch.cat(jets),
            is_real=None,
            pair_i=torch.cat(pairs_i),
            pair_j=torch.cat(pairs_j),
            pair_is_real=None,
            groups=tuple(groups),
            token_counts=tuple(len(piece) for piece in rows),
            pair_counts=tuple(len(piece) for piece in pairs_i),
        )

    def pack(self, x: Tensor) -> Tensor:
        """(B, N, K) -> (M, K); what stands in padded slots does not matter, not even NaN."""
        flat = x.reshape(-1, x.shape[-1])
        if self.rows is None:
            return flat.masked_fill(~self.mask.reshape(-1, 1), 0)
        return _pick(flat, self.rows)

    def unpack(self, tokens: Tensor) -> Tensor:
        """(M, K) -> (B, N, K), zero in padded slots."""
        b, n = self.mask.shape
        if self.rows is None:
            return tokens.view(b, n, -1).masked_fill(~self.mask[..., None], 0)
        return tokens.new_zeros(b * n, tokens.shape[-1]).index_copy(0, self.rows, tokens).view(b, n, -1)

    def split(self, tokens: Tensor) -> list[Tensor]:
        """(M, K) -> the tokens (m, K) of each group."""
        return list(torch.split(tokens, list(self.token_counts)))

    def in_batch_order(self, x: Tensor) -> Tensor:
        """(B, K) rows of the groups in turn -> the same rows in the order of the batch."""
        jets = [group.jets for group in self.groups if group.jets is not None]
        return _pick(x, torch.argsort(torch.cat(jets))) if jets else x


def _cuts(counts: list[int]) -> list[tuple[int, int]]:
    """Where to cut jets of descending length into groups."""
    starts = [0]
    for place, count in enumerate(counts):
        if place - starts[-1] >= SMALLEST_GROUP and count < FILLED * counts[starts[-1]]:
            starts.append(place)
    return list(zip(starts, [*starts[1:], len(counts)], strict=True))


def _triangle(n: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Indices i <= j of an n x n square, and for each (i, j) of the square the place of its pair among them."""
    i, j = torch.triu_indices(n, n, device=device)
    corner = torch.empty(n, n, dtype=torch.long, device=device)
    corner[i, j] = corner[j, i] = torch.arange(len(i), device=device)
    return i, j, corner


def _packed_group(jets: Tensor, real: Tensor) -> tuple[Group, Tensor, Tensor]:
    """The group of these jets, and the token indices (within the group) of its pairs."""
    b, n = real.shape
    tri_i, tri_j, corner = _triangle(n, real.device)
    count = real.sum(1)
    jet, which = (tri_j < count[:, None]).nonzero(as_tuple=True)
    i, j = tri_i[which], tri_j[which]
    start = count.cumsum(0) - count
    place = torch.full((b, len(tri_i)), len(jet), dtype=torch.long, device=real.device)
    place[jet, which] = torch.arange(len(jet), device=real.device)
    square = place[:, corner.flatten()].view(b, n, n)
    padded_query = ~real[:, :, None] & (real[:, None, :] | (count == 0)[:, None, None])
    square = torch.where(padded_query, len(jet) + 1, square)
    slots = None if bool(real.all()) else real.flatten().nonzero().flatten()
    group = Group(
        jets=jets,
        real=real,
        slots=slots,
        upper=(jet * n + i) * n + j,
        lower=(jet * n + j) * n + i,
        square=square.flatten(),
    )
    return group, start[jet] + i, start[jet] + j
