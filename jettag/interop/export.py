"""Taggers as files that programs without jettag read: ONNX, and programs of `torch.export`.

Both take ``features`` (B, N, F), ``p4`` (B, N, 4) and ``mask`` (B, N) with any number of jets and constituents, give
``probabilities`` (B, C), of flavour taggers also what is said of tracks and vertices, and carry in their metadata,
under the key ``jettag``, what the inputs and outputs are.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jettag.errors import ResourceError
from jettag.models.plain import PlainTagger

__all__ = ["FORMATS", "SUFFIXES", "Runner", "export_onnx", "export_torch"]

Runner = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
INPUTS = ("features", "p4", "mask")
KEY = "jettag"  # of the metadata


def _example(model: PlainTagger) -> tuple[tuple[Tensor, ...], Any]:
    """Inputs to trace the network with, and which of their axes are free."""
    jets, constituents = 3, 5
    features = torch.zeros(jets, constituents, model.backbone.num_features)
    p4 = torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(jets, constituents, 4).contiguous()
    axes = {0: torch.export.Dim("jets", min=1), 1: torch.export.Dim("constituents", min=1)}
    return (features, p4, torch.ones(jets, constituents, dtype=torch.bool)), (axes, axes, axes)


def export_torch(model: PlainTagger, path: Path, metadata: Mapping[str, Any]) -> Runner:
    """Write a ``torch.export`` program; returns what the file computes.

    `torch.export.load` reads it from Python; `torch._inductor.aoti_compile_and_package` compiles it for C++.
    """
    inputs, axes = _example(model)
    with torch.no_grad():
        program = torch.export.export(model, inputs, dynamic_shapes=axes)
    torch.export.save(program, path, extra_files={f"{KEY}.json": json.dumps(metadata)})
    loaded = torch.export.load(path).module()

    def run(features: Tensor, p4: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        found = loaded(features, p4, mask)
        return found if isinstance(found, tuple) else (found,)

    return run


def export_onnx(model: PlainTagger, path: Path, metadata: Mapping[str, Any]) -> Runner:
    """Write an ONNX file; returns what onnxruntime computes from it.

    Raises:
        ResourceError: the extra is not installed.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ResourceError(f"{name} is not installed", do="pip install 'jettag[onnx]'")
    import onnx
    import onnxruntime

    inputs, axes = _example(model)
    names = list(model.outputs)
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        # The exporter prints, logs and warns of its own insides.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                inputs,
                dynamo=True,
                dynamic_shapes=axes,
                input_names=INPUTS,
                output_names=names,
                verbose=False,
            )
    finally:
        logging.disable(disabled)
    assert program is not None  # dynamo=True gives one
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {KEY: json.dumps(metadata)})
    onnx.checker.check_model(proto)
    onnx.save(proto, os.fspath(path))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

    def run(features: Tensor, p4: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        fed = dict(zip(INPUTS, (x.numpy() for x in (features, p4, mask)), strict=True))
        return tuple(torch.from_numpy(found) for found in session.run(names, fed))

    return run


FORMATS: dict[str, Callable[[PlainTagger, Path, Mapping[str, Any]], Runner]] = {
    "onnx": export_onnx,
    "torch": export_torch,
}
SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
