"""Asking a flavour tagger: classes of jets, origins and vertices of their constituents."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jettag.config.flavour import ORIGINS
from jettag.data.jets import JetTable, Table
from jettag.data.once import once
from jettag.models.vertices import vertex_index
from jettag.objectives.flavour import Flavour, FlavourOutput
from jettag.training import Tagger

__all__ = ["DEFAULT_THRESHOLD", "Asked", "ask", "choose_threshold", "threshold_of"]

BATCH_SIZE = 128  # jets: pairs of tracks need more memory than jets
DEFAULT_THRESHOLD = 0.5  # of two tracks being of one vertex, where none was chosen; salt's
THRESHOLDS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.97, 0.98, 0.99, 0.995)
SCANNED_JETS = 2000  # of the first validation jets: every threshold clusters them anew
HEAVY = (ORIGINS.index("FromB"), ORIGINS.index("FromC"))

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Asked:
    """What a tagger says of the J jets and M constituents of a table, in the table's order.

    Attributes:
        probabilities: (J, C) float64 of the jet classes.
        track: (M,) bool, which constituents are tracks; None for a table on disk.
        origin: (M, 8) float32 probabilities, zero without a track; None without that task.
        vertex: (M,) int64 number of the vertex, -1 without a track; None without that task.
        regression: (J, R) float32; None without such tasks.
    """

    probabilities: npt.NDArray[np.float64]
    track: npt.NDArray[np.bool_] | None = None
    origin: npt.NDArray[np.float32] | None = None
    vertex: npt.NDArray[np.int64] | None = None
    regression: npt.NDArray[np.float32] | None = None


def threshold_of(tagger: Tagger) -> float:
    """The vertex threshold that was chosen after training."""
    return float(tagger.facts.get("flavour", {}).get("vertex_threshold", DEFAULT_THRESHOLD))


def _packed(output: FlavourOutput) -> tuple[Tensor, Tensor, Tensor]:
    """Where each track stands (B, T), which of these are tracks (B, T), and their pairs (B, T, T)."""
    assert output.pair is not None
    order = torch.argsort(~output.track, dim=1, stable=True)
    order = order[:, : max(int(output.track.sum(1).max()), 1)]
    track = output.track.gather(1, order)
    rows = output.pair.gather(1, order[..., None].expand(-1, -1, output.pair.shape[2]))
    return order, track, rows.gather(2, order[:, None].expand(-1, order.shape[1], -1))


def _vertices(output: FlavourOutput, threshold: float) -> Tensor:
    """(B, N) vertex of each constituent, -1 without a track."""
    order, track, pair = _packed(output)
    found = vertex_index(pair, track, threshold)
    return torch.full_like(output.track, -1, dtype=torch.int64).scatter(1, order, found)


def ask(tagger: Tagger, table: Table, device: torch.device, on_progress: Progress | None = None) -> Asked:
    """Everything that a tagger with a flavour objective says of ``table``."""
    model = tagger.model.to(device)
    assert isinstance(model, Flavour)
    threshold = threshold_of(tagger)
    by_jet: dict[str, npt.NDArray[Any]] = {}
    by_constituent: dict[str, npt.NDArray[Any]] = {}
    offsets = table.offsets if isinstance(table, JetTable) else None
    done = 0
    with torch.inference_mode():
        for index, jets in once(table, BATCH_SIZE, device):
            output = model.outputs(jets)
            _fill(by_jet, {"probabilities": output.jet, "regression": output.regression}, len(table), index)
            if offsets is not None:
                mask = jets.mask.cpu().numpy()
                rows = (offsets[index][:, None] + np.arange(mask.shape[1]))[mask]
                vertex = None if output.pair is None else _vertices(output, threshold)
                columns = {"track": output.track, "origin": output.origin, "vertex": vertex}
                real = {name: None if x is None else x[jets.mask.to(x.device)] for name, x in columns.items()}
                _fill(by_constituent, real, int(offsets[-1]), rows)
            done += len(index)
            if on_progress:
                on_progress(done)
    by_jet.setdefault("probabilities", np.empty((0, len(tagger.class_names))))
    return Asked(**by_jet, **by_constituent)


def _fill(
    found: dict[str, npt.NDArray[Any]], columns: dict[str, Tensor | None], length: int, rows: npt.NDArray[np.int64]
) -> None:
    for name, tensor in columns.items():
        if tensor is not None:
            values = tensor.cpu().numpy()
            if name not in found:
                found[name] = np.zeros((length, *values.shape[1:]), dtype=values.dtype)
            found[name][rows] = values


def choose_threshold(
    tagger: Tagger, table: JetTable, device: torch.device, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[float, list[float]]:
    """The threshold whose vertices agree best with the true ones, and the F1 score of each.

    Pairs of tracks count that are in one vertex, found or true: F1 = 2 both / (found + true). Of pairs without any
    track of a b or c hadron (where the table has origins) none counts, or the primary vertex would decide.
    """
    model = tagger.model.to(device)
    assert isinstance(model, Flavour)
    sums = torch.zeros(len(thresholds), 2, dtype=torch.int64, device=device)
    for output, vertex, origin in _outputs(model, table.select(np.arange(min(len(table), SCANNED_JETS))), device):
        order, track, pair = _packed(output)
        true = vertex.gather(1, order)
        counts = (track[:, :, None] & track[:, None]).triu(1)
        if origin is not None:
            own = origin.gather(1, order)
            heavy = (own >= HEAVY[0]) & (own <= HEAVY[1])
            counts &= heavy[:, :, None] | heavy[:, None]
        is_true = counts & (true[:, :, None] == true[:, None]) & (true >= 0)[:, None]
        for place, threshold in enumerate(thresholds):
            number = vertex_index(pair, track, threshold)
            is_found = counts & (number[:, :, None] == number[:, None])
            sums[place, 0] += 2 * (is_found & is_true).sum()
            sums[place, 1] += is_found.sum() + is_true.sum()
    agreed, pairs = sums.cpu().double().unbind(1)  # MPS has no float64
    scores = agreed / pairs.clamp(min=1)
    # The middle one of equally good thresholds: an untrained network has many.
    best = (scores >= scores.max() - 1e-12).nonzero().flatten()
    return float(thresholds[int(best[len(best) // 2])]), scores.tolist()


@torch.inference_mode()
def _outputs(
    model: Flavour, table: JetTable, device: torch.device
) -> Iterator[tuple[FlavourOutput, Tensor, Tensor | None]]:
    """Output, true vertices and true origins of each batch."""
    for _, jets in once(table, BATCH_SIZE, device):
        assert jets.vertex is not None
        yield model.outputs(jets), jets.vertex, jets.origin
