"""The dijet processes of `jettag generate`: events instead of jets, with a resonance that can be chosen."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jettag.errors import UsageError, nearest

from .console import emit_json, progress, say
from .entry import loading

__all__ = ["generate_dijets"]

KEYS = ("mass", "width", "daughters", "mjj")
WIDTH = 0.01  # of the mass, where no width is given
DIJET_DEFAULTS: dict[str, Any] = {"radius": 1.0, "pt": "500:", "eta": 2.5}  # where the command line gives none


def generate_dijets(
    processes: Sequence[str],
    events: int,
    out: Path,
    seed: int,
    workers: int,
    text: str,
    given: Mapping[str, Any],
    overwrite: bool,
    as_json: bool,
) -> None:
    """Simulate and tell.

    Raises:
        UsageError: dijets and single jets together, or a key that does not exist.
    """
    with loading():
        from jettag.simulate import DIJETS, DijetSettings, simulate_dijets

    names = tuple(name.lower() for name in processes)
    others = [name for name in names if name not in DIJETS]
    if others:
        raise UsageError(f"{others[0]} makes jets, {', '.join(DIJETS)} make events", do="generate them one by one")
    chosen = {key: default if given[key] is None else given[key] for key, default in DIJET_DEFAULTS.items()}
    values = _values(text)
    mass = values.get("mass", (3500.0,))[0]
    settings = DijetSettings(
        processes=names,
        events=events,
        seed=seed,
        radius=chosen["radius"],
        pt_min=float(str(chosen["pt"]).partition(":")[0]),
        eta_max=chosen["eta"],
        mass=mass,
        width=values.get("width", (WIDTH * mass,))[0],
        daughters=_pair(values.get("daughters", (mass / 7, mass / 35)), "daughters"),
        mjj=_pair(values.get("mjj", (mass * 4 / 7, mass * 11 / 7)), "mjj"),
        detector=given["detector"],
        kind=given["kind"],
        tune=given["tune"],
    )
    begin = time.monotonic()
    with progress("generate", events * len(names), unit="events") as update:
        made = simulate_dijets(settings, out, workers=workers, overwrite=overwrite, on_progress=update)
    took = time.monotonic() - begin
    for name in names:
        say(f"generate: {events} {name} events, {made.passed[name] / made.events[name]:.2f} of those tried pass")
    say(f"generate: {len(made.files)} file{'s' * (len(made.files) > 1)} in {out}, {took:.1f} s")
    if as_json:
        emit_json(
            {
                "schema": 1,
                "files": [str(path) for path in made.files],
                "events": events,
                "processes": [
                    {
                        "process": name,
                        "events_written": events,
                        "events": made.events[name],
                        "events_passed": made.passed[name],
                    }
                    for name in names
                ],
                "seed": seed,
                "seconds": round(took, 3),
            }
        )


def _values(text: str) -> dict[str, tuple[float, ...]]:
    """``mass=3500,daughters=500:100`` as numbers.

    Raises:
        UsageError: an unknown key, or no number.
    """
    found = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        if not part.strip():
            continue
        if key.strip() not in KEYS:
            raise UsageError(f"--dijets knows no {key.strip()!r}", do=nearest(key.strip(), KEYS))
        try:
            found[key.strip()] = tuple(float(number) for number in value.split(":"))
        except ValueError:
            what = f"--dijets {part.strip()!r} holds no number"
            raise UsageError(what, do="write mass=3500,daughters=500:100,mjj=2000:5500, in GeV") from None
    return found


def _pair(values: tuple[float, ...], key: str) -> tuple[float, float]:
    if len(values) != 2:
        raise UsageError(f"--dijets {key} wants two numbers, found {len(values)}", do=f"write {key}=A:B, in GeV")
    return values[0], values[1]
