"""Supervised classification of jets: cross entropy on what a head makes of the backbone's embeddings."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parametrize

from jettag.data.jets import Jets
from jettag.models.adapters import adapters, add_lora, draw_dropout
from jettag.models.heads import AttentiveHead, ClassHead
from jettag.models.particle_transformer import ParticleTransformer
from jettag.models.precision import doubled, widened
from jettag.objectives.objective import Objective
from jettag.objectives.phases import ALL_AT_ONCE, Phases

__all__ = ["Classification"]


class Classification(Objective):
    """A class head on a backbone, and its loss.

    Args:
        backbone: encodes the jets.
        class_weight: C weights of the classes in the loss; ones where not given.
        label_smoothing: as in `torch.nn.functional.cross_entropy`.
        head_hidden: widths of hidden layers in the head; the published head has none.
        attentive: read the classes off the constituents by class attention, instead of off the jet embedding.
        phases: when the backbone is frozen: it keeps its weights and BatchNorm statistics and drops nothing.
        starts_fitted: a linear head starts at the regression of the embeddings (`jettag.training.fitted`), where a run
            begins with a frozen backbone and keeps them.
        lora: settings of `jettag.models.adapters.add_lora`; the backbone then moves by low-rank updates only, and its
            BatchNorm statistics and dropout are as if it were frozen.
    """

    class_weight: Tensor
    weighs_jets = True

    def __init__(
        self,
        backbone: ParticleTransformer,
        num_classes: int,
        *,
        class_weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        head_hidden: Sequence[int] = (),
        attentive: bool = False,
        phases: Phases = ALL_AT_ONCE,
        starts_fitted: bool = False,
        lora: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head: AttentiveHead | ClassHead
        if attentive:
            self.head = AttentiveHead(backbone.dim, num_classes, num_heads=backbone.settings()["num_heads"])
        else:
            self.head = ClassHead(backbone.summary_dim, num_classes, hidden=head_hidden)
        self.attentive = attentive
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weight", torch.tensor(class_weight or [1.0] * num_classes), persistent=False)
        self.phases = phases
        self.starts_fitted = starts_fitted
        self.lora = dict(lora) if lora else None
        if self.lora is not None:
            add_lora(self.backbone, **self.lora)
        self._moving = {name for name, parameter in self.backbone.named_parameters() if parameter.requires_grad}
        self._is_frozen = False
        self.enter(0.0)

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone is frozen at present."""
        return self._is_frozen

    @property
    def embedding_dim(self) -> int:
        """Width of what `embed` gives."""
        return self.backbone.dim if self.attentive else self.backbone.summary_dim

    @property
    def constituents_are_read(self) -> bool:
        """Whether the head wants the backbone's constituents, or its jet embedding."""
        return self.attentive

    def enter(self, progress: float) -> bool:
        """Freeze the backbone or set it free, as the phases have it; True where that changed."""
        before, self._is_frozen = self._is_frozen, self.phases.is_frozen(progress)
        if before == self._is_frozen:
            return False
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(name in self._moving and not self._is_frozen)
        self.train(self.training)
        return True

    def trained(self) -> set[str]:
        """Names of the parameters that are trained in some phase."""
        names = {name for name, _ in self.named_parameters() if not name.startswith("backbone.")}
        return names if self.phases.frozen >= 1 else names | {f"backbone.{name}" for name in self._moving}

    def saved_settings(self) -> dict[str, Any]:
        """How `jettag.training.restore` builds the head and the updates again."""
        hidden = list(self.head.hidden) if isinstance(self.head, ClassHead) else []
        settings: dict[str, Any] = {"head_hidden": hidden}
        if self.attentive:
            settings["attentive"] = True
        if self.lora is not None:
            settings["lora"] = self.lora
        return settings

    def train(self, mode: bool = True) -> "Classification":
        """Training mode; a frozen backbone stays in evaluation mode, and one that moves by updates but for these."""
        super().train(mode)
        if self.is_frozen or self.lora is not None:
            self.backbone.eval()
        for update in adapters(self.backbone):
            update.train(mode)
        return self

    def _updates_once(self) -> contextlib.AbstractContextManager[Any]:
        """Add the updates to the matrices once a pass; not where the pass is done again for its gradient."""
        if self.lora is None or self.backbone.checkpointing:
            return contextlib.nullcontext()
        return parametrize.cached()

    def embed(self, jets: Jets) -> Tensor:
        """What the head reads: (B, S D), or (B, N, D) where it reads constituents."""
        if self.attentive:
            return self.backbone.constituents(jets)
        summary: Tensor = self.backbone(jets).summary
        return summary

    def logits(self, jets: Jets) -> Tensor:
        """(B, C) unnormalised log-probabilities."""
        if jets.embedding is not None:
            embedding = jets.embedding.to(self.class_weight.dtype)
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
                embedding = self.embed(jets)
        logits: Tensor = self.head(embedding, jets.mask) if self.attentive else self.head(embedding)
        return widened(logits)

    def forward(
        self,
        jets: Jets,
        generator: torch.Generator | None = None,  # noqa: ARG002
        drawn: Tensor | None = None,  # noqa: ARG002
    ) -> dict[str, Tensor]:
        """Losses of a batch with labels: ``loss`` and ``accuracy``, and the ``weight`` of both."""
        if jets.label is None:
            msg = "classification needs labelled jets"
            raise ValueError(msg)
        draw_dropout(self.backbone)
        with self._updates_once():
            logits = self.logits(jets)
        weight = self.jet_weight(jets)
        smoothing = self.label_smoothing
        each = F.cross_entropy(logits, jets.label, self.class_weight, label_smoothing=smoothing, reduction="none")
        each = each if jets.weight is None else each * jets.weight
        total = weight.sum(dtype=doubled(weight))
        return {
            "loss": each.sum(dtype=doubled(each)) / total,
            "accuracy": (logits.argmax(1) == jets.label).float().mean().detach(),
            "weight": torch.stack([total, total.new_full((), len(jets))]),
        }

    def jet_weight(self, jets: Jets) -> Tensor:
        """(B,) weight of each jet in the loss: of its class, times its own where it has one."""
        weight = self.class_weight[jets.label]
        return weight if jets.weight is None else weight * jets.weight
