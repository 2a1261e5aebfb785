"""Scripts for batch systems: what is submitted can be read, kept and changed.

A command that can go on is asked to stop before its time is over (SIGUSR1), keeps what is done, and leaves with 75; its
script then puts it back into the queue, where it does the rest: a training by ``--resume``, others told the same once
more. Several GPUs or nodes are torchrun's.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jettag.config.files import write_atomically
from jettag.errors import ResourceError, UsageError

__all__ = ["SYSTEMS", "Job", "hand_in", "scripts"]

TRAININGS = ("pretrain", "finetune")
STUDY = "weak study"  # goes on where the command in its recipe does
# Told once more, they do not do again what lies finished in --out. Any command leaves with 75 where it is stopped: that
# alone does not say that it can go on.
GO_ON = (
    *("quickstart", "data prepare", "scan labels"),
    *(f"weak {method}" for method in ("cwola", "iad", "supervised", "scan", "compare", "cathode", "lacathode")),
    *(f"weak {method}" for method in ("anode", "ranode", "salad", "feta", "curtains", "f4f")),
)
OWN_FOLDER = {"quickstart": "quickstart"}  # what has one without --out
KILLED = 128 + signal.SIGUSR1  # exit code of what had not begun to handle it
SECONDS_TO_SAVE = 180  # between the request to stop and the end of the job's time
EARLIER = 60  # seconds by which Slurm may send it sooner
HALF_WRITTEN = "! -path '*.part/*' ! -name '*.part' ! -path '*.tmp/*' ! -name '*.tmp'"


@dataclass(frozen=True)
class Job:
    """What to run, and where.

    Attributes:
        words: the command, without ``jettag``.
        name: of the job, its scripts and its log.
        folder: where it runs.
        seconds: wall-clock time.
        nodes: machines.
        gpus: on each machine; 0 runs on the CPU.
        cpus: on each machine.
        options: lines for the batch system as they are, such as ``--partition=gpu``.
    """

    words: tuple[str, ...]
    name: str
    folder: Path
    seconds: int
    nodes: int = 1
    gpus: int = 1
    cpus: int = 4
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: Sequence[str], **settings: object) -> "Job":
        """A job of a command line; trainings get ``--resume``.

        Raises:
            UsageError: there is no command, a training that could not go on where it was stopped, or several processes
                of another.
        """
        command = [*words[1:]] if words[:1] == ["jettag"] else [*words]
        if not command:
            raise UsageError("no command to submit", do="write it after --, as in: submit --slurm -- pretrain mpm ...")
        job = cls(tuple(command), **{"name": f"jettag-{command[0]}", **settings})  # type: ignore[arg-type]
        if command[0] not in TRAININGS:
            if job.processes > 1:
                raise UsageError(f"`{command[0]}` runs in one process", do="ask for one node and one GPU")
            return job
        if job.out is None:
            raise UsageError(f"`{command[0]}` needs --out", do="name the run, so that it can be found and resumed")
        resumed = () if "--resume" in command else ("--resume",)
        return cls(**{**job.__dict__, "words": (*job.words, *resumed)})

    @property
    def processes(self) -> int:
        """Of the training: one a GPU, or one a node."""
        return self.nodes * max(self.gpus, 1)

    @property
    def is_training(self) -> bool:
        """Whether it saves at any step."""
        return self.words[0] in TRAININGS

    @property
    def command(self) -> str:
        """Its name, such as ``pretrain`` or ``weak scan``, of a study that of the command behind it.

        Raises:
            RecipeError: no such study.
        """
        name = " ".join(self.words[:2])
        if name == STUDY:
            if not self.words[2:] or self.words[2].startswith("-"):
                return self.words[0]  # which recipe it is stands behind options
            from jettag.config.study import load_study

            return load_study(self.words[2]).command
        return name if name in GO_ON else self.words[0]

    @property
    def goes_on(self) -> bool:
        """Whether it can be stopped, and does the rest when it is told once more."""
        return self.is_training or (self.kept is not None and self.command in GO_ON)

    @property
    def kept(self) -> str | None:
        """The folder of what is done."""
        return self.out or OWN_FOLDER.get(self.words[0])

    @property
    def asked_after(self) -> int:
        """Seconds until it is asked to stop."""
        return max(self.seconds - SECONDS_TO_SAVE, 1)

    @property
    def out(self) -> str | None:
        """The run directory of a training; where others keep what is done."""
        for place, word in enumerate(self.words):
            if word == "--out":
                return self.words[place + 1] if place + 1 < len(self.words) else None
            if word.startswith("--out="):
                return word.removeprefix("--out=")
        return None


def _command(job: Job, meeting: str) -> str:
    """The line that starts the command; ``meeting`` tells torchrun's processes where to find one another."""
    words = shlex.join(job.words)
    if job.processes == 1:
        return f"{shlex.quote(sys.executable)} -m jettag_cli {words}"
    return (
        f"{shlex.quote(sys.executable)} -m torch.distributed.run {meeting} --nproc-per-node {max(job.gpus, 1)} "
        f"--signals-to-handle SIGTERM,SIGINT,SIGUSR1 -m jettag_cli {words}"
    )


