"""jettag bench: how fast, beside the obvious alternative, in one run."""

from typing import Annotated

import typer

from .command import SeveralValues
from .console import JsonOption, boundary, emit_json, progress, say

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Rates beside those of the obvious alternative.")


@app.callback()
def bench() -> None:
    """Rates beside those of the obvious alternative."""


@app.command(cls=SeveralValues)
@boundary
def generate(
    process: Annotated[str, typer.Option("--process", help="Which events.")] = "QCD",
    events: Annotated[int, typer.Option("--events", min=1, help="Of each side, rounded up to 100.")] = 1600,
    as_json: JsonOption = False,
) -> None:
    """Events per second of `jettag generate` and of bare `pythia.next()`, on the same events.

    Example: jettag bench generate --process Tbqq
    """
    from jettag.simulate.benchmark import measure
    from jettag.simulate.processes import find_process

    name = find_process(process).name
    with progress("bench", None, unit="events") as update:
        rates = measure(name, events, on_progress=update)
    say(f"bare pythia.next()         {rates.bare:8.1f} events/s   {name}, {rates.events} events of the same seeds")
    say(f"jettag generate, 1 worker  {rates.one:8.1f} events/s   {rates.ratio:.2f} of bare")
    say(f"jettag generate, 2 workers {rates.two:8.1f} events/s   {rates.ratio_two:.2f} of one worker")
    say(f"start-up, not counted above: {rates.start_one:.1f} s with one worker, {rates.start_two:.1f} s with two")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "bench": "generate",
                "process": name,
                "events": rates.events,
                "bare_events_per_second": round(rates.bare, 3),
                "events_per_second": round(rates.one, 3),
                "events_per_second_two_workers": round(rates.two, 3),
                "ratio": round(rates.ratio, 4),
                "ratio_two_workers": round(rates.ratio_two, 4),
                "start_up_seconds": round(rates.start_one, 3),
                "start_up_seconds_two_workers": round(rates.start_two, 3),
            }
        )
