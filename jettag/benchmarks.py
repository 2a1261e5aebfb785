"""How fast the networks are, beside weaver-core on the same jets in one run, and whether both compute the same.

Each side gets the batches that its own loader would make of the jets: ours sorted by length in windows, weaver-core's
in random order, padded to the longest jet and then cut by its own trimmer. A step of training is loss, gradient and
AdamW; reading and padding are not timed. The sides take turns batch by batch, so that whatever else the machine does
falls on both.
"""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.data.card import load_card
from jettag.data.jets import Batch, Jets, JetTable
from jettag.data.loader import Loader
from jettag.data.read import expand_inputs, read_table
from jettag.errors import DataError, ResourceError
from jettag.interop.weaver import convert_state_dict
from jettag.models import build_backbone
from jettag.models.compiling import compile_blocks
from jettag.objectives import Classification
from jettag.random_jets import random_table
from jettag.training.devices import in_precision

__all__ = ["BenchSettings", "Comparison", "Rate", "bench_jets", "compare", "weaver_twin"]

Network = TypeVar("Network", bound=nn.Module)
FEATURES = "jetclass_full"
LEARNING_RATE = 1e-3
UNTIMED = {"compiled": 2}  # batches that run once before they are timed, 1 of others; all programs are there then
LOSS_BATCH = 32  # jets; a comparison of losses needs many steps, not large ones


@dataclass(frozen=True)
class BenchSettings:
    """What is measured.

    Attributes:
        mode: a step of training, or inference.
        size: of the backbone.
        batch_size: jets in a batch; 512 in the published recipes of weaver-core's network.
        steps: timed batches of each side; the jets of both are the same.
        loss_steps: steps of the comparison of losses.
        loss_precision: of that comparison. Rounding grows from step to step, by as much as the machine's order of sums
            will have it; in double precision what is left is a difference in what is computed.
        dropout: everywhere in the constituent blocks; None for the size's own.
        trim: let weaver-core cut its batches as it does by default. In training that drops constituents of the
            longest jets at random, to between the 90 % quantile of the lengths and the longest: less work than ours.
        compiled: time ours with blocks through `torch.compile`, too, which the untimed first batches wait for.
        mixed: time both sides in bf16 mixed precision, too. Ours does that where the recipe says ``precision: bf16``,
            and in inference with ``--precision bf16``; weaver-core's ``--use-amp`` reaches CUDA only, and is put
            around it here.
        seed: of weights, order and random jets.
    """

    mode: Literal["train", "infer"]
    size: str = "base"
    batch_size: int = 512
    steps: int = 3
    loss_steps: int = 50
    loss_precision: Literal["single", "double"] = "double"
    dropout: float | None = None
    trim: bool = True
    compiled: bool = False
    mixed: bool = False
    seed: int = 0

    @property
    def jets(self) -> int:
        """Jets that the timed batches hold."""
        return self.batch_size * self.steps


@dataclass(frozen=True)
class Rate:
    """Jets per second of one side: by the clock, and by the CPU time of all threads together."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        ours: of jettag.
        weaver: of weaver-core, or None where it was not asked for.
        ours_mixed: of jettag in bf16 mixed precision, or None where that was not asked for.
        weaver_mixed: of weaver-core likewise.
        compiled: of jettag with compiled blocks, or None where that was not asked for.
        compiled_mixed: of the same in mixed precision.
        difference: largest absolute difference between both sides, of the losses over ``loss_steps`` steps of
            training from the same weights, or of the class logits of all jets; None without weaver-core.
        jets: timed on each side.
        mean_constituents: of these jets.
        max_constituents: of these jets.
        dropout: in training.
        parameters: of one network.
    """

    ours: Rate
    weaver: Rate | None
    ours_mixed: Rate | None
    weaver_mixed: Rate | None
    compiled: Rate | None
    compiled_mixed: Rate | None
    difference: float | None
    jets: int
    mean_constituents: float
    max_constituents: int
    dropout: float
    parameters: int


def bench_jets(settings: BenchSettings, data: Sequence[str], card: str) -> JetTable:
    """As many jets as the settings time, of files with the published inputs of JetClass, or random ones without files.

    Raises:
        DataError: the files hold too few jets, or cannot be read.
    """
    if not data:
        return random_table(settings.jets, seed=settings.seed)
    table = read_table(expand_inputs(data), load_card(card), features=FEATURES, labels=True, max_jets=settings.jets)
    if len(table) < settings.jets:
        what = f"{len(table)} jets for {settings.steps} batches of {settings.batch_size}"
        raise DataError(what, do="give more files, or lower --steps or --batch-size")
    return table


