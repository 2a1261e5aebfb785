"""Particle Transformer (Qu, Li, Qian, arXiv:2202.03772), as weaver-core 0.5 computes it.

Constituents are embedded one by one, attend to one another with a bias from their pair features, and a class token
reads the jet off them. Differences from weaver-core, which none of the published weights notice in evaluation:

- Input normalisation sees real constituents only. weaver-core pads with repeated constituents while it trains, so
  short jets weigh more in its batch statistics; with jets of equal length both agree.
- Long jets are cut by the loader (hardest first), never at random inside the model.

Registers, which the published network has not, are learned tokens beside the constituents (arXiv:2309.16588, for jets
arXiv:2409.12589): they attend and are attended to, have no pair features, and the class blocks do not read them.
"""

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from jettag.data.jets import Jets
from jettag.errors import RecipeError
from jettag.models.attention import Block, ClassBlock, hide, room
from jettag.models.batch_norm import RealBatchNorm
from jettag.models.compiling import compiles_for_each_thread, is_first_time, spare_slots
from jettag.models.layout import Group, Layout
from jettag.models.pair_embedding import PairEmbedding
from jettag.models.recompute import recomputed
from jettag.models.threads import are_worth_it, shared_graphs

__all__ = ["ConstituentEmbedding", "Encoded", "ParticleTransformer"]


class Encoded(NamedTuple):
    """What a backbone returns.

    Attributes:
        constituents: (B, N, D), zero where there is none.
        jet: (B, D).
        registers: (B, R, D), R of them, often 0.
        summary: (B, S D), what class heads and embeddings take of a jet: ``jet``, then the mean over constituents after
            each of the S - 1 blocks before the last, the deepest first. S is 1 unless asked for, and this then ``jet``.
    """

    constituents: Tensor
    jet: Tensor
    registers: Tensor
    summary: Tensor


