"""jettag export: a run's tagger as a file for programs without jettag, compared with jettag before it is kept."""

from pathlib import Path
from typing import Any

import torch

from jettag import __version__
from jettag.config.files import beside, sync
from jettag.config.flavour import ORIGINS
from jettag.data.card import load_card
from jettag.data.features import feature_set
from jettag.data.formulas import describe_columns, describe_features
from jettag.data.jets import Jets
from jettag.errors import CheckpointError, ResourceError, UsageError, nearest
from jettag.interop.export import FORMATS, SUFFIXES
from jettag.models.plain import PlainTagger
from jettag.models.plain_flavour import PlainFlavour
from jettag.objectives import Flavour
from jettag.runs.flavour_asking import threshold_of
from jettag.training import Tagger, load_tagger

__all__ = ["TOLERANCE", "export"]

TOLERANCE = 1e-4  # of a probability: networks of this size lose some 1e-6 to the order of float32 sums
PION_MASS = 0.1396  # GeV
COMPARED = ((1, 1), (1, 40), (7, 3), (16, 25), (5, 128))  # jets and constituents of the batches that are compared


def export(run: Path, *, kind: str, out: Path | None = None, tolerance: float = TOLERANCE) -> dict[str, Any]:
    """Write the tagger of a run; low-rank updates are merged.

    Args:
        run: a fine-tuned run or a checkpoint.
        kind: a key of `FORMATS`.
        out: the file; ``tagger.onnx`` or ``tagger.pt2`` in the run where not given.
        tolerance: most by which a probability may differ from jettag's own.

    Returns:
        ``out``, ``format``, ``metadata``, and as ``parity`` the ``max_difference`` on random jets of each length.

    Raises:
        UsageError: an unknown format.
        CheckpointError: no tagger, or the file does not compute what jettag does.
        ResourceError: the format's packages are not installed, or the disk refuses.
    """
    if kind not in FORMATS:
        raise UsageError(f"unknown format {kind!r}", do=nearest(kind, FORMATS))
    tagger = load_tagger(run)
    path = out or tagger.run / f"tagger{SUFFIXES[kind]}"
    metadata = _metadata(tagger)
    try:
        with beside(path) as folder:
            made = folder / f"tagger{SUFFIXES[kind]}"
            exported = FORMATS[kind](_plain(tagger), made, metadata)
            parity = _parity(tagger, exported)
            worst = max(entry["max_difference"] for entry in parity)
            if not worst <= tolerance:
                raise CheckpointError(
                    f"probabilities of the exported network differ by up to {worst:.1e}, more than {tolerance:g}",
                    where=run,
                    do="nothing was written; raise --tolerance if that is good enough",
                )
            sync(made)
            made.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write ({error.strerror})", where=path, do="choose another --out") from None
    return {
        "out": str(path),
        "format": kind,
        "max_difference": worst,
        "tolerance": tolerance,
        "parity": parity,
        "metadata": metadata,
    }


def _plain(tagger: Tagger) -> PlainTagger:
    model = tagger.model
    if not isinstance(model, Flavour):
        return PlainTagger(model.backbone, model.head)
    return PlainFlavour(
        model.backbone,
        model.head,
        origin=model.origin,
        vertex=model.vertex,
        charge=model.charge,
        threshold=threshold_of(tagger),
        max_constituents=tagger.max_constituents,
    )


def _metadata(tagger: Tagger) -> dict[str, Any]:
    """What a program must know to prepare the inputs and read the outputs."""
    features = feature_set(tagger.features)
    card = load_card(tagger.run / "card.yaml")
    return {
        "jettag": __version__,
        "class_names": list(tagger.class_names),
        "feature_set": tagger.features,
        "jet_pt": features.jet_pt,  # GeV to which jets are scaled before anything else, or null
        "features": describe_features(features),  # clip((formula - subtract) * multiply, lowest, highest)
        "columns": describe_columns(features, card),  # the names in the formulas, and where the card has them
        "max_constituents": tagger.max_constituents,
        "inputs": {
            "features": "(jets, constituents, features) float32, standardised as `features` says, descending pT, "
            "zeros beyond a jet's constituents; the max_constituents hardest",
            "p4": "(jets, constituents, 4) float32: px, py, pz, energy in GeV",
            "mask": "(jets, constituents) bool: true where there is a constituent",
        },
        "outputs": {"probabilities": "(jets, classes) float32, in the order of class_names"} | _more_outputs(tagger),
        **({"flavour": tagger.facts.get("flavour", {})} if isinstance(tagger.model, Flavour) else {}),
    }


def _more_outputs(tagger: Tagger) -> dict[str, str]:
    if not isinstance(tagger.model, Flavour):
        return {}
    known = {
        "origin_probabilities": f"(jets, constituents, 8) float32: {', '.join(ORIGINS)}; 0 without a track",
        "vertex_probabilities": "(jets, constituents, constituents) float32: that two tracks are of one vertex",
        "vertex_index": "(jets, constituents) int64: number of the vertex, -1 without a track",
    }
    return {name: known[name] for name in _plain(tagger).outputs if name in known}


@torch.no_grad()
def _parity(tagger: Tagger, exported: Any) -> list[dict[str, Any]]:
    """Most by which probabilities of random jets differ from jettag's, for several numbers of jets and constituents."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for jets, constituents in COMPARED:
        batch = _random_jets(jets, constituents, tagger.model.backbone.num_features, generator)
        given = exported(batch.features, batch.p4, batch.mask)
        # Not compared: the numbers of vertices, which follow from the probabilities by a threshold.
        differences = [(x - y).abs().max() for x, y in zip(given, _expected(tagger, batch), strict=False)]
        difference = torch.stack(differences).max()
        number = float(difference) if difference.isfinite() else float("inf")
        found.append({"jets": jets, "constituents": constituents, "max_difference": number})
    return found


def _expected(tagger: Tagger, batch: Jets) -> list[torch.Tensor]:
    """What jettag says, in the order of the exported outputs."""
    if not isinstance(tagger.model, Flavour):
        return [torch.softmax(tagger.model.logits(batch), dim=1)]
    output = tagger.model.outputs(batch)
    return [output.jet.float(), *(x for x in (output.origin, output.pair) if x is not None)]


def _random_jets(jets: int, constituents: int, num_features: int, generator: torch.Generator) -> Jets:
    """Jets around an axis, the first full and the others of any length."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    pt, eta, phi = (1 + normal(jets, constituents)).exp(), *(0.3 * normal(2, jets, constituents))
    energy = ((pt * eta.cosh()) ** 2 + PION_MASS**2).sqrt()
    p4 = torch.stack([pt * phi.cos(), pt * phi.sin(), pt * eta.sinh(), energy], dim=-1)
    counts = torch.randint(1, constituents + 1, (jets, 1), generator=generator)
    counts[0] = constituents
    mask = torch.arange(constituents) < counts
    features = normal(jets, constituents, num_features)
    return Jets(features=features * mask[..., None], p4=p4 * mask[..., None], mask=mask)
