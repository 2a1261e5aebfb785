"""jettag bench: how fast, beside the obvious alternative, in one run."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from jettag.errors import UsageError

from .bench_table import rates_json, say_rates
from .command import SeveralValues
from .console import JsonOption, boundary, emit_json, progress, say
from .entry import loading
from .options import Device

__all__ = ["app"]

RANDOM_JETS = 100_000  # of the loader, where no files are given: as many as a file of JetClass has

app = typer.Typer(no_args_is_help=True, help="Rates beside those of the obvious alternative.")


@app.callback()
def bench() -> None:
    """Rates beside those of the obvious alternative."""


@app.command(cls=SeveralValues)
@boundary
def generate(
    process: Annotated[str, typer.Option("--process", help="Which events.")] = "QCD",
    events: Annotated[int, typer.Option("--events", min=1, help="Of each side, rounded up to 100.")] = 1600,
    against: Annotated[
        Literal["weaver"] | None, typer.Option("--against", help="weaver simulates nothing: bare Pythia stays beside.")
    ] = None,
    card: Annotated[str, typer.Option("--card", hidden=True, help="Nothing is read.")] = "jetclass",
    data: Annotated[list[str] | None, typer.Option("--data", hidden=True, help="Nothing is read.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Events per second of `jettag generate` and of bare `pythia.next()`, on the same events.

    Example: jettag bench generate --process Tbqq
    """
    with loading():
        from jettag.simulate.benchmark import measure
        from jettag.simulate.processes import find_process

    name = find_process(process).name
    if against:
        say("weaver-core simulates no jets: bare Pythia is the other side")
    if data:
        say(f"--data (card {card}) is not read: {name} is simulated")
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


