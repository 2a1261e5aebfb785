"""What salt-ml and atlas-ftag-tools make of one batch, written to salt.json beside this script.

Both pin their dependencies (salt-ml 0.13.0: torch 2.12.0), so the tests do not depend on them and compare with the
numbers kept here. To make them again, in an environment of their own:

    python -m venv salt && salt/bin/pip install salt-ml==0.13.0 atlas-ftag-tools==0.3.3
    salt/bin/python tests/interop/make_salt.py
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from ftag import Flavours
from ftag.utils import calculate_rejection, get_discriminant
from salt.models.task import ClassificationTask, VertexingTask
from salt.utils.union_find import get_node_assignment
from torch import nn

COUNTS = (6, 5, 4, 2, 1)  # tracks of each jet
JET_WEIGHT = [1.0, 2.5, 0.7]
ORIGIN_WEIGHT = [3.96, 104.05, 1.0, 8.32, 5.98, 10.22, 1.0, 21.54]  # GN1's
FRACTIONS = {
    "bjets": {"cjets": 0.2, "ujets": 0.79, "taujets": 0.01},
    "cjets": {"bjets": 0.3, "ujets": 0.65, "taujets": 0.05},
}
EFFICIENCY = 0.7


class Given(nn.Module):
    """Logits that are given instead of a network's."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, *_):
        return self.logits


def batch(rng):
    """Logits and truth of a few jets, padded with -1; every origin and weight of pairs is there."""
    jets, longest = len(COUNTS), max(COUNTS)
    mask = np.arange(longest) < np.array(COUNTS)[:, None]
    origin = np.where(mask, rng.integers(0, 8, mask.shape), -1)
    origin[0] = [1, 1, 3, 4, 2, 7]  # two fakes, fake with heavy, two heavy
    vertex = np.where(mask, rng.integers(0, 3, mask.shape), -1)
    vertex = np.where(np.isin(origin, (0, 1)), -2, vertex)
    pair = rng.normal(-1.5, 2, (jets, longest, longest))
    return {
        "mask": mask,
        "label": rng.integers(0, 3, jets),
        "origin": origin,
        "vertex": vertex,
        "jet_logits": rng.normal(0, 2, (jets, 3)),
        "origin_logits": rng.normal(0, 2, (*mask.shape, 8)),
        "pair_logits": (pair + pair.transpose(0, 2, 1)) / 2,
    }


def losses(given):
    """Of salt's tasks, without and with the weights 1, 0.5 and 1.5."""
    x = {name: torch.as_tensor(values) for name, values in given.items()}
    pad = {"tracks": ~x["mask"]}
    dense = {"input_size": 4, "output_size": 3}
    jet = ClassificationTask(
        name="jet",
        input_name="jets",
        label="flavour_label",
        class_names=["b", "c", "light"],
        dense_config=dense,
        loss=nn.CrossEntropyLoss(weight=torch.tensor(JET_WEIGHT, dtype=torch.float64)),
    )
    origin = ClassificationTask(
        name="origin",
        input_name="tracks",
        label="ftagTruthOriginLabel",
        dense_config=dense | {"output_size": 8},
        loss=nn.CrossEntropyLoss(weight=torch.tensor(ORIGIN_WEIGHT, dtype=torch.float64)),
    )
    vertex = VertexingTask(
        name="vertex",
        input_name="tracks",
        label="ftagTruthVertexIndex",
        dense_config=dense | {"output_size": 1},
        loss=nn.BCEWithLogitsLoss(reduction="none"),
    )
    jet.net, origin.net = Given(x["jet_logits"]), Given(x["origin_logits"])
    n = x["mask"].shape[1]
    edge = x["mask"][:, :, None] & x["mask"][:, None] & ~torch.eye(n, dtype=torch.bool)
    vertex.net = Given(x["pair_logits"][edge][:, None])
    truth = {
        "jets": {"flavour_label": x["label"]},
        "tracks": {"ftagTruthOriginLabel": x["origin"], "ftagTruthVertexIndex": x["vertex"]},
    }
    nothing = torch.zeros(*x["mask"].shape, 4)
    found = {
        "jet": jet(nothing[:, 0], truth)[1],
        "origin": origin(nothing, truth, pad)[1],
        "vertex": vertex(nothing, truth, pad)[1],
    }
    components = get_node_assignment(x["pair_logits"][edge][:, None], ~x["mask"])
    return {name: float(value) for name, value in found.items()}, components[:, 0].tolist()


def discriminants(rng):
    """Of ftag, with the rejections of the three backgrounds at 70 %."""
    flavours = [Flavours[name] for name in ("bjets", "cjets", "ujets", "taujets")]
    label = rng.integers(0, 4, 200)
    logits = rng.normal(0, 1.5, (200, 4)) + 2 * np.eye(4)[label]
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).round(6)
    jets = np.array([tuple(row) for row in probabilities], dtype=[(f"GN2_{flavour.px}", "f8") for flavour in flavours])
    found = {}
    for signal, fractions in FRACTIONS.items():
        values = {Flavours[name].frac_str: value for name, value in fractions.items()}
        score = get_discriminant(jets, "GN2", Flavours[signal], flavours, values)
        at = [flavour.name for flavour in flavours].index(signal)
        rejections = {
            flavour.name: float(calculate_rejection(score[label == at], score[label == k], EFFICIENCY))
            for k, flavour in enumerate(flavours)
            if k != at
        }
        found[signal] = {"fractions": fractions, "score": score.tolist(), "rejections": rejections}
    return {
        "classes": [f.name for f in flavours],
        "probabilities": probabilities.tolist(),
        "label": label.tolist(),
    }, found


def main():
    """Write salt.json."""
    rng = np.random.default_rng(0)
    given = {name: values.round(6) if values.dtype.kind == "f" else values for name, values in batch(rng).items()}
    found, components = losses(given)
    jets, scores = discriminants(rng)
    result = {
        "versions": {name: version(name) for name in ("salt-ml", "atlas-ftag-tools", "torch")},
        "batch": {name: values.tolist() for name, values in given.items()},
        "jet_weight": JET_WEIGHT,
        "origin_weight": ORIGIN_WEIGHT,
        "losses": found,
        "components": components,
        "efficiency": EFFICIENCY,
        "jets": jets,
        "discriminants": scores,
    }
    text = json.dumps(result, separators=(",", ":"))
    Path(__file__).with_name("salt.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
