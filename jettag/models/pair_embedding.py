"""The pair bias U of the Particle Transformer."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from jettag.models.attention import gelu, room
from jettag.models.batch_norm import RealBatchNorm
from jettag.models.direct_layer import DirectLayer
from jettag.models.layout import Group
from jettag.models.precision import unrounded
from jettag.models.recompute import recomputed
from jettag.models.synchronise import is_spread, summed
from jettag.models.threads import shared
from jettag.physics.kinematics import NUM_PAIR_FEATURES, indexed_pair_features, pair_coordinates

__all__ = ["PairEmbedding"]

# Pairs that are embedded at a time, in inference and where training saves memory: what they need in between stays in
# the cache of a core, or in 0.3 GB elsewhere.
CHUNK = 2048
CHUNK_ELSEWHERE = 1 << 20


class _Square(torch.autograd.Function):
    """Values of unordered pairs (P, H) laid out as (b, H, n, n), -inf at hidden keys and 0 in padded rows."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, group: Group) -> Tensor:
        ctx.group = group  # type: ignore[attr-defined]
        b, n = group.real.shape
        hidden = values.new_full((1, values.shape[1]), -torch.inf)
        table = torch.cat([values, hidden, torch.zeros_like(hidden)])
        square = table.index_select(0, group.square).view(b, n, n, -1).permute(0, 3, 1, 2)
        if values.device.type == "cpu":
            return square.contiguous()
        return values.new_zeros(b, values.shape[1], n, n + room(n, values.device))[..., :n].copy_(square)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        group: Group = ctx.group  # type: ignore[attr-defined]
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, gradient.shape[1])
        upper, lower = group.corners()
        mirrored = rows.index_select(0, lower)
        # A constituent's pair with itself stands once in the square.
        mirrored.masked_fill_((upper == lower)[:, None], 0)
        return mirrored.add_(rows.index_select(0, upper)), None


