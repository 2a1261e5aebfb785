"""From a flavour tagger and test files to what `jettag.evaluation.flavour` judges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from jettag.config.schemes import add_up, find_sums
from jettag.data.card import DataCard
from jettag.data.impact import Impact, change_impact
from jettag.data.inputs import InputFile
from jettag.data.jets import JetTable, Table
from jettag.data.opening import split_of
from jettag.data.read import stored_in_all
from jettag.errors import UsageError
from jettag.evaluation.discriminants import discriminant
from jettag.evaluation.flavour import (
    Discriminant,
    FlavourScores,
    TrackScores,
    mean_signed_significance,
    stored_discriminants,
)
from jettag.evaluation.regression import RegressionScores
from jettag.evaluation.scores import Scores
from jettag.objectives import Flavour
from jettag.objectives.flavour import regression_target
from jettag.runs.flavour_asking import Asked
from jettag.runs.flavour_data import COMPUTED
from jettag.training import Tagger

__all__ = [
    "NOTHING_MORE",
    "Asking",
    "Extra",
    "add_up_scores",
    "extra_columns",
    "flavour_scores",
    "impact_of",
    "refuse_unknown",
    "unjudged",
]

CONSTITUENTS = ("origin", "vertex", "d0", "d0_error", "charge")


@dataclass(frozen=True)
class Asking:
    """What an evaluation asks for besides pairs of classes.

    Attributes:
        scheme: coarser label scheme that the run's classes are added up to.
        impact: what is done to the impact parameters.
        discriminants: to judge instead of the stored ones.
    """

    scheme: str | None = None
    impact: Impact = "kept"
    discriminants: Sequence[Discriminant] = ()


NOTHING_MORE = Asking()


def refuse_unknown(asking: Asking, class_names: Sequence[str]) -> tuple[str, ...]:
    """See that a run of these classes has the scheme and the discriminants that are asked for.

    Returns:
        The classes that are judged.

    Raises:
        UsageError: the classes do not add up, a class is unknown, or fractions are off the simplex.
    """
    names = tuple(find_sums(class_names, asking.scheme)) if asking.scheme else tuple(class_names)
    for chosen in asking.discriminants:
        discriminant(np.ones((1, len(names))), names, chosen.signal, chosen.fractions, chosen.groups)
    return names


@dataclass(frozen=True)
class Extra:
    """Columns to read beside the features."""

    constituents: tuple[str, ...] = ()
    jet: tuple[str, ...] = ()


def extra_columns(tagger: Tagger, inputs: Sequence[InputFile], card: DataCard) -> Extra:
    """What there is of the truth and of impact parameters, for a flavour tagger; nothing for others."""
    if not isinstance(tagger.model, Flavour) or split_of(inputs[0], "test") is not None:
        return Extra()
    found = stored_in_all(inputs, card, CONSTITUENTS, "constituents")
    wanted = tagger.model.recipe.jet_columns
    known = {*COMPUTED, *stored_in_all(inputs, card, [name for name in wanted if name not in COMPUTED])}
    jet = dict.fromkeys(("pt", *(name for name in wanted if name in known)))
    return Extra((*found, "dphi") if "d0" in found else found, tuple(jet))


def impact_of(table: Table, features: str, how: Impact) -> Table:
    """The table with its impact parameters kept, negated or shuffled.

    Raises:
        UsageError: of a prepared directory only ``kept`` can be asked.
    """
    if how == "kept":
        return table
    if not isinstance(table, JetTable):
        raise UsageError(f"--impact {how} of a prepared directory", do="give the files themselves")
    return change_impact(table, features, how)


def add_up_scores(scores: Scores, coarse: str) -> Scores:
    """Scores of the coarser classes.

    Raises:
        UsageError: the classes do not add up to that scheme.
    """
    sums = find_sums(scores.class_names, coarse)
    groups = list(sums)
    place = [next(i for i, key in enumerate(groups) if name in sums[key]) for name in scores.class_names]
    return Scores(
        run=scores.run,
        class_names=tuple(groups),
        probabilities=add_up(scores.probabilities, scores.class_names, sums),
        label=np.array(place)[scores.label],
        seed=scores.seed,
        parameters=scores.parameters,
        n_train=scores.n_train,
    )


def flavour_scores(tagger: Tagger, scores: Scores, table: Table, asked: Asked, asking: Asking) -> FlavourScores:
    """What is judged of a flavour tagger."""
    choices = {} if asking.scheme else tagger.facts.get("flavour", {})
    chosen = tuple(asking.discriminants) or stored_discriminants(scores.class_names, choices)
    if not isinstance(table, JetTable):
        return FlavourScores(scores, chosen)
    return FlavourScores(
        scores,
        chosen,
        pt=table.jet["pt"].astype(np.float64) if "pt" in table.jet else None,
        event=table.jet["event_number"].astype(np.int64) if "event_number" in table.jet else None,
        tracks=_tracks(table, asked),
        baseline=_baseline(table),
        regressions=_regressions(tagger, table, asked),
    )


def unjudged(name: str, judged: FlavourScores, asked: Asked, table: Table) -> list[str]:
    """A note for each kind of head that the run ``name`` has and whose truth the jets lack."""
    has = {
        "origins": (asked.origin is not None, judged.tracks is not None),
        "vertices": (asked.vertex is not None, judged.tracks is not None and judged.tracks.true_vertex is not None),
        "regression": (asked.regression is not None, bool(judged.regressions)),
    }
    lacking = [what for what, (asks, told) in has.items() if asks and not told]
    if not lacking:
        return []
    why = "the files lack its truth" if isinstance(table, JetTable) else "prepared jets carry no truth for it"
    return [f"{name}: {', '.join(lacking)} not judged: {why}"]


def _tracks(table: JetTable, asked: Asked) -> TrackScores | None:
    truth = table.constituent
    if "origin" not in truth or asked.track is None or (asked.origin is None and asked.vertex is None):
        return None
    origin = None if asked.origin is None else np.where(asked.track, asked.origin.argmax(axis=1), -1)
    vertex = truth["vertex"].astype(np.int64) if "vertex" in truth else None
    return TrackScores(table.offsets, truth["origin"].astype(np.int64), origin, vertex, asked.vertex)


def _regressions(tagger: Tagger, table: JetTable, asked: Asked) -> tuple[RegressionScores, ...]:
    """Of the heads whose columns the files have."""
    model = tagger.model
    if not isinstance(model, Flavour) or asked.regression is None:
        return ()
    heads = []
    for predicted, (target, task) in zip(asked.regression.T, model.recipe.regression.items(), strict=True):
        names = [name for name in (target, task.relative_to) if name]
        if all(name in table.jet for name in names):
            columns = torch.tensor(np.stack([table.jet[name].astype(np.float64) for name in names], axis=1))
            value, counts = regression_target(columns, names, target, task)
            true = torch.where(counts, value.exp() if task.logarithm else value, torch.nan).numpy()
            said = predicted.astype(np.float64)
            heads.append(RegressionScores(target, said, true, task.relative_to, task.logarithm))
    return tuple(heads)


def _baseline(table: JetTable) -> np.ndarray | None:
    columns = table.constituent
    if not {"d0", "d0_error", "dphi"} <= columns.keys():
        return None
    track = columns["charge"] != 0 if "charge" in columns else np.ones(len(columns["d0"]), dtype=bool)
    d0, error, dphi = (columns[name].astype(np.float64) for name in ("d0", "d0_error", "dphi"))
    return mean_signed_significance(table.offsets, d0, error, dphi, track)
