"""jettag weak closure: are two samples the same?"""

from typing import Annotated

import typer

from .console import JsonOption, boundary, emit_json, out
from .entry import loading
from .weak_options import Card, Features, Folds, names

__all__ = ["closure"]


@boundary
def closure(
    first: Annotated[list[str], typer.Option("--first", help="Files.")],
    second: Annotated[list[str], typer.Option("--second", help="Files to compare with them.")],
    card: Card = "jetclass",
    features: Features = None,
    folds: Folds = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything drawn.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare two samples by a classifier's out-of-fold AUC and by the Fréchet and kernel physics distances.

    Example: jettag weak closure --first data.root --second template.root --features mass,tau21
    """
    with loading():
        from jettag import run
        from jettag.weak.features import DEFAULT_FEATURES

    found = run.closure(
        first, second, names(features) if features else DEFAULT_FEATURES, card=card, folds=folds, seed=seed
    )
    if as_json:
        emit_json(found)
        return
    out.print(
        f"{found['n_first']} and {found['n_second']} jets, features {', '.join(found['features'])}", highlight=False
    )
    out.print(
        f"classifier AUC {found['classifier_auc']:.4f} (the same: 0.5 ± {found['classifier_sigma']:.4f}), "
        f"p {_p_value(found['classifier_p_value'])}",
        highlight=False,
    )
    out.print(f"FPD {found['fpd']:.3g} ± {found['fpd_error']:.2g}", highlight=False)
    out.print(f"KPD {found['kpd']:.3g} ± {found['kpd_error']:.2g}", highlight=False)


def _p_value(value: float) -> str:
    """Numbers below what a float holds are no zero."""
    return f"= {value:.3g}" if value > 0 else "< 1e-300"
