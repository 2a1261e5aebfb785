"""Networks that others trained, as runs of ours."""

from pathlib import Path
from typing import Any

import torch

from jettag.config import dump_yaml
from jettag.config.files import write_atomically
from jettag.data.card import load_card
from jettag.data.features import feature_set
from jettag.errors import CheckpointError
from jettag.interop.weaver import import_checkpoint, read_data_config
from jettag.training.checkpoint import Checkpoint, save_checkpoint
from jettag.training.run_directory import occupy, open_run, read_run, update_run, write_model_card

__all__ = ["import_weaver"]


def import_weaver(
    checkpoint: Path, out: Path, *, config: Path | None = None, legacy: bool | None = None
) -> dict[str, Any]:
    """Turn a Particle Transformer of weaver-core into a run that `evaluate`, `predict` and `finetune` take.

    Args:
        checkpoint: weaver-core's weights.
        out: run directory to make.
        config: weaver's data configuration, which names features and classes. Without it the features follow from the
            number of inputs, and ten outputs are JetClass's ten classes.
        legacy: trained with weaver-core before 0.5.0; None to tell from the weights.

    Raises:
        CheckpointError: no weights of this architecture, or outputs whose classes nobody names.
    """
    named = read_data_config(config) if config else None
    backbone, head, found = import_checkpoint(checkpoint, features=named.features if named else None, legacy=legacy)
    if found["features"] is None:
        raise CheckpointError(
            f"{backbone.num_features} inputs are no published feature set", where=checkpoint, do="add --config X.yaml"
        )
    card = load_card("jetclass")
    outputs = head.num_classes if head else 0
    classes = list(named.class_names) if named and head else list(card.classes) if outputs == 10 else []
    if len(classes) != outputs:
        raise CheckpointError(
            f"{outputs} outputs, {len(classes)} class names", where=checkpoint, do="give weaver's data YAML: --config"
        )
    with occupy(out):
        open_run(out, resume=False)
        model = torch.nn.ModuleDict({"backbone": backbone} | ({"head": head} if head else {}))
        settings = {
            "features": found["features"],
            "feature_names": list(feature_set(found["features"]).names),
            "class_names": classes,
            "head_hidden": list(head.hidden) if head else [],
            "max_constituents": 128,  # what the published networks were trained with
            "backbone": backbone.settings(),
        }
        update_run(
            out,
            begin=True,
            task="import",
            source=found["source"],
            release=found["release"],
            seed=None,
            n_train=None,
            class_names=classes,
            feature_names=settings["feature_names"],
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            inputs=[],
            finished=True,
        )
        write_atomically(out / "card.yaml", dump_yaml(card))
        image = Checkpoint(step=0, model=model.state_dict(), state={"settings": settings})
        save_checkpoint(out, image, keep=1, is_best=True)
        write_model_card(
            out,
            title=f"Particle Transformer imported from {checkpoint.name}",
            tags=["imported", "weaver-core"],
            summary=[f"Weights of {found['release']} (arXiv:2202.03772), converted by jettag."],
        )
        return read_run(out)
