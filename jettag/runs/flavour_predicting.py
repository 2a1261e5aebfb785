"""jettag predict of a flavour tagger: classes of jets, origins and vertices of tracks, under the names of the tools.

In HDF5 the names are those of ATLAS's salt and puma, both where they differ, and momenta are in MeV as puma takes them:

    jets    NAME_pb, NAME_pc, NAME_pu, NAME_ptau; score_CLASS; pt, eta (pt_btagJes, eta_btagJes), eventNumber and
            HadronConeExclTruthLabelID where the files have them
    tracks  of charged constituents NAME_pPileup ... NAME_pOtherSecondary; NAME_aux_TrackOrigin, NAME_aux_VertexIndex
            (puma) and VertexIndex (salt); ftagTruthOriginLabel, ftagTruthVertexIndex where the files have them; index,
            the place in the file's jet; valid, and salt's mask, which is true of padding

In ROOT and Parquet: ``score_CLASS``, and jagged ``part_index`` (place of the constituent in the file's jet),
``part_is_track``, ``part_pORIGIN``, ``part_predicted_origin``, ``part_predicted_vertex``.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence

import awkward as ak
import numpy as np
import numpy.typing as npt
import torch

from jettag import __version__
from jettag.config.flavour import ORIGINS
from jettag.config.schemes import scheme
from jettag.data.card import DataCard
from jettag.data.jet_columns import read_jet_columns
from jettag.data.jets import Jets, JetTable
from jettag.data.read import expand_inputs, read_table, stored_in_all
from jettag.objectives import Flavour
from jettag.runs.flavour_asking import Asked, ask
from jettag.training import Tagger

__all__ = ["predict_flavour"]

ANY = "any"  # the class of every jet: none is asked for
MEV = 1000.0  # in a GeV
JET_TRUTH = {"flavour": "HadronConeExclTruthLabelID", "event_number": "eventNumber"}
TRACK_TRUTH = {"origin": "ftagTruthOriginLabel", "vertex": "ftagTruthVertexIndex"}

Columns = dict[str, ak.Array]


def predict_flavour(
    tagger: Tagger,
    files: Sequence[str],
    card: DataCard,
    *,
    ftag: bool,
    device: torch.device,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[Columns], dict[str, str]]:
    """Columns of every file, in the order of its jets, and the facts to write beside them.

    A jet without constituents has what the network says of an empty jet.

    Args:
        tagger: of a flavour run.
        files: paths and globs.
        card: of the files.
        ftag: the names of the HDF5 files of ATLAS's tools, instead of jettag's own.
        device: where.
        on_progress: called with the number of jets so far.
    """
    name = re.sub(r"\W", "_", tagger.run.name)
    chunks = []
    done = 0
    for number, item in enumerate(expand_inputs(files)):
        of_jets = stored_in_all([item], card, ["pt", "eta", *JET_TRUTH]) if ftag else ()
        truth = stored_in_all([item], card, list(TRACK_TRUTH), "constituents") if ftag else ()
        table = read_table(
            [item],
            card,
            features=tagger.features,
            labels=False,
            max_constituents=tagger.max_constituents,
            jet_columns=("entry", "pt", "eta"),
            constituent_columns=("slot", *truth),
        )

        def report(count: int, base: int = done) -> None:
            if on_progress:
                on_progress(base + count)

        asked = ask(tagger, table, device, report)
        flat, tracks = _columns(tagger, table, asked, device, ftag=ftag)
        stored: Mapping[str, npt.NDArray] = {}
        if of_jets:  # of jets without constituents too, which are not in the table
            unlabelled = card.model_copy(update={"labels": None})
            stored = read_jet_columns([item], unlabelled, of_jets, (ANY,), default=ANY).values
        rows = _ftag(tagger, table, stored, flat, tracks, name) if ftag else {**flat, **_plain(tracks)}
        rows["file"] = ak.Array(np.full(table.num_entries, number, dtype=np.int32))
        rows["entry"] = ak.Array(np.arange(table.num_entries, dtype=np.int64))
        chunks.append(rows)
        done += len(table)
    facts = {"jettag": __version__, "run": str(tagger.run.resolve()), "class_names": ",".join(tagger.class_names)}
    chosen = {key: value for key, value in tagger.facts.get("flavour", {}).items() if key != "chosen_on"}
    for found in chosen.get("discriminants", {}).values():
        found.pop("scan", None)
    return chunks, facts | {"flavour": json.dumps(chosen), "tagger": name}


def _full(table: JetTable, values: npt.NDArray, fill: npt.ArrayLike) -> npt.NDArray:
    """(E, ...) one row for each entry of the file."""
    rows = np.empty((table.num_entries, *values.shape[1:]), dtype=values.dtype)
    rows[:] = fill
    rows[table.jet["entry"]] = values
    return rows


def _columns(
    tagger: Tagger, table: JetTable, asked: Asked, device: torch.device, *, ftag: bool
) -> tuple[Columns, dict[str, ak.Array]]:
    """Columns of jets under jettag's names; of constituents, or with ``ftag`` of tracks alone, jagged."""
    model = tagger.model
    assert isinstance(model, Flavour)
    features = torch.zeros(1, 1, len(table.feature_names), device=device)
    nothing = Jets(features, torch.zeros(1, 1, 4, device=device), torch.zeros(1, 1, dtype=torch.bool, device=device))
    empty = model.outputs(nothing)
    scores = _full(table, asked.probabilities, empty.jet.cpu().numpy()).astype(np.float32)
    flat = {f"score_{name}": _column(scores, place) for place, name in enumerate(tagger.class_names)}
    if asked.regression is not None:
        values = _full(table, asked.regression, np.nan)
        flat |= {f"predicted_{name}": _column(values, k) for k, name in enumerate(model.recipe.regression)}
    assert asked.track is not None  # the table is in memory
    columns: dict[str, npt.NDArray] = {"index": table.constituent["slot"].astype(np.int32), "is_track": asked.track}
    if asked.origin is not None:
        columns |= {f"p{origin}": asked.origin[:, k] for k, origin in enumerate(ORIGINS)}
        columns["origin"] = np.where(asked.track, asked.origin.argmax(axis=1), -1).astype(np.int32)
    if asked.vertex is not None:
        columns["vertex"] = asked.vertex.astype(np.int32)
    truth = [name for name in TRACK_TRUTH if name in table.constituent]
    columns |= {f"true_{name}": table.constituent[name].astype(np.int32) for name in truth}
    kept = asked.track if ftag else np.ones(len(asked.track), dtype=bool)
    owner = np.repeat(table.jet["entry"], table.counts)[kept]
    counts = np.bincount(owner, minlength=table.num_entries)
    return flat, {name: ak.unflatten(np.ascontiguousarray(values[kept]), counts) for name, values in columns.items()}


