"""Options that the commands of `jettag weak` share, and how their texts are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jettag.errors import UsageError

from .console import progress, say

if TYPE_CHECKING:
    from jettag.run import Told, WeakSources

__all__ = [
    "Background",
    "Card",
    "Components",
    "Ends",
    "Features",
    "Folder",
    "Folds",
    "Fraction",
    "Jets",
    "Noise",
    "OfBackground",
    "OfSignal",
    "Other",
    "Pretrained",
    "Recipe",
    "Rows",
    "Runs",
    "Signal",
    "Target",
    "Test",
    "TestJets",
    "Workers",
    "names",
    "numbers",
    "pair",
    "weak_progress",
    "weak_sources",
]

Background = Annotated[list[str], typer.Option("--background", help="Files.")]
Signal = Annotated[list[str], typer.Option("--signal", help="Files.")]
Test = Annotated[list[str], typer.Option("--test", help="Files that judge.")]
Card = Annotated[str, typer.Option("--card", help="Data card.")]
Runs = Annotated[int, typer.Option("--runs", min=1, metavar="N", help="Of each point.")]
Features = Annotated[str | None, typer.Option("--features", help="Jet columns; or embedding.")]
Rows = Annotated[str | None, typer.Option("--rows", help="trees, probe, scratch, ...")]
Pretrained = Annotated[Path | None, typer.Option("--from", help="Backbone.")]
Target = Annotated[Path | None, typer.Option("--out", help="A study there goes on.")]
Folder = Annotated[Path | None, typer.Option("--out", help="Folder.")]
Fraction = Annotated[list[str], typer.Option("--fraction", "--fractions", help="Of signal in M1, as 0.01 or 1%.")]
Other = Annotated[float, typer.Option("--other-fraction", help="Of signal in M2.")]
Jets = Annotated[int | None, typer.Option("--jets", min=1, metavar="N", help="Background in each sample.")]
TestJets = Annotated[int | None, typer.Option("--test-jets", min=25, metavar="N", help="Of each class.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, metavar="N", help="Processes; default: cores, to 8.")]
Folds = Annotated[int, typer.Option("--folds", min=2, metavar="N", help="Of each ensemble.")]
Noise = Annotated[int, typer.Option("--noise-features", min=0, metavar="N", help="Of pure noise.")]
Ends = Annotated[
    Literal["argos", "loss"] | None, typer.Option("--selection", metavar="NAME", help="argos (default) or loss.")
]
Components = Annotated[int, typer.Option("--components", min=1, metavar="N", help="Of trees-pca.")]
OfBackground = Annotated[list[str] | None, typer.Option("--background-class", help="Default: all there.")]
OfSignal = Annotated[list[str] | None, typer.Option("--signal-class", help="Default: all there.")]
Recipe = Annotated[str, typer.Option("--recipe", help="Of the networks.")]


@contextmanager
def weak_progress(what: str) -> Iterator["Told"]:
    """Show notes as lines and trainings as a progress bar in per cent of all."""
    from jettag.run import Told

    with progress(what, 100, unit="%") as update:

        def log(record: dict[str, Any]) -> None:
            left = record["seconds_left"]
            time_left = "" if left is None else f", {left / 60:.0f} min left" if left > 90 else f", {left:.0f} s left"
            update(100 * record["done"] / record["of"], note=f"{record['point']}{time_left}")

        yield Told(log=log, note=lambda text: say(f"{what}: {text}"))


def weak_sources(
    background: list[str],
    signal: list[str],
    test: list[str],
    card: str,
    background_class: list[str] | None,
    signal_class: list[str] | None,
) -> "WeakSources":
    """The files of a study by role, and which of their classes count."""
    from jettag.run import WeakSources

    return WeakSources(
        background=background,
        signal=signal,
        test=test,
        card=card,
        background_class=background_class or (),
        signal_class=signal_class or (),
    )


def names(text: str) -> list[str]:
    """``a,b`` as a list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, option: str) -> list[float]:
    """``0.01,1%`` as numbers.

    Raises:
        UsageError: one is none.
    """
    try:
        return [float(part.removesuffix("%")) * (0.01 if part.endswith("%") else 1) for part in names(text)]
    except ValueError:
        raise UsageError(f"{option} {text!r} is no number", do="write it as 0.01 or 1%") from None


def pair(text: str, option: str) -> tuple[float, float]:
    """``3300:3700`` as two numbers, the lower one first.

    Raises:
        UsageError: they are not.
    """
    low, _, high = text.partition(":")
    try:
        edges = float(low), float(high)
    except ValueError:
        raise UsageError(f"{option} {text!r} is not LOW:HIGH", do="write it as 3300:3700, in GeV") from None
    if not 0 < edges[0] < edges[1]:
        raise UsageError(f"{option} {text!r} is empty", do="give the lower edge first, above zero")
    return edges