class _Sums(torch.autograd.Function):
    """Rows (P, K) -> their sum (K,) and the sum of their outer products (K, K), with one product for the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows)
        dtype = torch.promote_types(rows.dtype, torch.float32)
        return rows.sum(0, dtype=dtype), (rows.T @ rows).to(dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, of_sum: Tensor, of_product: Tensor) -> Tensor:
        (rows,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.addmm(of_sum.to(rows.dtype), rows, (of_product + of_product.T).to(rows.dtype))


class _Layer(NamedTuple):
    """A linear layer (K_out, K_in), (K_out,), and the normalisation after it."""

    weight: Tensor
    bias: Tensor
    norm: RealBatchNorm


class PairEmbedding(nn.Module):
    """Pair features -> normalise -> [linear, normalise, GELU] per width -> one number a head.

    The features are symmetric, so the network runs once for each unordered pair of real constituents.

    Args:
        widths: of the layers; the number of heads H comes last.
        last_activation: keep the GELU after the last layer, as the published networks do
            (``use_pre_activation_pair=False`` in weaver-core, whose default drops it).
        recompute: in training keep the features of the pairs only, and go through the layers again, some pairs at a
            time, for the moments of each layer and in the backward pass: a third of the memory, twice the time.
    """

    def __init__(self, widths: Sequence[int], *, last_activation: bool = True, recompute: bool = False) -> None:
        super().__init__()
        self.last_activation = last_activation
        self.recompute = recompute
        self.norm = RealBatchNorm(NUM_PAIR_FEATURES)
        inputs = [NUM_PAIR_FEATURES, *widths[:-1]]
        self.linears = nn.ModuleList(nn.Linear(before, after) for before, after in zip(inputs, widths, strict=True))
        self.norms = nn.ModuleList(RealBatchNorm(width) for width in widths)

    def forward(self, p4: Sequence[Tensor], groups: Sequence[Group]) -> list[Tensor]:
        """What `bias` wants of every group.

        Args:
            p4: for each group (b, n, 4), (px, py, pz, energy) in GeV.
            groups: the rectangles of the batch.

        Returns:
            for each group (P, H) of its pairs; in inference, where no statistics tie groups together, (b n, 4).
        """
        if self._is_apart():
            return [piece.reshape(-1, 4) for piece in p4]
        features = shared(_features, list(zip(p4, groups, strict=True)), p4[0].device)
        is_real = (
            None if groups[0].pair_is_real is None else torch.cat([cast("Tensor", g.pair_is_real) for g in groups])
        )
        standard = self.norm(torch.cat(features).to(self.norm.weight.dtype), is_real, scaled=False)
        device = standard.device.type
        if torch.is_autocast_enabled(device):
            standard = standard.to(torch.get_autocast_dtype(device))
        pieces = list(torch.split(standard, [len(piece) for piece in features]))
        if self.recompute and torch.is_grad_enabled():
            pieces = self._sparing(pieces, groups)
            pieces = [gelu(piece) for piece in pieces] if self.last_activation else pieces
        else:
            *hidden, last = self._layers()
            for layer in hidden:
                pieces = _normalised(layer, pieces, groups)
            pieces = _normalised(last, pieces, groups, activate=self.last_activation)
        return pieces

    def bias(self, values: Tensor, group: Group) -> Tensor:
        """What `forward` gave of a group -> (b, H, n, n), added to attention logits; -inf where the key is padding."""
        square: Tensor = _Square.apply(self._in_chunks(values, group) if self._is_apart() else values, group)
        return square

    def _is_apart(self) -> bool:
        """Whether every group is embedded on its own."""
        return not (self.training or torch.is_grad_enabled() or torch.compiler.is_compiling())

    def _layers(self) -> list["_Layer"]:
        """The layers in turn; the first one scales its input as `norm` would, so no gradient goes to every pair's."""
        layers = []
        with unrounded(self.norm.weight):
            for place, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
                weight, bias = cast("Tensor", linear.weight), cast("Tensor", linear.bias)
                if not place:
                    weight, bias = weight * self.norm.weight, bias + weight @ self.norm.bias
                layers.append(_Layer(weight, bias, cast("RealBatchNorm", norm)))
        return layers

    def _sparing(self, pieces: Sequence[Tensor], groups: Sequence[Group]) -> list[Tensor]:
        """(P, K) of each group -> (P, H) before the last activation, with nothing kept in between.

        The moments of a layer's input are those of all pairs, so every layer begins anew at the features, some pairs
        at a time; and so does the backward pass.
        """
        folded: tuple[Tensor, ...] = ()
        for layer in self._layers():
            folded += _folded(layer, pieces, groups, before=folded)
        return [torch.cat([recomputed(_through, chunk, *folded) for chunk in _chunks(piece)]) for piece in pieces]

    def _in_chunks(self, p4: Tensor, group: Group) -> Tensor:
        """(P, H) of one group in inference, where no batch statistics tie pairs together, a few pairs at a time.

        Args:
            p4: (b n, 4).
            group: its pairs.
        """
        folded = [tensor for layer in self._layers() for tensor in _folded(layer, (), ())]
        coordinates = pair_coordinates(p4)
        values = []
        for pair_i, pair_j in zip(_chunks(group.pair_i), _chunks(group.pair_j), strict=True):
            x = self.norm(indexed_pair_features(coordinates, pair_i, pair_j).to(self.norm.weight.dtype), scaled=False)
            x = _through(x, *folded)
            values.append(gelu(x) if self.last_activation else x)
        return torch.cat(values)


def _features(p4: Tensor, group: Group) -> Tensor:
    """(b, n, 4) -> (P, K) of its pairs."""
    return indexed_pair_features(pair_coordinates(p4.reshape(-1, 4)), group.pair_i, group.pair_j)


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    """(P, ...) in pieces of `CHUNK` rows."""
    return torch.split(rows, CHUNK if rows.device.type == "cpu" else CHUNK_ELSEWHERE)


def _through(rows: Tensor, *folded: Tensor) -> Tensor:
    """Rows (P, K) after the layers whose weights and biases these are in turn, before the last activation."""
    for place in range(0, len(folded), 2):
        rows = _linear(gelu(rows) if place else rows, folded[place], folded[place + 1])
    return rows


