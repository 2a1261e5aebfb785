"""jettag submit: scripts that a stand-in batch system takes, runs, signals and runs again."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from jettag_cli.main import app

from jettag.submit import GO_ON, TRAININGS

TRAIN = ["pretrain", "mpm", "--data", "a b.root", "--out", "runs/p"]
PREPARE = ["data", "prepare", "jetclass", "a b.root", "--out", "shards"]
WEAK = ["--background", "a b.root", "--signal", "c.root", "--test", "d.root", "--out", "study"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder with sbatch, condor_submit, srun and scontrol on PATH that note what they were called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    note = f'echo "$(basename $0) $*" >> {tmp_path}/calls'
    bodies = {
        "sbatch": f'{note}\ncat "$1" > /dev/null && echo Submitted batch job 7',
        "condor_submit": f'{note}\ncat "$1" > /dev/null && echo 1 job submitted to cluster 7.',
        "srun": f'{note}\necho $$ > {tmp_path}/step\nexec "$@"',
        "scontrol": f"{note}\necho node1",
    }
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calls(machine):
    path = machine / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_a_dry_run_prints_a_readable_script_and_does_nothing(machine, jettag):
    before = sorted(machine.iterdir())
    code, out, _ = jettag("submit", "--slurm", "--time", "90m", "--gpus", 4, "--nodes", 2, "--dry-run", "--", *TRAIN)
    assert code == 0
    assert sorted(machine.iterdir()) == before
    for line in (
        "#SBATCH --nodes=2",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --time=01:30:00",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:USR1@180",
        "export SRUN_CPUS_PER_TASK=4  # since Slurm 22.05 srun does not take sbatch's",
    ):
        assert line in out.splitlines(), line
    (command,) = [line for line in out.splitlines() if line.startswith("srun ")]
    assert "--nnodes 2" in command
    assert "--nproc-per-node 4" in command
    assert command.endswith("-m jettag_cli pretrain mpm --data 'a b.root' --out runs/p --resume &")
    assert max(len(line) for line in out.splitlines() if not line.startswith("srun")) <= 120
    assert subprocess.run(["bash", "-n"], input=out, text=True, check=False).returncode == 0


@pytest.mark.parametrize("folder", [".", "jobs"])
@pytest.mark.parametrize(("system", "program"), [("slurm", "sbatch"), ("condor", "condor_submit")])
def test_the_script_is_handed_in_and_kept(machine, jettag, system, program, folder):
    words = ("--name", "first", "--option=--partition=gpu", "--out", folder, "--", "jettag", *TRAIN)
    answer = submitted(jettag, f"--{system}", *words)
    assert all((machine / folder).samefile(Path(path).parent) for path in answer["scripts"])
    (call,) = calls(machine)
    assert call == f"{program} {answer['scripts'][0]}"
    assert "7" in answer["answer"]
    texts = "".join((machine / path).read_text() for path in answer["scripts"])
    assert "--resume" in texts
    assert "--partition=gpu" in texts
    shell = [path for path in answer["scripts"] if path.endswith(".sh")]
    assert subprocess.run(["bash", "-n", *shell], check=False, cwd=machine).returncode == 0


def submitted(jettag, *words):
    code, out, err = jettag("submit", "--json", *words)
    assert code == 0, err
    return json.loads(out)


RUN_JSON = {"stopped": '{\n "stopped": 75\n}', "begun": '{\n "stopped": null\n}'}


def stand_in(machine, *, exit_code, told=None, waits=True, keeps=None):
    """In the place of the command: ends, when USR1 comes if it ``waits``, with what it has ``told`` in run.json.

    Without an exit code it dies of the signal. Before, it has written a file that it ``keeps``.
    """
    program = machine / "python"
    program.write_text(
        f"""#!{sys.executable}
import pathlib, signal, sys, time
def stop(*_):
    if {bool(told)}:
        pathlib.Path("runs/p").mkdir(parents=True, exist_ok=True)
        pathlib.Path("runs/p/run.json").write_text({RUN_JSON.get(told)!r})
    sys.exit({exit_code})
if {exit_code is not None}:
    signal.signal(signal.SIGUSR1, stop)
if {keeps is not None}:
    pathlib.Path("runs/p").mkdir(parents=True, exist_ok=True)
    pathlib.Path("runs/p", {keeps!r}).touch()
pathlib.Path("ready").touch()
if {waits}:
    time.sleep(30)
