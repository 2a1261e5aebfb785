"""jettag submit: hand a command to a batch system."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jettag.errors import UsageError, nearest
from jettag.submit import GO_ON, SECONDS_TO_SAVE, Job, hand_in, scripts

from .console import JsonOption, boundary, emit_json, out, say
from .options import seconds

__all__ = ["submit"]


@boundary
def submit(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(help="The jettag command, after --.")],
    slurm: Annotated[bool, typer.Option("--slurm", help="Submit with sbatch.")] = False,
    condor: Annotated[bool, typer.Option("--condor", help="Submit with condor_submit.")] = False,
    time: Annotated[str, typer.Option("--time", help="Wall-clock time, e.g. 90m, 4h.")] = "4h",
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines.")] = 1,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="On each machine; 0 for the CPU.")] = 1,
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="On each machine.")] = 4,
    name: Annotated[str | None, typer.Option("--name", help="Of the job; default jettag-COMMAND.")] = None,
    options: Annotated[
        list[str] | None, typer.Option("--option", help="A line for the batch system, e.g. --option=--partition=gpu.")
    ] = None,
    script_folder: Annotated[Path, typer.Option("--out", help="Folder of the script.")] = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the script and submit nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit a command to Slurm or HTCondor; what can go on is requeued at its time limit: trainings, studies, ...

    Example: jettag submit --slurm --time 4h --gpus 4 -- pretrain mpm --data 'jets/*.root' --out runs/pretrain
    """
    if slurm == condor:
        raise UsageError("which batch system?", do="give --slurm or --condor")
    _refuse_unknown(context.find_root().command, command)
    system = "slurm" if slurm else "condor"
    settings = {"name": name} if name else {}
    job = Job.of(
        command,
        folder=Path.cwd(),
        seconds=int(seconds(time, "--time")),
        nodes=nodes,
        gpus=gpus,
        cpus=cpus,
        options=tuple(options or ()),
        **settings,
    )
    if not job.goes_on:
        why = " without --out" if job.command in GO_ON else ""
        say(f"note: this command cannot go on where it was stopped{why}: the job ends at its time limit")
    elif job.seconds < 2 * SECONDS_TO_SAVE:
        say(f"note: {SECONDS_TO_SAVE} s of --time are to save in: ask for more, or the job may end with nothing done")
    if dry_run:
        files = scripts(system, job)
        if as_json:
            emit_json({"schema": 1, "submitted": False, "scripts": files})
            return
        for place, text in enumerate(files.values()):
            out.print(("\n" if place else "") + text, markup=False, highlight=False, soft_wrap=True, end="")
        return
    paths, answer = hand_in(system, job, script_folder)
    if as_json:
        emit_json({"schema": 1, "submitted": True, "scripts": [str(path) for path in paths], "answer": answer})
    say(f"{answer}; script in {paths[-1]}")


def _refuse_unknown(group: Any, words: Sequence[str]) -> None:
    """See that the words begin with a command, before a job waits for hours to say so.

    Raises:
        UsageError: they do not.
    """
    said: list[str] = []
    for word in words[1:] if words[:1] == ["jettag"] else words:
        commands = getattr(group, "commands", None)
        if commands is None:
            return
        if word not in commands:
            raise UsageError(f"no command `jettag {' '.join([*said, word])}` to submit", do=nearest(word, commands))
        group = commands[word]
        said.append(word)
    if said and (commands := getattr(group, "commands", None)) is not None:
        raise UsageError(f"`jettag {' '.join(said)}` needs a command", do=f"known: {', '.join(sorted(commands))}")