def _column(values: npt.NDArray, place: int) -> ak.Array:
    return ak.Array(np.ascontiguousarray(values[:, place]))


def _plain(tracks: dict[str, ak.Array]) -> Columns:
    names = {"origin": "predicted_origin", "vertex": "predicted_vertex"}
    return {f"part_{names.get(name, name)}": column for name, column in tracks.items()}


def _ftag(
    tagger: Tagger,
    table: JetTable,
    stored: Mapping[str, npt.NDArray],
    flat: Columns,
    tracks: dict[str, ak.Array],
    name: str,
) -> Columns:
    """The names of ATLAS's tools; ``stored`` (E,) are jet columns of every entry of the file."""
    model = tagger.model
    assert isinstance(model, Flavour)
    chosen = scheme(model.recipe.scheme)
    rows = dict(flat)
    rows |= {f"{name}_p{chosen.letter(key)}": flat[f"score_{key}"] for key in tagger.class_names}
    pt, eta = (
        (stored[key] if key in stored else _full(table, table.jet[key], np.nan)).astype(np.float32)
        for key in ("pt", "eta")
    )
    pt = pt * np.float32(MEV)
    rows |= {"pt": ak.Array(pt), "pt_btagJes": ak.Array(pt), "eta": ak.Array(eta), "eta_btagJes": ak.Array(eta)}
    rows |= {theirs: ak.Array(stored[ours].astype(np.int64)) for ours, theirs in JET_TRUTH.items() if ours in stored}
    theirs = {"index": "index"}
    theirs |= {f"true_{ours}": label for ours, label in TRACK_TRUTH.items()}
    theirs |= {f"p{origin}": f"{name}_p{origin}" for origin in ORIGINS}
    theirs |= {"origin": f"{name}_aux_TrackOrigin", "vertex": f"{name}_aux_VertexIndex"}
    rows |= {theirs[ours]: column for ours, column in tracks.items() if ours in theirs}
    if "vertex" in tracks:
        rows["VertexIndex"] = tracks["vertex"]
    return rows