stop()
"""
    )
    program.chmod(0o755)
    return str(program)


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_script(machine, path, to=None):
    """Run a script, and send USR1 to it, or to its step alone; the exit code."""
    (machine / "ready").unlink(missing_ok=True)
    job = subprocess.Popen(["bash", path], env=os.environ | {"SLURM_JOB_ID": "7"}, stderr=subprocess.PIPE, text=True)
    wait_for(machine / "ready")
    if to == "script":
        job.send_signal(signal.SIGUSR1)
    elif to == "step":
        os.kill(int((machine / "step").read_text()), signal.SIGUSR1)
    _, err = job.communicate(timeout=20)
    assert ": line " not in err, err  # what bash says of a script that is wrong
    return job.returncode


@pytest.mark.parametrize(
    ("gpus", "exit_code", "told", "before", "to", "again"),
    [
        (1, 75, "stopped", None, "script", True),
        (1, 75, "stopped", None, "step", True),  # as scancel --signal does
        (1, None, None, None, "script", True),  # before Python had a handler
        (1, 1, None, None, "script", False),  # a training that failed is not repeated
        (1, 1, None, "stopped", None, False),
        (2, 1, "stopped", None, "script", True),  # torchrun reports any failure as 1
        (2, 1, "stopped", "begun", "step", True),
        (2, 1, None, None, "script", True),  # asked before the run directory was there, or was taken again
        (2, 1, None, "stopped", "script", True),
        (2, 1, "begun", None, "script", False),  # asked to stop, it failed
        (2, 1, None, None, None, False),
        (2, 1, None, "stopped", None, False),  # what an earlier job left in run.json does not count
        (2, 0, "begun", "stopped", "script", False),  # it had come to its end
    ],
)
def test_a_slurm_job_that_was_stopped_in_time_queues_itself_again(
    machine, jettag, monkeypatch, gpus, exit_code, told, before, to, again
):
    if before is not None:
        (machine / "runs" / "p").mkdir(parents=True)
        (machine / "runs" / "p" / "run.json").write_text(RUN_JSON[before])
        os.utime(machine / "runs" / "p" / "run.json", (1e9, 1e9))
    program = stand_in(machine, exit_code=exit_code, told=told, waits=to is not None)
    monkeypatch.setattr(sys, "executable", program)
    answer = submitted(jettag, "--slurm", "--gpus", gpus, "--", *TRAIN)
    assert run_script(machine, answer["scripts"][0], to) == (75 if again else exit_code)
    assert ("scontrol requeue 7" in calls(machine)) == again


def test_a_slurm_job_that_is_asked_while_it_starts_hands_it_on(machine, jettag, monkeypatch):
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=75))
    (path,) = submitted(jettag, "--slurm", "--", *TRAIN)["scripts"]
    text = Path(path).read_text()
    Path(path).write_text(text.replace("\ncd ", "\nkill -USR1 $$\ncd "))
    assert Path(path).read_text() != text
    job = subprocess.run(["bash", path], env=os.environ | {"SLURM_JOB_ID": "7"}, timeout=20, check=False)
    assert job.returncode == 75
    assert "scontrol requeue 7" in calls(machine)


@pytest.mark.parametrize(
    ("gpus", "exit_code", "told", "again"),
    [
        (1, 75, "stopped", True),
        (2, 1, "stopped", True),
        (2, 1, None, True),
        (2, 1, "begun", False),
        (1, None, None, True),
    ],
)
@pytest.mark.parametrize("to", ["script", None])  # as kill_sig does; None: its time is over
def test_a_condor_job_hands_the_signal_on_and_ends_with_75(
    machine, jettag, monkeypatch, gpus, exit_code, told, again, to
):
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=exit_code, told=told, keeps="part-1"))
    answer = submitted(jettag, "--condor", "--gpus", gpus, "--time", "4h" if to else "184s", "--", *TRAIN)
    description = (machine / answer["scripts"][0]).read_text()
    assert "on_exit_remove = (ExitBySignal == False) && (ExitCode != 75)" in description
    assert run_script(machine, answer["scripts"][1], to) == (75 if again else exit_code)


AT_ITS_LIMIT = 'until [ -e ready ] && [ "$SECONDS" -ge 2 ]; do sleep 0.1; done; kill -USR1 "$child"'


@pytest.mark.parametrize(
    ("system", "limit", "keeps", "again"),
    [
        ("condor", "184s", "part-1", False),  # there from the time before
        ("condor", "184s", "part-2", True),
        ("condor", "184s", ".part-2.tmp", False),  # half-written
        ("slurm", "184s", "part-1", False),
        ("slurm", "184s", "part-2", True),
        ("slurm", "4h", "part-1", True),  # preempted: its time was not over
    ],
)
def test_a_job_whose_time_is_too_short_for_anything_does_not_begin_again_for_ever(
    machine, jettag, monkeypatch, system, limit, keeps, again
):
    (machine / "disk").mkdir()
    (machine / "runs").mkdir()
    (machine / "runs" / "p").symlink_to(machine / "disk")  # as on a cluster
    (machine / "disk" / "part-1").touch()
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=75, keeps=keeps))
    path = submitted(jettag, f"--{system}", "--time", limit, "--", *TRAIN)["scripts"][-1]
    if system == "slurm":  # which sends the signal at the limit
        text = Path(path).read_text()
        Path(path).write_text(text.replace("child=$!\n", f"child=$!\n{AT_ITS_LIMIT}\n"))
        assert Path(path).read_text() != text
    job = subprocess.run(
        ["bash", path],
        env=os.environ | {"SLURM_JOB_ID": "7"},
        timeout=20,
        check=False,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.returncode == (75 if again else 7)
    told = [line for line in job.stderr.splitlines() if line.startswith("error: ")]
    assert told == (
        [] if again else ["error: --time 184s was too short to finish anything in runs/p; submit it with a longer one"]
    )
    assert ("scontrol requeue 7" in calls(machine)) == (again and system == "slurm")


def test_where_nobody_can_tell_what_is_done_a_job_is_queued_again(machine, jettag, monkeypatch):
    (machine / "bin" / "find").write_text("#!/bin/bash\nexit 1\n")  # of a small system
    (machine / "bin" / "find").chmod(0o755)
    (machine / "runs" / "p").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=75))
    path = submitted(jettag, "--condor", "--time", "181s", "--", *TRAIN)["scripts"][-1]
    assert subprocess.run(["bash", path], timeout=20, check=False, stderr=subprocess.DEVNULL).returncode == 75


def test_time_that_is_all_for_saving_is_told(machine, jettag):
    for limit, told in (("5m", True), ("6m", False)):
        code, _, err = jettag("submit", "--slurm", "--dry-run", "--time", limit, "--", *TRAIN)
        assert code == 0
        assert ("180 s of --time are to save in" in err) == told


def test_a_condor_job_that_failed_is_not_repeated(machine, jettag, monkeypatch):
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=1, waits=False))
    for gpus in (1, 2):
        answer = submitted(jettag, "--condor", "--gpus", gpus, "--", *TRAIN)
        assert run_script(machine, answer["scripts"][1]) == 1


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        (PREPARE, True),
        (["quickstart"], True),
        (["scan", "labels", "--data", "a.root", "--test", "b.root", "--out", "scan"], True),
        (["weak", "scan", *WEAK], True),
        (["weak", "scan", *WEAK[:-2]], False),  # keeps nothing
        (["weak", "compare", *WEAK], True),
        (["weak", "study", "weak-top", *WEAK], True),
        (["weak", "study", "weak-outliers", *WEAK], False),  # begins anew
        (["weak", "study", *WEAK, "weak-top"], False),  # nobody knows which word is the recipe
        (["weak", "hunt", *WEAK], False),
        (["generate", "QCD", "--jets", "10", "--out", "jets"], False),
        (["eval", "runs/p", "--data", "a.root"], False),
    ],
)
@pytest.mark.parametrize("system", ["slurm", "condor"])
def test_what_goes_on_when_it_is_told_once_more_is_queued_again(machine, jettag, monkeypatch, system, words, goes_on):
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=75))
    code, out, err = jettag("submit", f"--{system}", "--json", "--", *words)
    assert code == 0
    assert ("cannot go on" in err) == (not goes_on)
    assert ("without --out" in err) == (words == ["weak", "scan", *WEAK[:-2]])
    paths = json.loads(out)["scripts"]
    text = "".join(Path(path).read_text() for path in paths)
    assert shlex.join(words) in text
    assert "--resume" not in text
    assert ("#SBATCH --requeue" in text or "on_exit_remove" in text) == goes_on
    if goes_on:
        assert run_script(machine, paths[-1], "script") == 75
    assert ("scontrol requeue 7" in calls(machine)) == (goes_on and system == "slurm")


def test_what_goes_on_is_a_command_that_keeps_what_is_done():
    for name in (*TRAININGS, *GO_ON):
        command = typer.main.get_command(app)
        for word in name.split():
            command = command.commands[word]
        assert "--out" in [option for parameter in command.params for option in parameter.opts], name


def test_what_cannot_work_is_refused_in_one_line(machine, jettag, monkeypatch):
    for words, said in (
        (["--slurm", "--", "pretrain", "mpm", "--data", "x.root"], "needs --out"),
        (["--slurm", "--gpus", 2, "--", "eval", "runs/p", "--data", "x.root"], "one process"),
        (["--condor", "--nodes", 2, "--", *TRAIN], "one machine"),
        (["--", *TRAIN], "--slurm or --condor"),
        (["--slurm", "--dry-run", "--", "echo", "hi"], "no command `jettag echo`"),
        (["--slurm", "--", "jettag", "pretrian", "mpm"], "did you mean pretrain"),
        (["--slurm", "--", "weak", "hunnt"], "did you mean hunt"),
        (["--slurm", "--", "data"], "prepare"),
        (["--slurm", "--gpus", 2, "--", *PREPARE], "one process"),
    ):
        code, _, err = jettag("submit", *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err
    monkeypatch.setenv("PATH", os.defpath)
    code, _, err = jettag("submit", "--slurm", "--", *TRAIN)
    assert code == 7
    assert "sbatch" in err
    assert json.dumps(calls(machine)) == "[]"
