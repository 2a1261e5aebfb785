"""jettag weak cathode, lacathode, ..., compare: backgrounds learnt beside a signal region."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from jettag.errors import UsageError

from .console import JsonOption, boundary, emit_json, out, say
from .entry import loading
from .options import refuse_file
from .weak_options import (
    Background,
    Ends,
    Features,
    Folds,
    Noise,
    Runs,
    Signal,
    Target,
    Test,
    Workers,
    names,
    numbers,
    pair,
    weak_progress,
)

if TYPE_CHECKING:
    from jettag.run import FlowSettings

__all__ = ["COMMANDS"]

ABOUT = {
    "cathode": "Background sampled from a flow that was fitted in the side-bands (arXiv:2109.00546).",
    "lacathode": "The same in the latent space of the flow, where nothing is sculpted (arXiv:2210.14924).",
    "anode": "Ratio of two flows, of the signal region and of the side-bands (arXiv:2001.04990).",
    "ranode": "A flow of the signal alone over the background of the side-bands (arXiv:2312.11629).",
    "salad": "A simulation reweighted to the side-bands (arXiv:2001.05001).",
    "feta": "A simulation moved onto data by a flow (arXiv:2212.11285).",
    "curtains": "Side-bands moved to the signal region by optimal transport (arXiv:2203.09470).",
    "f4f": "Side-bands moved to the signal region by flows for flows (arXiv:2305.04646).",
    "compare": "Several methods on the same events, beside bound and ceiling.",
}
# Of flows: in half the epochs the likelihood of events they did not see is that of five times less.
RATE = 1e-2
BOUNDS = ("iad", "supervised")
COMPARED = "cwola,cathode,lacathode,ranode,curtains,combined,iad,supervised"


def _command(method: str) -> Callable[..., None]:
    """The command of a method, with the bounds beside it."""

    def run_method(
        background: Background,
        signal: Signal,
        test: Test,
        fraction: Annotated[list[str], typer.Option("--fraction", "--fractions", help="Of signal in the data.")],
        window: Annotated[str, typer.Option("--window", metavar="LOW:HIGH", help="Signal region [GeV].")] = (
            "3300:3700"  # of the LHC Olympics
        ),
        runs: Runs = 10,
        methods: Annotated[str, typer.Option("--methods", help="Of these.", hidden=method != "compare")] = (
            COMPARED if method == "compare" else ",".join((method, *BOUNDS))
        ),
        card: Annotated[str, typer.Option("--card", help="Data card.")] = "dijets",
        mass: Annotated[str, typer.Option("--mass", help="Column [GeV].")] = "m_jj",
        features: Features = None,
        span: Annotated[str, typer.Option("--range", metavar="LOW:HIGH", help="Ends of side-bands.")] = "2000:5500",
        simulation: Annotated[list[str] | None, typer.Option("--simulation", help="Files, of salad and feta.")] = None,
        shift: Annotated[float, typer.Option("--shift", help="x mass added to m_j1, delta_m_j.")] = 0.0,
        noise: Noise = 0,
        classifier: Annotated[str, typer.Option("--classifier", help="trees, network or both.")] = "trees",
        ends: Ends = None,
        folds: Folds = 5,
        epochs: Annotated[int, typer.Option("--epochs", min=1, metavar="N", help="Of flows, at most.")] = 15,
        flow: Annotated[str, typer.Option("--flow", metavar="NxW", help="Splines x width.")] = "2x64",
        workers: Workers = None,
        target: Target = None,
        as_json: JsonOption = False,
    ) -> None:
        with loading():
            from jettag import run

        from .weak_table import print_study

        refuse_file(target)
        low, high = pair(span, "--range")
        begin, end = pair(window, "--window")
        study = run.ResonanceStudy(
            sources=run.WeakSources(background=background, signal=signal, test=test, card=card),
            methods=names(methods),
            window=run.Window(begin, end, low, high),
            fractions=[value for text in fraction for value in numbers(text, "--fraction")],
            runs=runs,
            simulation=simulation or (),
            mass=mass,
            features=names(features) if features else run.HUNT_FEATURES,
            shift=shift,
            noise_features=noise,
            classifiers=names(classifier),
            settings=run.ResonanceSettings(flow=_flow(flow, epochs), folds=folds, selection=ends or "argos"),
        )
        with weak_progress(method) as told:
            content = run.resonance_study(study, target, workers=workers, told=told)
        if as_json:
            emit_json(content)
        else:
            print_study(out, content)
        if target is not None:
            say(f"{method}: tables in {target}")

    run_method.__name__ = method
    simulated = " --simulation s.root" if method in ("salad", "feta") else ""
    run_method.__doc__ = (
        f"{ABOUT[method]}\n\nExample: jettag weak {method} --background qcd.root --signal resonance.root "
        f"--test 'test/*.root' --fraction 0.005 --window 3300:3700{simulated}"
    )
    return boundary(run_method)


def _flow(text: str, epochs: int) -> "FlowSettings":
    """``2x64`` as settings of flows.

    Raises:
        UsageError: it is not.
    """
    from jettag import run

    transforms, _, hidden = text.partition("x")
    if not (transforms.isdigit() and hidden.isdigit() and int(transforms) and int(hidden)):
        raise UsageError(f"--flow {text!r} is not NxW", do="write it as 2x64: splines and the width of their networks")
    return run.FlowSettings(transforms=int(transforms), hidden=int(hidden), epochs=epochs, learning_rate=RATE)


COMMANDS: dict[str, Callable[..., None]] = {name: _command(name) for name in ABOUT}