def _body(job: Job) -> list[str]:
    """Shell lines before the command; the request to stop may come at any time."""
    lines = []
    if job.goes_on:
        lines += ["asked= early= child= SECONDS=0"]
        lines += ["""trap 'asked=yes; if [ -n "$child" ]; then kill -USR1 "$child"; else early=yes; fi' USR1"""]
    lines += [
        f"cd {shlex.quote(str(job.folder))}",
        f"export OMP_NUM_THREADS={max(job.cpus // max(job.gpus, 1), 1)} PYTHONUNBUFFERED=1",
    ]
    if job.goes_on:
        kept = shlex.quote(str(job.kept))
        lines += [
            "kept() {  # names and sizes of the files that are done, without this job's log",
            f"    if [ ! -e {kept} ]; then return; fi",
            f"    (cd {kept} && find . -type f {HALF_WRITTEN} \\",
            f"        ! -name {shlex.quote(job.name + '-*.log')} -printf '%P %s\\n' || echo unknown $RANDOM) |",
            "        LC_ALL=C sort | cksum",
            "}",
            "before=$(kept)",
        ]
    if job.processes > 1:
        lines += [
            f"export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={SECONDS_TO_SAVE}  # torchrun's patience with the stopped",
            "begin=$(date +%s)",
        ]
    return lines


def _saving(job: Job) -> str:
    """What the request to stop does, for the reader of a script."""
    return "the training finishes its step, saves" if job.is_training else "the command keeps the parts that are done"


def _started(command: str) -> list[str]:
    """Shell lines that start the command beside the shell, which hears of signals meanwhile, and wait for its end."""
    return [
        f"{command} &",
        "child=$!",
        'if [ -n "$early" ]; then sleep 1; kill -USR1 "$child" 2>/dev/null; fi  # asked before it could hear of it',
        'while kill -0 "$child" 2>/dev/null; do wait "$child"; done  # a signal ends the wait, not the command',
        'wait "$child"; status=$?',
    ]


def _status(job: Job) -> list[str]:
    """Shell lines after the command: also one that was asked to stop before it could know of it leaves with 75.

    torchrun reports any failure as 1. The run itself tells that it was stopped, but only once it has begun.
    """
    if job.processes == 1:
        return [f'if [ "$status" -eq {KILLED} ]; then status=75; fi  # by USR1, while Python started', *_in_vain(job)]
    facts = shlex.quote(f"{job.out}/run.json")
    return [
        "# torchrun tells any failure as 1: whether the training was stopped stands in run.json, if it is of this job.",
        f'if [ "$status" -ne 0 ] && [ "$(stat -c %Y {facts} 2>/dev/null || echo 0)" -ge "$begin" ]; then',
        f"    if grep -q '\"stopped\": 75' {facts}; then status=75; fi",
        'elif [ "$status" -ne 0 ] && [ -n "$asked" ]; then status=75; fi  # before the training began',
        *_in_vain(job),
    ]