def _linear(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Rows (P, K) W^T + b.

    PyTorch takes the gradient of the matrix in the layout that the matrix has, and a product of many rows is slow (an
    eighth of the rate) unless the narrower side comes first: so W^T is laid out anew where it has more columns.
    """
    outputs, inputs = weight.shape
    weight, bias = weight.to(rows.dtype), bias.to(rows.dtype)
    if outputs <= inputs or not torch.is_grad_enabled():
        return F.linear(rows, weight, bias)
    return torch.addmm(bias, rows, weight.T.contiguous())


def _normalised(
    layer: _Layer, pieces: Sequence[Tensor], groups: Sequence[Group], *, activate: bool = True
) -> list[Tensor]:
    """Rows (P, K) of each group after a linear layer, its normalisation and a GELU.

    On a CPU the mean and variance of the outputs take less than the product of `_folded`, in bf16 only those of fewer
    outputs than inputs; squares of fp16 vanish.
    """
    weight, bias, norm = layer
    narrow = len(weight) < weight.shape[1]
    exact = pieces[0].dtype in (torch.float32, torch.float64)
    direct = pieces[0].device.type == "cpu" and (exact or (narrow and pieces[0].dtype is torch.bfloat16))
    if not (direct and _is_taught(norm, pieces)):
        weight, bias = _folded(layer, pieces, groups)
        rows = [_linear(piece, weight, bias) for piece in pieces]
        return [gelu(piece) for piece in rows] if activate else rows
    with unrounded(weight):
        mean, variance, count, *results = DirectLayer.apply(
            weight, bias, norm.weight, norm.bias, norm.eps, activate, _real(pieces, groups), *pieces
        )
        norm.track(mean, variance, count)
    return list(results)


def _is_taught(norm: RealBatchNorm, pieces: Sequence[Tensor]) -> bool:
    """Whether the statistics are those of the batch."""
    return norm.training and (is_spread() or sum(len(piece) for piece in pieces) > 1)


def _folded(
    layer: _Layer, pieces: Sequence[Tensor], groups: Sequence[Group], before: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """Weight and bias of one linear layer that does what a linear layer and its normalisation do in turn.

    In training too: the mean and variance of W x + b over the batch follow from the mean and covariance of x, which
    is one small matrix product, where normalising the outputs would take several passes over every pair.

    ``pieces`` are the layer's input; where layers ``before`` are given, those layers' and what follows from it.
    """
    weight, bias, norm = layer
    with unrounded(weight):
        if _is_taught(norm, pieces):
            input_mean, products, count = _means(pieces, groups, before)
            covariance = products - input_mean[:, None] * input_mean
            mean = weight @ input_mean + bias
            variance = ((weight @ covariance) * weight).sum(1).clamp(min=0)  # rounded moments may say less
            norm.track(mean, variance, count)
        else:
            mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        return weight * scale[:, None], (bias - mean) * scale + norm.bias


def _means(
    pieces: Sequence[Tensor], groups: Sequence[Group], before: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor | int]:
    """Means over the real rows x (K,) and x x^T (K, K) of all pieces (P, K), or of what follows; and their number."""
    if groups[0].pair_is_real is None:
        count: Tensor | int = sum(len(piece) for piece in pieces)
    else:
        count = torch.stack([cast("Tensor", group.pair_is_real).sum() for group in groups]).sum()
    both = [_sums_after(piece, weight, before) for piece, weight in zip(pieces, _real(pieces, groups), strict=True)]
    first, second = (torch.stack(parts).sum(0) for parts in zip(*both, strict=True))
    if is_spread():
        first, second, count = summed(first, second, torch.as_tensor(count, dtype=first.dtype, device=first.device))
    count = count.clamp(min=1) if isinstance(count, Tensor) else count
    return first / count, second / count, count


def _real(pieces: Sequence[Tensor], groups: Sequence[Group]) -> list[Tensor | None]:
    """For each group (P, 1), 1 where a pair is real and 0 elsewhere, in the type of the pieces; None for all."""
    return [
        None if group.pair_is_real is None else group.pair_is_real[:, None].to(piece.dtype)
        for piece, group in zip(pieces, groups, strict=True)
    ]


def _sums_after(piece: Tensor, weight: Tensor | None, before: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`_sums` of (P, K), or of what follows from it, some rows at a time and with nothing kept in between."""
    if not before:
        return _sums(piece, weight)
    chunks = _chunks(piece)
    weights = [None] * len(chunks) if weight is None else _chunks(weight)
    both = [recomputed(_sums, *pair, *before) for pair in zip(chunks, weights, strict=True)]
    first, second = (torch.stack(parts).sum(0) for parts in zip(*both, strict=True))
    return first, second


def _sums(piece: Tensor, weight: Tensor | None, *before: Tensor) -> tuple[Tensor, Tensor]:
    """Sum (K,) of the rows of (P, K) and of their outer products (K, K), after the layers ``before`` and their GELU."""
    rows = gelu(_through(piece, *before)) if before else piece
    rows = rows if weight is None else rows * weight
    # One product of all pairs, which a half precision would round once and for all; on a CPU bf16 is exact enough, and
    # fp16 would overflow.
    if rows.device.type != "cpu" or rows.dtype is torch.float16:
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    sums: tuple[Tensor, Tensor] = _Sums.apply(rows)
    return sums
