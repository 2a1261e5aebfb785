"""Particle Transformer weights and data configurations of weaver-core, the code behind arXiv:2202.03772.

Two families of weights exist. Releases up to 0.4.17 scaled the heads with ``einsum("tbhd,h->tbdh")``, which besides
scaling transposes the channels after every attention; 0.5.0 dropped the transposition without a word, so 0.5 loads
older weights silently and computes something else. `convert_state_dict` undoes the transposition exactly. The
families can be told apart: the older one stores ``attn.in_proj_weight``, the newer ``attn.in_proj.weight``.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jettag.config import read_yaml
from jettag.errors import CardError, CheckpointError
from jettag.models import ClassHead, ParticleTransformer

__all__ = ["DataConfig", "convert_state_dict", "import_checkpoint", "read_data_config", "read_state_dict"]

State = dict[str, Tensor]

_PREFIXES = ("_orig_mod.", "module.", "mod.")  # torch.compile, DataParallel, weaver's wrapper

_KINEMATIC = ["part_pt_log", "part_e_log", "part_logptrel", "part_logerel", "part_deltaR"]
_KINDS = ["ChargedHadron", "NeutralHadron", "Photon", "Electron", "Muon"]
_IDENTITY = ["part_charge", *(f"part_is{kind}" for kind in _KINDS)]
_DISPLACEMENT = ["part_d0", "part_d0err", "part_dz", "part_dzerr"]
_POSITION = ["part_deta", "part_dphi"]

# The inputs of the published networks in their order, by the name of the feature set here.
FEATURES = {
    "jetclass_kin": [*_KINEMATIC, *_POSITION],
    "jetclass_kinpid": [*_KINEMATIC, *_IDENTITY, *_POSITION],
    "jetclass_full": [*_KINEMATIC, *_IDENTITY, *_DISPLACEMENT, *_POSITION],
}

_BLOCK_NAMES = {
    "pre_attn_norm": "norm_in",
    "attn.in_proj": "qkv",
    "attn.out_proj": "out",
    "c_attn": "head_scale",
    "post_attn_norm": "norm_attention",
    "pre_fc_norm": "norm_mlp",
    "fc1": "fc1",
    "post_fc_norm": "norm_hidden",
    "fc2": "fc2",
    "w_resid": "residual_scale",
}


@dataclass(frozen=True)
class DataConfig:
    """What a weaver data configuration says about a network.

    Attributes:
        class_names: in the order of its outputs, without the ``label_`` in front.
        input_names: the constituent features in order.
        features: the feature set here that computes them, or None where there is none.
    """

    class_names: tuple[str, ...]
    input_names: tuple[str, ...]
    features: str | None


def read_state_dict(path: Path) -> State:
    """The tensors in a ``.safetensors`` file or in a file that ``torch.load(weights_only=True)`` accepts.

    Raises:
        CheckpointError: anything else, a pickled module above all.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError("no such file", where=path) from None
    except pickle.UnpicklingError:
        what = "expected tensors, found pickled Python objects or another kind of file"
        raise CheckpointError(what, where=path, do="save the network's state_dict()") from None
    except (OSError, EOFError, RuntimeError, SafetensorError, ValueError, KeyError) as problem:
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise CheckpointError(f"cannot be read as weights ({reason})", where=path) from None
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"expected named tensors, found {type(content).__name__}", where=path)
    strangers = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strangers:
        raise CheckpointError(f"expected tensors only, found {', '.join(strangers[:5])}", where=path)
    return {str(key): value for key, value in content.items()}