def compare(
    settings: BenchSettings,
    table: JetTable,
    *,
    weaver: bool,
    device: torch.device | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Time both sides and compare what they compute.

    Args:
        settings: what to measure.
        table: the jets; all of them are timed.
        weaver: measure weaver-core beside.
        device: where; the CPU without.
        on_progress: told the jets timed so far.

    Raises:
        ResourceError: weaver-core is asked for and not installed.
    """
    device = device or torch.device("cpu")
    build_theirs = _weaver_class() if weaver else None
    torch.manual_seed(settings.seed)
    ours = _ours(settings, table, settings.dropout).to(device)
    theirs = _theirs(build_theirs, ours, trim=settings.trim).to(device) if build_theirs else None
    train = settings.mode == "train"
    sides, batches = {}, {}
    for mixed in (False, True) if settings.mixed else (False,):
        for name in ("ours", "compiled") if settings.compiled else ("ours",):
            own = _apart(ours, mixed, name == "compiled")
            sides[name, mixed] = _Side(own, Classification.logits, train, mixed)
            batches[name, mixed] = _batches(settings, table, bucket=True)
        if theirs is not None:
            sides["weaver", mixed] = _Side(_apart(theirs, mixed), _logits, train, mixed)
            batches["weaver", mixed] = _batches(settings, table, bucket=False)
    done = 0
    for turn, step in enumerate(zip(*batches.values(), strict=True)):
        for ((name, _), side), jets in zip(sides.items(), step, strict=True):
            if turn < UNTIMED.get(name, 1):
                side.run(jets.to(device), timed=False)
            side.run(jets.to(device))
        done += len(step[0])
        if on_progress:
            on_progress(done)
    difference = None
    if build_theirs is not None and theirs is not None and (settings.loss_steps or not train):
        difference = (
            _largest_loss_difference(settings, table, build_theirs, device)
            if train
            else _largest_logit_difference(ours, theirs, [jets.to(device) for jets in batches["weaver", False]])
        )
    rates = {name: side.rate(done) for name, side in sides.items()}
    return Comparison(
        ours=rates["ours", False],
        weaver=rates.get(("weaver", False)),
        ours_mixed=rates.get(("ours", True)),
        weaver_mixed=rates.get(("weaver", True)),
        compiled=rates.get(("compiled", False)),
        compiled_mixed=rates.get(("compiled", True)),
        difference=difference,
        jets=done,
        mean_constituents=float(table.counts.mean()),
        max_constituents=int(table.counts.max()),
        dropout=float(ours.backbone.settings()["dropout"]),
        parameters=sum(value.numel() for value in ours.parameters()),
    )


def _apart(network: Network, copied: bool, compiled: bool = False) -> Network:
    """The network, or one with the same weights that learns apart from it."""
    network = copy.deepcopy(network) if copied or compiled else network
    if compiled:
        compile_blocks(network)
    return network


class _Side:
    """A network, and the seconds that its batches took."""

    def __init__(
        self, network: Network, logits: Callable[[Network, Jets], Tensor], train: bool, mixed: bool = False
    ) -> None:
        self._network = network.train(train)
        self._logits: Callable[[Jets], Tensor] = lambda jets: logits(network, jets)
        self._mixed = mixed
        self._optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE) if train else None
        self._wall = self._cpu = 0.0

    def run(self, jets: Jets, *, timed: bool = True) -> Tensor:
        """One step of training, or one batch of inference; the loss or the logits."""
        _wait(jets.mask)
        wall, cpu = time.perf_counter(), time.process_time()
        if self._optimizer is None:
            with torch.inference_mode(), in_precision(jets.mask.device, self._mixed):
                result = self._logits(jets)
        else:
            self._optimizer.zero_grad()
            with in_precision(jets.mask.device, self._mixed):
                result = F.cross_entropy(self._logits(jets), cast("Tensor", jets.label))
            result.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        _wait(result)
        if timed:
            self._wall += time.perf_counter() - wall
            self._cpu += time.process_time() - cpu
        return result.detach()

    def rate(self, jets: int) -> Rate:
        return Rate(wall=jets / self._wall, cpu=jets / self._cpu)


def _wait(x: Tensor) -> None:
    """Let the device finish what it was given."""
    if x.device.type != "cpu":
        torch.accelerator.synchronize(x.device)


def _batches(settings: BenchSettings, table: JetTable, *, bucket: bool) -> list[Batch]:
    """One epoch: every jet once on either side."""
    loader = Loader(table, batch_size=settings.batch_size, seed=settings.seed, bucket=bucket)
    return [next(loader) for _ in range(loader.batches_per_epoch)]


def _ours(settings: BenchSettings, table: JetTable, dropout: float | None) -> Classification:
    changes = {} if dropout is None else {"dropout": dropout, "attention_dropout": dropout}
    backbone = build_backbone("particle_transformer", settings.size, table.features.shape[1], **changes)
    return Classification(backbone, max(len(table.class_names), 2))


def _weaver_class() -> Callable[..., nn.Module]:
    """The Particle Transformer of weaver-core, which logs its arguments at every construction."""
    try:
        from weaver.nn.model.ParticleTransformer import ParticleTransformer
    except ImportError as problem:
        raise ResourceError(
            f"weaver-core cannot be imported ({problem})",
            do="pip install weaver-core==0.5.3 numba numexpr tables lz4 tabulate tqdm",
        ) from None
    logging.getLogger("weaver").setLevel(logging.WARNING)
    return ParticleTransformer  # type: ignore[no-any-return]


def _theirs(build: Callable[..., nn.Module], ours: Classification, *, trim: bool) -> nn.Module:
    """weaver-core's network of our shape, and its weights in ours.

    Its trimmer is active from the first step; by default it lets five pass.
    """
    settings: dict[str, Any] = ours.backbone.settings()
    ratio = {"ffn_ratio": settings["mlp_ratio"]}
    drop = settings["dropout"]
    network = build(
        settings["num_features"],
        ours.head.num_classes,
        embed_dims=settings["embed_dims"],
        pair_embed_dims=settings["pair_dims"],
        num_heads=settings["num_heads"],
        num_layers=settings["num_layers"],
        num_cls_layers=settings["num_class_layers"],
        block_params={
            "dropout": drop,
            "attn_dropout": settings["attention_dropout"],
            "activation_dropout": drop,
            **ratio,
        },
        cls_block_params=ratio,
        use_pre_activation_pair=not settings["pair_activation"],
        trim=trim,
    )
    network.trimmer.warmup_steps = 0  # type: ignore[union-attr]
    backbone, head = convert_state_dict(network.state_dict())
    ours.backbone.load_state_dict(backbone)
    ours.head.load_state_dict(head)
    return network


def weaver_twin(ours: Classification) -> tuple[nn.Module, Callable[[Jets], Tensor]]:
    """weaver-core's network of our shape, and what makes its logits of a batch.

    Raises:
        ResourceError: weaver-core is not installed.
    """
    network = _theirs(_weaver_class(), ours, trim=False)
    return network, lambda jets: _logits(network, jets)


def _logits(network: nn.Module, jets: Jets) -> Tensor:
    """As weaver-core's loader hands jets to its network: channels first."""
    logits: Tensor = network(jets.features.transpose(1, 2), jets.p4.transpose(1, 2), jets.mask[:, None])
    return logits


def _largest_loss_difference(
    settings: BenchSettings, table: JetTable, build: Callable[..., nn.Module], device: torch.device
) -> float:
    """Train both from the same weights on the same batches without dropout, and compare the losses step by step.

    Two things that weaver-core does on purpose differ from step to step or count padding, and are off: its trimmer,
    which drops constituents at random, and the batch statistics of the input normalisation, frozen on both sides.
    """
    small = replace(settings, batch_size=min(settings.batch_size, LOSS_BATCH, len(table)))
    torch.manual_seed(settings.seed)
    ours = _ours(small, table, 0.0).to(device)
    theirs = _theirs(build, ours, trim=False).to(device)
    dtype = torch.float64 if settings.loss_precision == "double" else torch.float32
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    sides = [
        _Side(ours, Classification.logits, train=True),
        _Side(theirs, _logits, train=True),
    ]
    ours.backbone.embedding.norm.eval()
    theirs.embed.input_bn.eval()  # type: ignore[union-attr]
    loader = Loader(table, batch_size=small.batch_size, seed=settings.seed, bucket=False)
    worst = torch.zeros((), device=device)
    for _ in range(settings.loss_steps):
        jets = next(loader).to(device)
        jets = replace(jets, features=jets.features.to(dtype), p4=jets.p4.to(dtype))
        first, second = (side.run(jets) for side in sides)
        worst = torch.maximum(worst, (first - second).abs())
    return worst.item()


def _largest_logit_difference(ours: Classification, theirs: nn.Module, batches: Sequence[Jets]) -> float:
    with torch.inference_mode():
        return max((ours.logits(jets) - _logits(theirs, jets)).abs().max().item() for jets in batches)