class ConstituentEmbedding(nn.Module):
    """Normalised features -> [layer norm, linear, GELU] for each width.

    Args:
        num_features: F.
        widths: of the layers.
        slots: of a network adapted to other features (`jettag.models.features`): for each feature it was trained on
            the column where that now stands, or None where there is none and its mean in training takes its place.
            Columns that are in no slot join the output of the first linear layer.
    """

    _slot: Tensor
    _joining: Tensor

    def __init__(self, num_features: int, widths: Sequence[int], slots: Sequence[int | None] | None = None) -> None:
        super().__init__()
        self.slots = None if slots is None else tuple(slots)
        self.joining = tuple(i for i in range(num_features) if slots is not None and i not in slots)
        # On the device from the start: a list of columns would be uploaded at every step, and the step wait for it.
        self.register_buffer(
            "_slot", torch.tensor([-1 if i is None else i for i in slots or ()], dtype=torch.int64), persistent=False
        )
        self.register_buffer("_joining", torch.tensor(self.joining, dtype=torch.int64), persistent=False)
        self.joining_norm = RealBatchNorm(len(self.joining)) if self.joining else None
        self.joining_linear = nn.Linear(len(self.joining), widths[0], bias=False) if self.joining else None
        num_features = num_features if slots is None else len(slots)
        self.norm = RealBatchNorm(num_features)
        layers: list[nn.Module] = []
        for before, after in zip([num_features, *widths[:-1]], widths, strict=True):
            layers += [nn.LayerNorm(before), nn.Linear(before, after), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def standard(self, features: Tensor, layout: Layout) -> list[tuple[Tensor, ...]]:
        """(B, N, F) normalised by what the batch has, for each group (b, n, F); and columns that join, (b, n, D_0)."""
        packed = layout.pack(features).to(self.norm.weight.dtype)
        normalised = layout.spread(self.norm(self._known(packed), layout.is_real))
        if self.joining_norm is None or self.joining_linear is None:
            return [(x,) for x in normalised]
        joining = self.joining_linear(self.joining_norm(packed.index_select(1, self._joining), layout.is_real))
        return list(zip(normalised, layout.spread(joining), strict=True))

    def forward(self, normalised: Tensor, joining: Tensor | None = None) -> Tensor:
        """What `standard` gives of a group -> (b, n, D)."""
        if joining is None:
            embedded: Tensor = self.layers(normalised)
        else:
            embedded = self.layers[2:](self.layers[:2](normalised) + joining)
        return embedded

    def _known(self, packed: Tensor) -> Tensor:
        """(M, F) -> the columns that the network was trained on, with their means where there are none."""
        if self.slots is None:
            return packed
        known = packed.index_select(1, self._slot.clamp(min=0))
        return torch.where(self._slot < 0, cast("Tensor", self.norm.running_mean).to(packed.dtype), known)


class ParticleTransformer(nn.Module):
    """A backbone: `Jets` -> constituent and jet embeddings. The defaults are the published network, 2.1 M parameters.

    Args:
        num_features: F.
        dim: width D.
        embed_dims: widths of the constituent embedding; the last is ``dim``.
        pair_dims: widths of the pair embedding before its last layer; empty for no pair bias (the plain transformer).
        num_heads: H; divides ``dim``.
        num_layers: constituent blocks.
        num_class_layers: class-attention blocks; 0 pools by the mean over constituents instead.
        num_registers: R, learned tokens that go through the constituent blocks with every jet. The bias between them
            and anything else is 0; they are no part of the jet embedding or of any loss.
        summary_blocks: S, see `Encoded`. Linear probes of self-supervised networks read several blocks since DINO
            (arXiv:2104.14294, four); like there, the final norm acts on each of them.
        mlp_ratio: hidden width of a block's MLP over ``dim``.
        dropout: in residual branches and hidden layers of the constituent blocks.
        attention_dropout: on attention weights of the constituent blocks.
        class_dropout: both of the above in the class blocks.
        drop_path: stochastic depth of the deepest constituent block, growing linearly from 0.
        pair_activation: GELU after the last pair layer, as the published networks have it.
        feature_slots: of a network adapted to other features, see `ConstituentEmbedding`.
        checkpointing: in training keep the inputs of each constituent block only and compute the rest again in the
            backward pass: for long jets and deep networks, some more time for a fraction of the memory.

    Raises:
        RecipeError: widths that do not fit together.
    """

    def __init__(
        self,
        num_features: int,
        *,
        dim: int = 128,
        embed_dims: Sequence[int] = (128, 512, 128),
        pair_dims: Sequence[int] = (64, 64, 64),
        num_heads: int = 8,
        num_layers: int = 8,
        num_class_layers: int = 2,
        num_registers: int = 0,
        summary_blocks: int = 1,
        mlp_ratio: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        class_dropout: float = 0.0,
        drop_path: float = 0.0,
        pair_activation: bool = True,
        checkpointing: bool = False,
        feature_slots: Sequence[int | None] | None = None,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise RecipeError(f"dim {dim} is not a multiple of num_heads {num_heads}", where="backbone")
        if not embed_dims or embed_dims[-1] != dim:
            raise RecipeError(f"embed_dims {list(embed_dims)} must end with dim {dim}", where="backbone")
        if num_registers < 0:
            raise RecipeError(f"num_registers {num_registers} is below 0", where="backbone")
        self._settings: dict[str, Any] = {
            "num_features": num_features,
            "dim": dim,
            "embed_dims": list(embed_dims),
            "pair_dims": list(pair_dims),
            "num_heads": num_heads,
            "num_layers": num_layers,
            "num_class_layers": num_class_layers,
            "mlp_ratio": mlp_ratio,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "class_dropout": class_dropout,
            "drop_path": drop_path,
            "pair_activation": pair_activation,
            "checkpointing": checkpointing,
        }
        if feature_slots is not None:
            self._settings["feature_slots"] = list(feature_slots)
        if num_registers:  # left out where there are none, as in runs from before there were any
            self._settings["num_registers"] = num_registers
        self.num_features = num_features
        self.dim = dim
        self.read_blocks(summary_blocks, of=num_layers)
        self.embedding = ConstituentEmbedding(num_features, embed_dims, feature_slots)
        self.pair_embedding = (
            PairEmbedding([*pair_dims, num_heads], last_activation=pair_activation, recompute=checkpointing)
            if pair_dims
            else None
        )
        self.checkpointing = checkpointing
        self.one_group = False  # call every block once a batch, on the CPU too: processes that share parameters must
        depths = [drop_path * layer / max(num_layers - 1, 1) for layer in range(num_layers)]
        self.blocks = nn.ModuleList(
            Block(
                dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                drop=dropout,
                attention_drop=attention_dropout,
                drop_path=depth,
            )
            for depth in depths
        )
        self.class_blocks = nn.ModuleList(
            ClassBlock(
                dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                drop=class_dropout,
                attention_drop=class_dropout,
                drop_path=0.0,
            )
            for _ in range(num_class_layers)
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if num_class_layers else None
        self.registers = nn.Parameter(torch.zeros(1, num_registers, dim)) if num_registers else None
        self.norm = nn.LayerNorm(dim)
        self._initialise()

    def settings(self) -> dict[str, Any]:
        """Keyword arguments that build this network again; plain JSON."""
        deep = {"summary_blocks": self.summary_blocks} if self.summary_blocks > 1 else {}  # as before there were any
        return {**self._settings, **deep}

    @property
    def summary_dim(self) -> int:
        """S D."""
        return self.summary_blocks * self.dim

    def read_blocks(self, number: int, *, of: int | None = None) -> None:
        """Take the summary of a jet from so many of the last blocks; no weight depends on it.

        Raises:
            RecipeError: there are fewer.
        """
        most = len(self.blocks) if of is None else of
        if not 1 <= number <= max(most, 1):
            raise RecipeError(f"summary_blocks {number} of {most} blocks", where="backbone")
        self.summary_blocks = number

    def _initialise(self) -> None:
        """Draw the weights as weaver-core 0.5 does.

        Xavier-uniform linear layers with q, k and v counted one by one (MoCo v3, arXiv:2104.02057), zero biases,
        PyTorch's default in the pair network, class token and registers normal with width 0.02; the two matrices that
        write into the residual stream of constituent block l are divided by sqrt(2 l) (as in BEiT, arXiv:2106.08254).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and not name.startswith("pair_embedding"):
                outputs, inputs = module.weight.shape
                outputs = outputs // 3 if name.endswith("qkv") else outputs
                bound = math.sqrt(6.0 / (outputs + inputs))
                nn.init.uniform_(module.weight, -bound, bound)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            for layer, block in enumerate(cast("Iterable[Block]", self.blocks), start=1):
                block.out.weight /= math.sqrt(2 * layer)
                block.fc2.weight /= math.sqrt(2 * layer)
        if self.embedding.joining_linear is not None:
            nn.init.zeros_(self.embedding.joining_linear.weight)
        if self.class_token is not None:
            nn.init.trunc_normal_(self.class_token, std=0.02)
        if self.registers is not None:
            nn.init.trunc_normal_(self.registers, std=0.02)

    def forward(self, jets: Jets) -> Encoded:
        """Embeddings of every constituent and of every jet, and what became of the registers."""
        layout = self._layout(jets)
        encoded, pooled, *means = zip(*self._encode(jets, layout, read_out=True), strict=True)
        constituents, registers = self._apart(encoded, layout)
        jet, *earlier = (layout.in_batch_order(self.norm(torch.cat(groups))) for groups in (pooled, *means))
        summary = torch.cat([jet, *reversed(earlier)], dim=1) if earlier else jet
        return Encoded(layout.unpack(constituents), jet, registers, summary)

    def constituents(self, jets: Jets) -> Tensor:
        """(B, N, D) embeddings of the constituents, before pooling; zero in padded slots."""
        layout = self._layout(jets)
        encoded = [x for x, *_ in self._encode(jets, layout, read_out=False)]
        return layout.unpack(self._apart(encoded, layout)[0])

    def _layout(self, jets: Jets) -> Layout:
        tokens = jets.mask.shape[1] + (0 if self.registers is None else self.registers.shape[1])
        return Layout.of(jets.mask, whole=self.one_group, spare=spare_slots(self, tokens))

    def _encode(self, jets: Jets, layout: Layout, *, read_out: bool) -> list[tuple[Tensor, ...]]:
        """What `_through` gives of each group, after what all jets share: the statistics of both embeddings."""
        inputs = self.embedding.standard(jets.features, layout)
        if self.pair_embedding is not None:
            pairs = self.pair_embedding(layout.spread(layout.pack(jets.p4)), layout.groups)
            inputs = [(*x, y) for x, y in zip(inputs, pairs, strict=True)]
        jobs = [partial(self._through, group, read_out) for group in layout.groups]
        if not self._is_for_threads(layout):
            return [job(*x) for job, x in zip(jobs, inputs, strict=True)]
        modules = (self.embedding.layers, self.blocks, self.class_blocks)
        parameters = [x for module in modules for x in module.parameters()]
        parameters += [x for x in (self.class_token, self.registers) if x is not None]
        return shared_graphs(jobs, inputs, parameters, draw=self.training, one_by_one=is_first_time(self))

    def _is_for_threads(self, layout: Layout) -> bool:
        """Whether threads take a group each; not where groups share what is computed once, or each would compile.

        Gradients or not must not matter in training: a look ahead without them drops what the step will drop.
        """
        if not are_worth_it(layout.mask.device, len(layout.groups)):
            return False
        recompute = self.checkpointing and (self.training or torch.is_grad_enabled())
        once = any(parametrize.is_parametrized(x) for x in self.modules()) or compiles_for_each_thread(self)
        return not (recompute or once or torch.compiler.is_compiling())

    def _through(self, group: Group, read_out: bool, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One group through the network.

        Args:
            group: the jets.
            read_out: pool them, too.
            *inputs: what `ConstituentEmbedding` and `PairEmbedding` made of them.

        Returns:
            (b, R + n, D), registers first; padded slots mean nothing. If they are read out, (b, D), and for each
            further block of the summary the means over constituents (b, D), the deepest last.
        """
        if self.pair_embedding is None:
            bias = hide(self._seen(group), inputs[0])
        else:
            inputs, pairs = inputs[:-1], inputs[-1]
            bias = self.pair_embedding.bias(pairs, group)
            bias = bias if self.registers is None else _beside_registers(bias, self._seen(group))
        x = self.embedding(*inputs)
        number = 0
        if self.registers is not None:
            number = self.registers.shape[1]
            x = torch.cat([self.registers.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        recompute = self.checkpointing and torch.is_grad_enabled()
        means = []
        for left, block in zip(reversed(range(len(self.blocks))), self.blocks, strict=True):
            x = recomputed(block, x, bias, draws=self.training) if recompute else block(x, bias)
            if 0 < left < self.summary_blocks:
                means.append(_mean(x[:, number:], group))
        return (x, self._pooled(x[:, number:], group), *means) if read_out else (x,)

    def _pooled(self, x: Tensor, group: Group) -> Tensor:
        """The class blocks: constituents (b, n, D) -> jets (b, D), before the last norm."""
        if self.class_token is None:
            return _mean(x, group)
        hidden = hide(F.pad(group.real, (1, 0), value=True), x)
        token = self.class_token.expand(len(x), -1, -1).contiguous()  # as all later tokens are
        for block in self.class_blocks:
            token = block(token, x, hidden)
        return token[:, 0]

    def _apart(self, encoded: Sequence[Tensor], layout: Layout) -> tuple[list[Tensor], Tensor]:
        """(b, R + n, D) of each group -> constituents (b, n, D), and registers (B, R, D) in the batch's order."""
        if self.registers is None:
            return list(encoded), encoded[0].new_zeros(len(layout.mask), 0, self.dim)
        number = self.registers.shape[1]
        registers = torch.cat([x[:, :number] for x in encoded]).flatten(1)
        return [x[:, number:] for x in encoded], layout.in_batch_order(registers).view(-1, number, self.dim)

    def _seen(self, group: Group) -> Tensor:
        """(b, R + n) bool: the keys that are seen; all where there would be none, for a softmax over nothing is NaN."""
        if self.registers is None:
            return group.real | ~group.real.any(1, keepdim=True)
        return F.pad(group.real, (self.registers.shape[1], 0), value=True)

    def no_weight_decay(self) -> set[str]:
        """Parameters that timm's optimizers leave undecayed besides vectors and biases."""
        return {name for name in ("class_token", "registers") if getattr(self, name) is not None}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns by which timm sorts parameters into layers, for layer-wise learning rates; coarse: stem and rest."""
        stem = r"^embedding|^pair_embedding|^registers"
        if coarse:
            return {"stem": stem, "blocks": r"^blocks|^class_token|^class_blocks|^norm"}
        return {
            "stem": stem,
            "blocks": [(r"^blocks\.(\d+)", None), (r"^class_token|^class_blocks|^norm", (99999,))],
        }


def _beside_registers(bias: Tensor, seen: Tensor) -> Tensor:
    """The bias of constituents (b, H, n, n) and the keys seen (b, R + n) -> that of registers and constituents."""
    number, tokens = seen.shape[1] - bias.shape[-1], seen.shape[1]
    behind = room(tokens, bias.device)
    of_registers = F.pad(hide(seen, bias), (0, behind)).expand(-1, bias.shape[1], number, -1)
    return torch.cat([of_registers, F.pad(bias, (number, behind))], dim=2)[..., :tokens]


def _mean(x: Tensor, group: Group) -> Tensor:
    """(b, n, D) -> (b, D), the mean over the constituents of each jet."""
    count = group.real.sum(1, keepdim=True).clamp(min=1)
    return (x * group.real[..., None]).sum(1) / count