def convert_state_dict(weaver_state: Mapping[str, Tensor], *, legacy: bool | None = None) -> tuple[State, State]:
    """Weights of weaver's `ParticleTransformer` under the names of ours.

    Args:
        weaver_state: with any of the prefixes ``mod.``, ``module.``, ``_orig_mod.``.
        legacy: trained with weaver-core <= 0.4.17; None to tell from the names.

    Returns:
        state of the backbone, and of the `ClassHead`, empty where the file holds none.

    Raises:
        CheckpointError: a tensor that the published network does not have.
    """
    state = {_bare(key): value for key, value in weaver_state.items()}
    if legacy is None:
        legacy = any(key.endswith("attn.in_proj_weight") for key in state)
    if legacy:
        state = _without_transposition(state)
    last = max((int(key.split(".")[1]) for key in state if re.match(r"fc\.\d+\.", key)), default=0)
    backbone: State = {}
    head: State = {}
    unknown = []
    for key, value in state.items():
        if match := re.fullmatch(r"fc\.(\d+)\.(?:0\.)?(weight|bias)", key):
            place = 3 * int(match[1])  # each hidden layer is linear, ReLU, dropout
            head[f"layers.{place}.{match[2]}"] = value
        elif (name := _backbone_name(key)) is not None:
            backbone[name] = value.squeeze(-1) if name.startswith("pair_embedding") and value.ndim == 3 else value
        elif not key.startswith("trimmer."):
            unknown.append(key)
    if head and f"layers.{3 * last}.weight" not in head:
        unknown += [f"fc.{last}"]
    if unknown:
        shown = ", ".join(sorted(unknown)[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        what = f"unexpected {shown}"
        raise CheckpointError(what, where="weaver weights", do="only version 1 of its Particle Transformer is known")
    return backbone, head


def import_checkpoint(
    path: Path, *, features: str | None = None, legacy: bool | None = None, **untold: Any
) -> tuple[ParticleTransformer, ClassHead | None, dict[str, Any]]:
    """Rebuild a published network from its weights; widths, depths, heads and features follow from the shapes.

    Args:
        path: ``.pt`` or ``.safetensors``.
        features: name of the feature set; None to tell from the number of inputs.
        legacy: trained with weaver-core <= 0.4.17; None to tell from the names.
        untold: settings of `ParticleTransformer` that weights do not tell, such as ``pair_activation`` or
            ``dropout``; their defaults are those of the published networks.

    Returns:
        the backbone and its head (None where the file holds none), evaluating, and facts for `run.json`.

    Raises:
        CheckpointError: not weights, not this architecture, or tensors missing or of another shape.
    """
    weaver_state = read_state_dict(path)
    is_legacy = any(_bare(key).endswith("attn.in_proj_weight") for key in weaver_state) if legacy is None else legacy
    try:
        backbone_state, head_state = convert_state_dict(weaver_state, legacy=is_legacy)
    except CheckpointError as problem:
        raise CheckpointError(problem.what, where=path, do=problem.do) from None
    backbone = ParticleTransformer(**_settings(backbone_state, path), **untold)
    _load(backbone, backbone_state, path)
    head = None
    if head_state:
        widths = [value.shape[0] for key, value in head_state.items() if key.endswith("weight")]
        head = ClassHead(backbone.dim, widths[-1], hidden=widths[:-1])
        _load(head, head_state, path)
        head.eval()
    facts = {
        "source": str(path),
        "legacy": is_legacy,
        "release": "weaver-core <= 0.4.17" if is_legacy else "weaver-core 0.5",
        "features": _feature_set(backbone.num_features, features, path),
        "num_classes": None if head is None else head.num_classes,
        "settings": backbone.settings(),
    }
    return backbone.eval(), head, facts


def read_data_config(path: Path) -> DataConfig:
    """Class names and inputs of a weaver data configuration (YAML).

    Raises:
        CardError: no YAML, or one without ``labels: value`` and ``inputs: pf_features: vars``.
    """
    content = read_yaml(path, error=CardError)
    labels = _entry(content, path, "labels", "value")
    variables = _entry(content, path, "inputs", "pf_features", "vars")
    if not isinstance(labels, list | dict) or not isinstance(variables, list):
        raise CardError("expected lists under labels.value and inputs.pf_features.vars", where=path)
    inputs = [str(entry[0] if isinstance(entry, list) and entry else entry) for entry in variables]
    found = [name for name, published in FEATURES.items() if published == inputs]
    names = tuple(str(label).removeprefix("label_") for label in labels)
    return DataConfig(class_names=names, input_names=tuple(inputs), features=found[0] if found else None)


def _entry(content: Any, path: Path, *keys: str) -> Any:
    for depth, key in enumerate(keys, start=1):
        if not isinstance(content, dict) or key not in content:
            raise CardError(f"no {'.'.join(keys[:depth])}", where=path, do="expected a data configuration of weaver")
        content = content[key]
    return content


def _bare(key: str) -> str:
    while key.startswith(_PREFIXES):
        key = key.split(".", 1)[1]
    return key


def _backbone_name(key: str) -> str | None:
    """The name here of a weaver tensor; None where there is none."""
    key = re.sub(r"attn\.in_proj_(weight|bias)$", r"attn.in_proj.\1", key)
    if match := re.fullmatch(r"(cls_)?blocks\.(\d+)\.(.+)", key):
        stem, _, kind = match[3].rpartition(".")
        if match[3] in ("c_attn", "w_resid"):
            stem, kind = match[3], ""
        if stem not in _BLOCK_NAMES:
            return None
        place = f"{'class_' if match[1] else ''}blocks.{match[2]}"
        return f"{place}.{_BLOCK_NAMES[stem]}" + (f".{kind}" if kind else "")
    if match := re.fullmatch(r"pair_embed\.embed\.(\d+)\.(\w+)", key):
        # normalisation, then linear, normalisation, activation for each width
        layer, step = divmod(int(match[1]), 3)
        if int(match[1]) == 0:
            return f"pair_embedding.norm.{match[2]}"
        return f"pair_embedding.{'linears' if step == 1 else 'norms'}.{layer}.{match[2]}" if step else None
    for theirs, ours in (("embed.input_bn.", "embedding.norm."), ("embed.embed.", "embedding.layers.")):
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    if key == "cls_token":
        return "class_token"
    return key if re.fullmatch(r"norm\.(weight|bias)", key) else None


def _without_transposition(state: State) -> State:
    """Weights of 0.4 that give the same outputs without its transposition of channels.

    Channel k = d H + h after the old scaling is c_h times channel h D + d of the projection, so that reordering and
    scaling the projection's rows, with c = 1, is exact.
    """
    converted = dict(state)
    for key, scale in state.items():
        if not key.endswith("c_attn"):
            continue
        heads = len(scale)
        for name in (key.replace("c_attn", "attn.out_proj.weight"), key.replace("c_attn", "attn.out_proj.bias")):
            if name in state:
                rows = state[name].view(heads, -1, *state[name].shape[1:])
                scaled = rows * scale.view(-1, *[1] * (rows.ndim - 1))
                converted[name] = scaled.transpose(0, 1).flatten(0, 1).contiguous()
        converted[key] = torch.ones_like(scale)
    return converted


def _settings(state: State, path: Path) -> dict[str, Any]:
    """What the shapes of a converted backbone say about it."""

    def layers(pattern: str) -> list[Tensor]:
        found = [(int(match[1]), value) for key, value in state.items() if (match := re.fullmatch(pattern, key))]
        return [value for _, value in sorted(found, key=lambda pair: pair[0])]

    embed = [value.shape[0] for value in layers(r"embedding\.layers\.(\d+)\.weight") if value.ndim == 2]
    pairs = [value.shape[0] for value in layers(r"pair_embedding\.linears\.(\d+)\.weight")]
    blocks = layers(r"blocks\.(\d+)\.fc1\.weight")
    heads = layers(r"blocks\.(\d+)\.head_scale")
    inputs = state.get("embedding.norm.weight")
    if inputs is None or not embed or not blocks or not heads:
        missing = [
            name
            for name, there in (
                ("embed.input_bn", inputs is not None),
                ("embed.embed", embed),
                ("blocks", blocks),
                ("blocks.0.c_attn", heads),
            )
            if not there
        ]
        raise CheckpointError(f"missing {', '.join(missing)}", where=path, do="expected weaver's Particle Transformer")
    return {
        "num_features": inputs.shape[0],
        "dim": embed[-1],
        "embed_dims": embed,
        "pair_dims": pairs[:-1],
        "num_heads": heads[0].shape[0],
        "num_layers": len(blocks),
        "num_class_layers": len(layers(r"class_blocks\.(\d+)\.fc1\.weight")),
        "mlp_ratio": blocks[0].shape[0] // embed[-1],
    }


def _load(module: torch.nn.Module, state: State, path: Path) -> None:
    """Load all of it or say what does not fit."""
    expected = module.state_dict()
    # Counts of batches decide nothing; very old files lack them.
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    found = [
        f"{word} {', '.join(names[:5])}"
        for word, names in (("missing", missing), ("unexpected", unexpected), ("shape of", shapes))
        if names
    ]
    if found:
        raise CheckpointError("; ".join(found), where=path, do="expected weaver's Particle Transformer")
    module.load_state_dict(expected | state)


def _feature_set(num_features: int, features: str | None, path: Path) -> str | None:
    """The feature set by its name or by the number of inputs."""
    by_count = {len(names): name for name, names in FEATURES.items()}
    if features is None:
        return by_count.get(num_features)
    if features in FEATURES and len(FEATURES[features]) != num_features:
        what = f"{features} has {len(FEATURES[features])} features, the weights take {num_features}"
        raise CheckpointError(what, where=path, do=f"expected {by_count.get(num_features, 'another set')}")
    return features