Against = Annotated[str | None, typer.Option("--against", help="weaver: measure weaver-core beside, on the same jets.")]
BenchCard = Annotated[str, typer.Option("--card", help="Data card of the files.")]
BenchData = Annotated[list[str] | None, typer.Option("--data", help="Files or globs; random jets without.")]
Size = Annotated[str, typer.Option("--size", help="Size of the network, e.g. tiny, base.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=2, help="512; 128 in < 16 GiB.")]
Bf16 = Annotated[bool | None, typer.Option(help="In bf16, too; by default where the hardware has it.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Timed batches of each side.")]


@app.command(cls=SeveralValues)
@boundary
def train(
    against: Against = None,
    data: BenchData = None,
    card: BenchCard = "jetclass",
    size: Size = "base",
    batch_size: BatchSize = None,
    steps: Steps = 3,
    loss_steps: Annotated[int, typer.Option("--loss-steps", min=0, help="Steps of the comparison of losses.")] = 50,
    loss_precision: Annotated[
        Literal["single", "double"], typer.Option("--loss-precision", help="Of that comparison.")
    ] = "double",
    dropout: Annotated[float | None, typer.Option("--dropout", min=0, max=0.9, help="Default: the size's.")] = None,
    trim: Annotated[bool, typer.Option(help="weaver-core drops constituents of the longest jets.")] = True,
    compiled: Annotated[bool, typer.Option("--compile", help="Ours through torch.compile, too.")] = False,
    bf16: Bf16 = None,
    device: Device = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Jets per second of a training step, and how far the losses of both sides part.

    Example: jettag bench train --against weaver --size base
    """
    told = {"size": size, "batch_size": batch_size, "steps": steps, "dropout": dropout, "trim": trim}
    losses = {"loss_steps": loss_steps, "loss_precision": loss_precision}
    _network_rates("train", against, data, card, device, as_json, mixed=bf16, compiled=compiled, **told, **losses)


@app.command(cls=SeveralValues)
@boundary
def infer(
    against: Against = None,
    data: BenchData = None,
    card: BenchCard = "jetclass",
    size: Size = "base",
    batch_size: BatchSize = None,
    steps: Steps = 3,
    bf16: Bf16 = None,
    device: Device = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Jets per second of inference, and how far the class logits of both sides differ.

    Example: jettag bench infer --against weaver --size base
    """
    told = {"size": size, "batch_size": batch_size, "steps": steps}
    _network_rates("infer", against, data, card, device, as_json, mixed=bf16, **told)


def _usual_batch() -> int:
    """Jets in a batch of the published recipes, where weaver-core takes 11 GB on a CPU; fewer on a small machine."""
    from jettag.data.room import available

    free = available()
    return 512 if free is None or free >= 16 << 30 else 128


def _network_rates(
    mode: Literal["train", "infer"],
    against: str | None,
    data: list[str] | None,
    card: str,
    device: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure, and print both rates."""
    if against not in (None, "weaver"):
        raise UsageError(f"--against {against!r} is unknown", do="only weaver is known")
    with loading():
        import torch

        from jettag.benchmarks import BenchSettings, bench_jets, compare
        from jettag.run import choose_device, has_fast_bf16

    place = choose_device(device)
    if settings.get("mixed", False) is None:
        settings["mixed"] = has_fast_bf16(place)
    settings["batch_size"] = settings["batch_size"] or _usual_batch()
    chosen = BenchSettings(mode, **settings)
    if place.type == "mps" and mode == "train" and against and chosen.loss_precision == "double":
        raise UsageError("--loss-precision double on mps, which has no such numbers", do="say single")
    table = bench_jets(chosen, data or [], card)
    with progress(f"bench {mode}", chosen.jets) as update:
        found = compare(chosen, table, weaver=against == "weaver", device=place, on_progress=update)
    threads = torch.get_num_threads()
    jets = f"{found.jets} jets, {found.mean_constituents:.0f} constituents on average, {found.max_constituents} at most"
    batches = f"batches of {chosen.batch_size}"
    say(f"{chosen.size} ({found.parameters} parameters), {place.type}, {threads} threads, {batches}, {jets}")
    say_rates(found, place.type)
    if found.difference is not None:
        losses = f"losses over {chosen.loss_steps} steps in {chosen.loss_precision} precision"
        say(f"largest difference of the {losses if mode == 'train' else 'class logits'}: {found.difference:.1e}")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "bench": mode,
                "size": chosen.size,
                "parameters": found.parameters,
                "device": place.type,
                "threads": threads,
                "batch_size": chosen.batch_size,
                "steps": chosen.steps,
                "jets": found.jets,
                "mean_constituents": round(found.mean_constituents, 2),
                "max_constituents": found.max_constituents,
                "dropout": found.dropout if mode == "train" else 0.0,
                **rates_json(found),
                "weaver_trims": chosen.trim,
                "compiled": chosen.compiled,
                "max_difference": found.difference,
                "loss_steps": chosen.loss_steps if mode == "train" else 0,
                "loss_precision": chosen.loss_precision if mode == "train" else None,
            }
        )


@app.command(cls=SeveralValues)
@boundary
def loader(
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Files or globs, read whole by every side; random jets without.")
    ] = None,
    card: BenchCard = "jetclass",
    jets: Annotated[int | None, typer.Option("--jets", min=1, help="Random ones; default 100000.")] = None,
    against: Annotated[Literal["weaver"] | None, typer.Option("--against", help="Also time weaver-core.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Jets in a batch.")] = 512,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Timed rounds; the median counts.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Jets per second on one core: from shards, straight from ROOT, of bare uproot, and of weaver-core's loader.

    Example: jettag bench loader --against weaver --card generated --data 'jets/*.root'
    """
    if data and jets:
        raise UsageError("--jets counts random jets, and --data is read whole", do="give one of them")
    with loading():
        from jettag.data.benchmark import FEATURES, measure_loader
        from jettag.data.card import load_card
        from jettag.data.read import expand_inputs
        from jettag.random_jets import CARD, write_random_jets

    against_weaver = against == "weaver"
    with ExitStack() as stack:
        if not data:
            if card != CARD:
                raise UsageError(f"--card {card} without --data", do=f"give files; random jets are of card {CARD}")
            jets = jets or RANDOM_JETS
            say(f"{jets} random jets of JetClass's schema, card {CARD}; they compress less than real ones")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            data = [str(write_random_jets(folder / "random.root", jets))]
        update = stack.enter_context(progress("bench", None))
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
    say(f"the same with libdeflate {rates.uproot_unpacked:9.0f}   which jettag unpacks ZLIB with")
    say(f"jettag data prepare      {rates.prepare:9.0f}   once, one worker")
    beside: dict[str, float | None] = {}
    for name, rate, key, how in (
        ("weaver-core as published", rates.weaver_slices, "_slices", "1 % of a file at a time, once"),
        ("weaver-core at its best", rates.weaver, "", "whole files at once"),
    ):
        keys = (f"weaver{key}_jets_per_second", f"ratio{key}", f"ratio_root{key}")
        beside |= dict.fromkeys(keys)
        if rate is not None:
            shards, root = rates.shards / rate, rates.root_batches / rate
            beside |= zip(keys, (round(rate, 1), round(shards, 3), round(root, 3)), strict=True)
            say(f"{name:24} {rate:9.0f}   {how}: shards are {shards:.1f} times as fast, ROOT {root:.1f}")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "bench": "loader",
                "features": FEATURES,
                "card": card,
                "random_jets": jets is not None,
                "jets": rates.jets,
                "constituents_mean": round(rates.constituents, 2),
                "batch_size": batch_size,
                "shards_jets_per_second": round(rates.shards, 1),
                "root_jets_per_second": round(rates.root, 1),
                "root_batches_jets_per_second": round(rates.root_batches, 1),
                "uproot_jets_per_second": round(rates.uproot, 1),
                "uproot_unpacked_jets_per_second": round(rates.uproot_unpacked, 1),
                "prepare_jets_per_second": round(rates.prepare, 1),
                "ratio_root_to_uproot": round(rates.root / rates.uproot, 4),
                **beside,
            }
        )


@app.command(cls=SeveralValues)
@boundary
def scale(
    against: Against = None,
    data: BenchData = None,
    card: BenchCard = "jetclass",
    features: Annotated[str, typer.Option("--features", help="Of --data, in shards.")] = "jetclass_full",
    most_jets: Annotated[
        int, typer.Option("--most-jets", min=100, help="Of random jets, in powers of ten.")
    ] = 1_000_000,
    most_constituents: Annotated[int, typer.Option("--most-constituents", min=8, help="In powers of two.")] = 256,
    size: Size = "small",
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Jets in a batch.")] = 32,
    device: Device = "cpu",
    as_json: JsonOption = False,
) -> None:
    """How time and memory grow: with jets in the data path, with constituents in the network.

    Example: jettag bench scale --most-jets 100000 --size tiny
    """
    if against not in (None, "weaver"):
        raise UsageError(f"--against {against!r} is unknown", do="only weaver is known")
    with loading():
        from jettag.data.read import expand_inputs
        from jettag.run import choose_device
        from jettag.scaling import Point, check_network, constituent_scaling, growth, jet_scaling, weaver_ratios

    jets = [0] if data else [most_jets // part for part in (100, 10, 1)]
    lengths = [
        n for n in (most_constituents // 8, most_constituents // 4, most_constituents // 2, most_constituents) if n
    ]
    place = str(choose_device(device))
    check_network(size, weaver=against == "weaver")

    def tell(point: Point) -> None:
        unit = "jets" if point.what == "loader" else "constituents a jet"
        say(
            f"{point.what:7s} {point.side:7s} {point.number:9d} {unit:19s} {point.jets_per_second:10.1f} "
            f"{point.jets_per_cpu_second:10.1f} {point.peak_bytes / 1e6:8.1f}"
        )

    say("random jets" if not data else f"files of card {card}; the network sees random jets")
    say("jets per second and per CPU second; MB at the peak, above what the process has before its first jet")
    say("(of the loader with the pages of the shards that are mapped, which the system takes back when it needs them)")
    points = jet_scaling(jets, inputs=expand_inputs(data) if data else (), card=card, features=features, on_point=tell)
    points += constituent_scaling(
        lengths, size=size, batch_size=batch_size, device=place, weaver=against == "weaver", on_point=tell
    )
    powers = growth(points)
    for item in powers:
        if item["time_exponent"] is not None:
            memory = "" if item["memory_exponent"] is None else f", memory as power {item['memory_exponent']:.2f}"
            say(f"{item['what']} of {item['side']}: time grows as power {item['time_exponent']:.2f}{memory}")
    ratios = weaver_ratios(points)
    if ratios:
        say(f"jettag is {min(ratios):.2f} to {max(ratios):.2f} times as fast as weaver-core")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "bench": "scale",
                "size": size,
                "device": place.partition(":")[0],
                "batch_size": batch_size,
                "random_jets": not data,
                "points": [vars(point) for point in points],
                "growth": powers,
                "ratio": min(ratios) if ratios else None,
            }
        )
