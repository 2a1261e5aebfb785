"""jettag submit: scripts that a stand-in batch system takes, runs, signals and runs again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAIN = ["pretrain", "mpm", "--data", "a b.root", "--out", "runs/p"]


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
        "#SBATCH --signal=USR1@180",
        "export SRUN_CPUS_PER_TASK=4  # since Slurm 22.05 srun does not take sbatch's",
    ):
        assert line in out.splitlines(), line
    (command,) = [line for line in out.splitlines() if line.startswith("srun ")]
    assert "--nnodes 2" in command
    assert "--nproc-per-node 4" in command
    assert command.endswith("-m jettag_cli pretrain mpm --data 'a b.root' --out runs/p --resume")
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


def stand_in(machine, *, exit_code, stopped):
    """In the place of the training: waits for USR1, then says what a stopped training says."""
    program = machine / "python"
    program.write_text(
        f"""#!{sys.executable}
import json, pathlib, signal, sys, time
def stop(*_):
    if {stopped!r} == 75:
        pathlib.Path("runs/p").mkdir(parents=True, exist_ok=True)
        pathlib.Path("runs/p/run.json").write_text(json.dumps({{"stopped": 75}}, indent=1))
    sys.exit({exit_code})
signal.signal(signal.SIGUSR1, stop)
pathlib.Path("ready").touch()
time.sleep(30)
"""
    )
    program.chmod(0o755)
    return str(program)


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


CASES = [
    (1, 75, 75, True),
    (2, 1, 75, True),  # torchrun reports any failure as 1
    (1, 1, None, False),  # a training that failed is not repeated
    (2, 1, None, False),
    (2, 1, "stale", False),  # what an earlier job left in run.json does not count
]


@pytest.mark.parametrize(("gpus", "exit_code", "stopped", "again"), CASES)
def test_a_slurm_job_that_was_stopped_in_time_queues_itself_again(
    machine, jettag, monkeypatch, gpus, exit_code, stopped, again
):
    if stopped == "stale":
        (machine / "runs" / "p").mkdir(parents=True)
        (machine / "runs" / "p" / "run.json").write_text('{"stopped": 75}')
        os.utime(machine / "runs" / "p" / "run.json", (1e9, 1e9))
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=exit_code, stopped=stopped))
    answer = submitted(jettag, "--slurm", "--gpus", gpus, "--", *TRAIN)
    job = subprocess.Popen(["bash", answer["scripts"][0]], env=os.environ | {"SLURM_JOB_ID": "7"})
    wait_for(machine / "ready")
    os.kill(int((machine / "step").read_text()), signal.SIGUSR1)  # to the step, as --signal without B: does
    assert job.wait(20) == (75 if again else exit_code)
    assert ("scontrol requeue 7" in calls(machine)) == again


@pytest.mark.parametrize(("gpus", "exit_code"), [(1, 75), (2, 1)])
def test_a_condor_job_hands_the_signal_on_and_ends_with_75(machine, jettag, monkeypatch, gpus, exit_code):
    monkeypatch.setattr(sys, "executable", stand_in(machine, exit_code=exit_code, stopped=75))
    answer = submitted(jettag, "--condor", "--gpus", gpus, "--", *TRAIN)
    description = (machine / answer["scripts"][0]).read_text()
    assert "on_exit_remove = (ExitBySignal == False) && (ExitCode != 75)" in description
    job = subprocess.Popen(["bash", answer["scripts"][1]])
    wait_for(machine / "ready")
    job.send_signal(signal.SIGUSR1)  # to the script alone, as kill_sig does
    assert job.wait(20) == 75


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
    ):
        code, _, err = jettag("submit", *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err
    monkeypatch.setenv("PATH", os.defpath)
    code, _, err = jettag("submit", "--slurm", "--", *TRAIN)
    assert code == 7
    assert "sbatch" in err
    assert json.dumps(calls(machine)) == "[]"
