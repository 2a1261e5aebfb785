"""jettag weak events: files of the LHC Olympics as dijet events of jettag's own layout."""

from collections.abc import Callable, Sequence
from pathlib import Path

import awkward as ak
import numpy as np
import numpy.typing as npt

from jettag import __version__
from jettag.data.lhco import LhcoFile, high_level_columns
from jettag.data.write import refuse_unknown_kind, write_columns
from jettag.errors import DataError
from jettag.simulate.clustering import find_jets
from jettag.simulate.dijet_columns import dijet_columns

__all__ = ["convert_lhco"]


def convert_lhco(
    paths: Sequence[Path],
    out: Path,
    *,
    radius: float = 1.0,
    pt_min: float = 200.0,
    eta_max: float = 2.5,
    max_events: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Write high-level features as they are, or cluster constituents to jets and compute them.

    Args:
        paths: files of one layout.
        out: ROOT or Parquet file.
        radius: of the anti-kT jets.
        pt_min: lowest pT of both jets [GeV].
        eta_max: largest |eta| of both.
        max_events: the first so many.
        on_progress: told the number of events read.

    Returns:
        Events written.

    Raises:
        DataError: a file is of no known layout, or the files differ in layout.
    """
    refuse_unknown_kind(out)
    files = [LhcoFile(path) for path in paths]
    if len({(file.is_high_level, file.has_label) for file in files}) > 1:
        raise DataError("files of different layouts", where=paths[0], do="convert them one by one")
    pieces: list[dict[str, ak.Array]] = []
    done = 0
    for file in files:
        for rows, label in file.rows():
            rows = rows[: None if max_events is None else max_events - done]
            if not len(rows):
                break
            made = high_level_columns(rows) if file.is_high_level else _clustered(rows, radius, pt_min, eta_max)
            event = made.pop("event", np.arange(len(rows)))
            columns = made | {"event_number": (done + event).astype(np.int64)}
            if label is not None:
                own = label[event]
                columns |= {"label_background": own == 0, "label_signal": own == 1}
            if len(event):
                pieces.append({name: ak.Array(values) for name, values in columns.items()})
            done += len(rows)
            if on_progress:
                on_progress(done)
    if not pieces:
        raise DataError("no event with two jets", where=paths[0], do="lower --pt")
    return write_columns(out, pieces, {"jettag": __version__, "source": ", ".join(path.name for path in paths)})


def _clustered(rows: npt.NDArray[np.float64], radius: float, pt_min: float, eta_max: float) -> dict[str, ak.Array]:
    """Features of (n, K, 3) massless constituents (pT, eta, phi); a pT of zero is padding."""
    event, place = np.nonzero(rows[..., 0] > 0)
    pt, eta, phi = rows[event, place].T
    p4 = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)
    jets = find_jets(
        event,
        p4,
        events=len(rows),
        radius=radius,
        pt_min=pt_min,
        pt_max=np.inf,
        eta_max=eta_max,
        ghost_event=np.zeros(0, dtype=np.int64),
        ghost_p4=np.zeros((0, 4)),
    )
    return dijet_columns(jets, p4, np.zeros(len(p4), dtype=np.int64), radius=radius, mjj=(0.0, np.inf))
