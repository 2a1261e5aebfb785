"""From class probabilities to an honest table: metrics with intervals, rows, tables, plots, report. Needs no torch."""

from jettag.evaluation.metrics import Rejection, auc, background_rejection, working_point
from jettag.evaluation.rows import Row, aggregate, make_rows, remarks, to_json
from jettag.evaluation.scores import Pair, Scores, choose_pairs, name_runs

__all__ = [
    "Pair",
    "Rejection",
    "Row",
    "Scores",
    "aggregate",
    "auc",
    "background_rejection",
    "choose_pairs",
    "make_rows",
    "name_runs",
    "remarks",
    "to_json",
    "working_point",
]
