"""jettag bench: how fast, beside the obvious alternative, in one run."""

from typing import Annotated, Literal

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


@app.command(cls=SeveralValues)
@boundary
def loader(
    data: Annotated[list[str], typer.Option("--data", help="Files or globs, read whole by every side.")],
    card: Annotated[str, typer.Option("--card", help="Data card of the files.")] = "jetclass",
    against: Annotated[Literal["weaver"] | None, typer.Option("--against", help="Also time weaver-core.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Jets in a batch.")] = 512,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed rounds; the median counts.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Jets per second on one core: from shards, straight from ROOT, of bare uproot, and of weaver-core's loader.

    Example: jettag bench loader --against weaver --card generated --data 'jets/*.root'
    """
    from jettag.data.benchmark import FEATURES, measure_loader
    from jettag.data.card import load_card
    from jettag.data.read import expand_inputs

    against_weaver = against == "weaver"
    with progress("bench", None) as update:
        rates = measure_loader(
            expand_inputs(data),
            load_card(card),
            against_weaver=against_weaver,
            batch_size=batch_size,
            rounds=rounds,
            on_progress=update,
        )
    say(f"{rates.jets} jets of {rates.constituents:.1f} constituents, {FEATURES}, jets per CPU second:")
    say(f"shards -> batches        {rates.shards:9.0f}")
    say(f"ROOT -> table            {rates.root:9.0f}   {rates.root / rates.uproot:.2f} of bare uproot.iterate")
    say(f"ROOT -> table -> batches {rates.root_batches:9.0f}")
    say(f"bare uproot.iterate      {rates.uproot:9.0f}   the same branches, nothing done with them")
    say(f"jettag data prepare      {rates.prepare:9.0f}   once, one worker")
    if rates.weaver is not None:
        say(f"weaver-core -> batches   {rates.weaver:9.0f}")
        say(f"shards are {rates.shards / rates.weaver:.1f} times as fast, ROOT {rates.root_batches / rates.weaver:.1f}")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "bench": "loader",
                "features": FEATURES,
                "jets": rates.jets,
                "constituents_mean": round(rates.constituents, 2),
                "batch_size": batch_size,
                "shards_jets_per_second": round(rates.shards, 1),
                "root_jets_per_second": round(rates.root, 1),
                "root_batches_jets_per_second": round(rates.root_batches, 1),
                "uproot_jets_per_second": round(rates.uproot, 1),
                "prepare_jets_per_second": round(rates.prepare, 1),
                "weaver_jets_per_second": None if rates.weaver is None else round(rates.weaver, 1),
                "ratio_root_to_uproot": round(rates.root / rates.uproot, 4),
                "ratio": None if rates.weaver is None else round(rates.shards / rates.weaver, 3),
                "ratio_root": None if rates.weaver is None else round(rates.root_batches / rates.weaver, 3),
            }
        )
