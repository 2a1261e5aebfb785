"""jettag data: which cards there are, what they say, whether files keep it, and what is made of them."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from jettag.config import dump_yaml, list_shipped
from jettag.errors import DataError

from .command import SeveralValues, WithExample
from .console import JsonOption, boundary, emit_json, out, progress, say, writes_in
from .entry import loading
from .options import Overwrite, refuse_existing

if TYPE_CHECKING:
    from jettag.data.inspection import FileReport
    from jettag.data.sign_check import SignCheck

__all__ = ["app"]

app = typer.Typer(help="Look at data cards, check files against them, prepare and convert them.", no_args_is_help=True)

Card = Annotated[str, typer.Argument(help="A card: a name from `jettag data ls`, or a path.", show_default=False)]


@app.command(cls=SeveralValues)
@boundary
def ls(as_json: JsonOption = False) -> None:
    """List the data cards.

    Example: jettag data ls
    """
    with loading():
        from jettag.data.card import load_card

    cards = [load_card(name) for name in list_shipped("data_cards")]
    rows = [{"name": card.name, "classes": list(card.classes), "description": card.description} for card in cards]
    if as_json:
        emit_json({"schema": 1, "cards": rows})
        return
    table = Table("card", "classes", "description")
    for card in cards:
        table.add_row(card.name, ", ".join(card.classes) or "from the files", card.description)
    out.print(table)


@app.command(cls=SeveralValues)
@boundary
def show(card: Card, as_json: JsonOption = False) -> None:
    """Show a card with its defaults, but for what is null by default: that only --json has.

    Example: jettag data show jetclass
    """
    with loading():
        from jettag.data.card import load_card

    content = load_card(card)
    if as_json:
        emit_json({"schema": 1, "card": content.model_dump(mode="json")})
    else:
        out.print(dump_yaml(content, nulls=False), end="", highlight=False, markup=False, soft_wrap=True)


@app.command(cls=SeveralValues)
@boundary
def check(
    card: Card,
    files: Annotated[list[str], typer.Argument(help="Files, addresses, globs or CLASS:GLOB.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Read FILES fully and compare them with CARD, sign of d0 included; exit 4 if one cannot be used.

    Example: jettag data check jetclass 'val_5M/*.root'
    """
    with loading():
        from jettag.data.card import load_card
        from jettag.data.inspection import inspect
        from jettag.data.read import expand_inputs

    content = load_card(card)
    inputs = expand_inputs(files)
    with progress("check", None) as update:
        reports, sign = inspect(content, inputs, on_progress=update)
    repeated = sum(file.repeats for file in inputs)
    if as_json:
        emit_json(_as_json(content.name, reports, sign, repeated))
    else:
        _print(reports, sign, repeated)
    errors = [report.error for report in reports if report.error]
    if errors:
        more = f" (and {len(errors) - 1} more of {len(reports)} files)" if len(errors) > 1 else ""
        raise type(errors[0])(f"{errors[0]}{more}")
    if sign.verdict == "opposite":
        share = f"{sign.behind} of {sign.ahead + sign.behind} displaced tracks lie behind their jet"
        raise DataError(
            f"the sign of d0 is opposite to the card's: {share}",
            where=f"card {content.name}",
            do="turn `sign` of d0 on a copy of the card, from 1 to -1 or back",
        )