def _in_vain(job: Job) -> list[str]:
    """Shell lines that end a job whose whole time was too short for anything: it would begin again for ever."""
    told = f"error: --time {job.seconds}s was too short to finish anything in {job.kept}; submit it with a longer one"
    limit = max(job.asked_after - EARLIER, job.asked_after // 2, 1)
    return [
        "# Stopped after all its time with nothing done, it would begin again for ever.",
        f'if [ "$status" -eq 75 ] && [ "$SECONDS" -ge {limit} ] && [ "$(kept)" = "$before" ]; then',
        f"    echo {shlex.quote(told)} >&2",
        f"    status={ResourceError.exit_code}",
        "fi",
    ]


def slurm(job: Job) -> dict[str, str]:
    """One script for sbatch."""
    hours, rest = divmod(job.seconds, 3600)
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={job.name}",
        f"#SBATCH --nodes={job.nodes}",
        "#SBATCH --ntasks-per-node=1",
        *([f"#SBATCH --gpus-per-node={job.gpus}"] if job.gpus else []),
        f"#SBATCH --cpus-per-task={job.cpus}",
        f"#SBATCH --time={hours:02d}:{rest // 60:02d}:{rest % 60:02d}",
        f"#SBATCH --output={job.name}-%j.log",
        "#SBATCH --open-mode=append",
    ]
    if job.goes_on:
        lines += [
            "#SBATCH --requeue",
            f"#SBATCH --signal=B:USR1@{SECONDS_TO_SAVE}",
        ]
    lines += [f"#SBATCH {option}" for option in job.options]
    lines += ["", *_body(job), f"export SRUN_CPUS_PER_TASK={job.cpus}  # since Slurm 22.05 srun does not take sbatch's"]
    meeting = "--standalone"
    if job.nodes > 1:
        lines += ['head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)']
        meeting = (
            f'--nnodes {job.nodes} --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" '
            '--rdzv-endpoint "$head:$((20000 + SLURM_JOB_ID % 20000))"'
        )
    command = _command(job, meeting)
    if job.goes_on:
        lines += [
            f"# {SECONDS_TO_SAVE} s before the limit Slurm sends USR1 to this script, and srun hands it on:",
            f"# {_saving(job)} and stops with 75, and the job goes back into the queue.",
            *_started(f"srun {command}"),
            *_status(job),
            'if [ "$status" -eq 75 ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
        ]
    else:
        lines += [f"srun {command}", "status=$?"]
    return {f"{job.name}.sh": "\n".join([*lines, 'exit "$status"', ""])}


def condor(job: Job) -> dict[str, str]:
    """A submit description for condor_submit, and the script that it runs.

    Raises:
        UsageError: more than one machine.
    """
    if job.nodes > 1:
        raise UsageError("HTCondor's vanilla jobs run on one machine", do="use --nodes 1, or --slurm")
    command = _command(job, "--standalone")
    script = ["#!/bin/bash", *_body(job)]
    if job.goes_on:
        limit = job.asked_after
        reach = "--foreground " if job.processes == 1 else ""  # worker processes hear of it from the command
        script += [
            f"# {SECONDS_TO_SAVE} s before the time is over, or when HTCondor wants the machine, USR1 is sent:",
            f"# {_saving(job)} and stops with 75, and HTCondor queues it again.",
            *_started(
                f"timeout {reach}--preserve-status --signal=USR1 --kill-after={SECONDS_TO_SAVE} {limit} {command}"
            ),
            *([f'if [ "$SECONDS" -ge {limit} ]; then asked=yes; fi  # by timeout'] if job.processes > 1 else []),
            *_status(job),
        ]
    else:
        script += [command, "status=$?"]
    script += ['exit "$status"', ""]
    description = [
        "universe = vanilla",
        f"executable = {job.name}.sh",
        f"initialdir = {job.folder}",
        "should_transfer_files = NO",
        f"request_cpus = {job.cpus}",
        *([f"request_gpus = {job.gpus}"] if job.gpus else []),
        f"+MaxRuntime = {job.seconds}",
        f"output = {job.name}-$(Cluster).log",
        f"error = {job.name}-$(Cluster).log",
        f"log = {job.name}.events",
    ]
    if job.goes_on:
        description += ["kill_sig = SIGUSR1", f"job_max_vacate_time = {SECONDS_TO_SAVE}"]
        description += ["on_exit_remove = (ExitBySignal == False) && (ExitCode != 75)"]
    return {
        f"{job.name}.sub": "\n".join([*description, *job.options, "queue", ""]),
        f"{job.name}.sh": "\n".join(script),
    }


SYSTEMS: dict[str, tuple[str, Callable[[Job], dict[str, str]]]] = {
    "slurm": ("sbatch", slurm),
    "condor": ("condor_submit", condor),
}


def scripts(system: str, job: Job) -> dict[str, str]:
    """Name and text of each file; the first is the one to hand in."""
    return SYSTEMS[system][1](job)


def hand_in(system: str, job: Job, folder: Path) -> tuple[list[Path], str]:
    """Write the scripts and submit them; the files, and what the batch system answered.

    Raises:
        ResourceError: the batch system is not here, or refuses.
    """
    program = SYSTEMS[system][0]
    if shutil.which(program) is None:
        raise ResourceError(f"no {program} on this machine", do="use --dry-run to read the script, submit it elsewhere")
    folder = folder.absolute()  # the batch system starts in it
    paths = [write_atomically(folder / name, text) for name, text in scripts(system, job).items()]
    for path in paths:
        path.chmod(0o755 if path.suffix == ".sh" else 0o644)
    done = subprocess.run(
        [program, str(paths[0])], cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        raise ResourceError(f"{program} refuses ({reason})", where=paths[0], do="change the options and submit again")
    return paths, done.stdout.strip()
