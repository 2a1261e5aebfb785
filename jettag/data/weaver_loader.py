"""weaver-core's own loader on files of JetClass's schema, for comparisons."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from jettag.data.features import FEATURE_SETS
from jettag.errors import ResourceError

__all__ = ["SLICE", "import_weaver", "weaver_batches", "weaver_config", "weaver_loader"]

SLICE = 0.01  # share of every file that its command line reads at a time by itself, as published for JetClass
LENGTH = 128  # constituents that weaver pads every jet to, as published for JetClass
UNCLIPPED = (None, 1)  # centre and scale of a column that weaver leaves alone

# weaver's names of what the feature set computes, as expressions of branches; the others are branches themselves.
NEW_VARIABLES = {
    "part_mask": "ak.ones_like(part_energy)",
    "part_pt": "np.hypot(part_px, part_py)",
    "part_pt_log": "np.log(part_pt)",
    "part_e_log": "np.log(part_energy)",
    "part_logptrel": "np.log(part_pt/jet_pt)",
    "part_logerel": "np.log(part_energy/jet_energy)",
    "part_deltaR": "np.hypot(part_deta, part_dphi)",
    "part_d0": "np.tanh(part_d0val)",
    "part_dz": "np.tanh(part_dzval)",
}


def import_weaver() -> Any:
    """The module of weaver-core's data sets.

    Raises:
        ResourceError: it is not installed.
    """
    try:
        from weaver.utils import dataset
    except ImportError as problem:
        do = "pip install weaver-core==0.5.3 numba numexpr tables lz4 tabulate tqdm"
        raise ResourceError(f"comparing with weaver-core needs it ({problem})", do=do) from None
    return dataset


def weaver_config(tree: str | None, classes: Sequence[str]) -> dict[str, Any]:
    """A data configuration of weaver-core with the features of ``jetclass_full``, padded as published for JetClass."""
    features = FEATURE_SETS["jetclass_full"].features
    variables = [[item.name, *(item.standardise or UNCLIPPED)] for item in features]
    padded = {"length": LENGTH, "pad_mode": "wrap"}
    momentum = ["part_px", "part_py", "part_pz", "part_energy"]
    return {
        "treename": tree,
        "new_variables": NEW_VARIABLES,
        "preprocess": {"method": "manual"},
        "inputs": {
            "pf_points": padded | {"vars": [["part_deta", *UNCLIPPED], ["part_dphi", *UNCLIPPED]]},
            "pf_features": padded | {"vars": variables},
            "pf_vectors": padded | {"vars": [[name, *UNCLIPPED] for name in momentum]},
            "pf_mask": {"length": LENGTH, "pad_mode": "constant", "vars": [["part_mask", *UNCLIPPED]]},
        },
        "labels": {"type": "simple", "value": [f"label_{name}" for name in classes]},
    }


def weaver_loader(
    files: Sequence[str], tree: str | None, classes: Sequence[str], folder: Path, batch_size: int, fetch_step: float = 1
) -> torch.utils.data.DataLoader:
    """Its `DataLoader` without workers.

    Args:
        files: paths.
        tree: name of the tree.
        classes: class names; the branches are ``label_CLASS``.
        folder: where its configuration may be written.
        batch_size: jets in a batch.
        fetch_step: share of every file that is read at a time, and shuffled; whole files are fastest, and what its
            command line takes by itself is `SLICE`.
    """
    module = import_weaver()
    logging.getLogger("weaver").setLevel(logging.ERROR)
    config = folder / "jetclass_full.yaml"
    config.write_text(yaml.safe_dump(weaver_config(tree, classes), sort_keys=False), encoding="utf-8")
    # In its data loading, for_training shuffles; weights it makes only where the configuration asks for them.
    dataset = module.SimpleIterDataset(
        {"_": list(files)}, str(config), for_training=True, fetch_step=fetch_step, async_load=False, name="train"
    )
    return torch.utils.data.DataLoader(dataset, batch_size=batch_size, num_workers=0)


def weaver_batches(
    files: Sequence[str], tree: str | None, classes: Sequence[str], folder: Path, batch_size: int, fetch_step: float = 1
) -> int:
    """Jets of one epoch of it."""
    np.random.seed(0)  # noqa: NPY002 - the generator that weaver draws from
    loader = weaver_loader(files, tree, classes, folder, batch_size, fetch_step)
    return sum(len(inputs["pf_mask"]) for inputs, *_ in loader)