@app.command(cls=WithExample)  # options with several values would take its FILES
@boundary
def prepare(
    card: Card,
    files: Annotated[list[str], typer.Argument(help="Files, addresses, globs or CLASS:GLOB.", show_default=False)],
    out_folder: Annotated[Path, typer.Option("--out", help="Directory to make.", show_default=False)],
    features: Annotated[str, typer.Option("--features", help="Feature set; auto: the richest.")] = "auto",
    max_constituents: Annotated[int, typer.Option("--max-constituents", min=1, help="Kept in a jet.")] = 128,
    split: Annotated[str, typer.Option("--split", help="TRAIN:VAL:TEST; 1:0:0 for all of it.")] = "80:10:10",
    split_by: Annotated[
        Literal["auto", "event_number", "file", "entry"],
        typer.Option("--split-by", metavar="<by>", help="event_number, file, entry; auto: events if numbered."),
    ] = "auto",
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Leave out the class of each jet.")] = False,
    dtype: Annotated[
        list[str] | None, typer.Option("--dtype", help="f16 or f32 of features, COLUMN=f32 of one; momenta are f32.")
    ] = None,
    shard_jets: Annotated[int, typer.Option("--shard-jets", min=1, help="Jets in a shard, about.")] = 100_000,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes; default: every core.")] = None,
    dask: Annotated[str | None, typer.Option("--dask", help="A Dask scheduler; its workers do it.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the shuffle.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Read FILES once and leave shuffled shards that training maps; an interrupted call goes on.

    Example: jettag data prepare jetclass 'train_100M/*.root' --out shards --split 98:1:1
    """
    with loading():
        from jettag.config.processes import usable_cores
        from jettag.data.card import load_card
        from jettag.data.dataset import SPLITS, parse_fractions
        from jettag.data.features import feature_set
        from jettag.data.precision import parse_dtypes
        from jettag.data.prepare import Preparation, prepare
        from jettag.data.read import expand_inputs
        from jettag.data.richest import AUTO, richest_set

    writes_in(out_folder)
    parse_fractions(split)  # a mistake there is told before files are opened
    content, inputs = load_card(card), expand_inputs(files)
    if features == AUTO:
        features = richest_set(inputs, content)
        say(f"note: --features auto takes {features}, the richest that card {content.name} and these files give")
    base, single = parse_dtypes(dtype or [], feature_set(features).names)
    chosen = Preparation(
        features,
        max_constituents,
        seed,
        shard_jets,
        base,
        parse_fractions(split),
        split_by,
        labels=not no_labels,
        column_dtypes=single,
    )
    count = workers or min(usable_cores(), len(inputs))
    with progress("prepare", None) as update:
        dataset = prepare(
            inputs,
            content,
            out_folder,
            chosen,
            workers=count,
            dask=dask,
            on_progress=update,
            note=lambda text: say(f"note: {text}"),
            warn=lambda text: say(f"warning: {text}"),
        )
    counts = {name: dataset.count(name) for name in SPLITS}
    for what, number in dataset.notes.items():
        say(f"note: {number} {what.replace('_', ' ')}")
    for name, reached in dataset.kept_f32.items():
        say(f"note: {name} reaches {reached:.4g}, where f16 rounds too much, and is kept in f32")
    if dataset.split.by != "event_number" and split_by == "auto":
        what = "whole files were" if dataset.split.by == "file" else "each jet was"
        say(f"note: no event numbers in these files, so {what} dealt to the splits; --split-by takes the other")
    for name, classes in dataset.lacking().items():
        which = f" of class {', '.join(classes)}" if classes else ""
        say(f"warning: no jet{which} fell into {name}; give more files, or another --split or --split-by")
    say(f"{out_folder}: " + ", ".join(f"{name} {number} jets" for name, number in counts.items()))
    if as_json:
        emit_json(
            {
                "schema": 1,
                "out": str(out_folder),
                "features": dataset.features,
                "classes": list(dataset.class_names),
                "jets": counts,
                "split_by": dataset.split.by,
                "f16": [dataset.feature_names[place] for place in dataset.halved],
                "shards": len(dataset.shards),
                "bytes": sum(facts["bytes"] for facts in dataset.shards.values()),
                "notes": dataset.notes,
            }
        )


@app.command(cls=WithExample)
@boundary
def convert(
    card: Card,
    files: Annotated[list[str], typer.Argument(help="Files, addresses, globs or CLASS:GLOB.", show_default=False)],
    out_file: Annotated[Path, typer.Option("--out", help="File to write: .root or .parquet.", show_default=False)],
    overwrite: Overwrite = False,
    as_json: JsonOption = False,
) -> None:
    """Write FILES as one file of JetClass's schema, in GeV and mm, for any code that reads JetClass.

    Example: jettag data convert top_landscape test.h5 --out top_test.root
    """
    with loading():
        from jettag.data.card import load_card
        from jettag.data.convert import convert as write
        from jettag.data.read import expand_inputs

    refuse_existing(out_file, overwrite)
    with progress("convert", None) as update:
        done = write(expand_inputs(files), load_card(card), out_file, on_progress=update)
    for what, number in done.notes.items():
        say(f"note: {number} {what.replace('_', ' ')}")
    say(f"{out_file}: {done.jets} jets with {', '.join(done.branches)}")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "out": str(out_file),
                "jets": done.jets,
                "branches": list(done.branches),
                "notes": done.notes,
            }
        )


def _as_json(card: str, reports: "list[FileReport]", sign: "SignCheck", repeated: int) -> dict[str, object]:
    return {
        "schema": 1,
        "card": card,
        "files": [
            {
                "path": report.path,
                "tree": report.tree,
                "jets": report.jets,
                "constituents_mean": report.constituents / report.jets if report.jets else None,
                "classes": None if report.classes is None else dict(report.classes),
                "features": {name: lacks or "ok" for name, lacks in report.features.items()},
                "jet_columns": list(report.columns),
                "notes": dict(report.notes),
                "problem": report.problem or None,
            }
            for report in reports
        ],
        "jets": sum(report.jets for report in reports),
        "classes": dict(_classes(reports)),
        "repeated_files": repeated,
        "d0_sign": {"ahead": sign.ahead, "behind": sign.behind, "verdict": sign.verdict},
        "d0_error_median_mm": sign.median_error,
        "unit_problem": sign.unit_problem or None,
    }


def _classes(reports: "list[FileReport]") -> Counter[str]:
    return sum((report.classes for report in reports if report.classes), Counter())


def _print(reports: "list[FileReport]", sign: "SignCheck", repeated: int) -> None:
    table = Table("file", "jets", "constituents a jet", "classes", "features")
    for report in reports:
        mean = f"{report.constituents / report.jets:.1f}" if report.jets and not report.problem else "-"
        classes = "none" if report.classes is None else ", ".join(f"{n} {c}" for n, c in report.classes.items())
        usable = ", ".join(name for name, lacks in report.features.items() if not lacks)
        table.add_row(report.path, str(report.jets), mean, classes, usable or "none")
    out.print(table)
    for report in reports:
        for name, lacks in report.features.items():
            if lacks and not report.problem:
                say(f"note: {report.path}: not {name}: {lacks}")
        for name, count in report.notes.items():
            say(f"note: {report.path}: {count} {name.replace('_', ' ')}")
    if repeated:
        say(f"note: {repeated} files given more than once, read once")
    tracks = sign.ahead + sign.behind
    if sign.verdict == "undecided" and sign.median_error is not None:
        say(f"sign of d0: cannot tell, {sign.ahead} of {tracks} displaced tracks lie ahead of their jet")
    elif sign.verdict == "agrees":
        say(f"sign of d0 agrees: {sign.ahead} of {tracks} displaced tracks lie ahead of their jet")
    if sign.unit_problem:
        say(f"warning: {sign.unit_problem}")
