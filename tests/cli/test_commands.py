"""Every command: help that fits a screen, one-line errors with the contract's exit code, JSON and nothing else."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from threading import Timer

import pytest
from jettag_cli.doctor import EXTRAS

from jettag.errors import Stopped
from jettag.models import compiling
from jettag.runs import device_check, scan_plan, weak_plan

from .conftest import SMALL, write_root

COMMANDS = [
    [], ["quickstart"], ["generate"], ["pretrain"], ["finetune"], ["eval"], ["predict"], ["embed"], ["ls"], ["cat"],
    ["cp"], ["validate"], ["doctor"], ["data"], ["data", "ls"], ["data", "show"], ["data", "check"],
    ["data", "prepare"], ["data", "convert"], ["export"], ["import"],
    ["import", "weaver"], ["bench"], ["bench", "generate"], ["bench", "train"], ["bench", "infer"],
    ["bench", "loader"], ["bench", "scale"], ["submit"],
    ["scan"], ["scan", "labels"],
    ["weak"], ["weak", "cwola"], ["weak", "iad"], ["weak", "supervised"], ["weak", "scan"],
    ["weak", "events"], ["weak", "hunt"], ["weak", "cathode"], ["weak", "salad"], ["weak", "compare"],
    ["weak", "decorrelate"], ["weak", "closure"], ["weak", "feta"], ["weak", "outliers"], ["weak", "calibrate"],
    ["weak", "shift"], ["weak", "simulators"], ["weak", "study"],
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_a_screen_and_ends_with_an_example(jettag, words):
    code, out, _ = jettag(*words, "--help")
    assert code == 0
    lines = out.rstrip().splitlines()
    assert len(lines) <= 50
    if words and (words[-1] not in {"data", "import", "bench", "scan", "weak"} or words == ["weak", "scan"]):
        assert out.rfind("Example: jettag") > out.rfind("--help")


def test_version_and_citation(jettag):
    assert jettag("--version")[1].startswith("jettag 0.")
    assert "2202.03772" in jettag("--cite")[1]


def test_help_is_quick_because_nothing_heavy_is_imported():
    code = "import sys, jettag_cli.main; print([m for m in ('torch', 'awkward', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pretrian"], 2, "pretrain"),
        (["pretrain", "mpm"], 2, "--data"),
        (["pretrain", "mpm", "--data", "x.root", "--frob"], 2, "--frob"),
        (["pretrain", "mpn", "--data", "x.root"], 3, "did you mean mpm"),
        (["pretrain", "top", "--data", "x.root"], 3, "jettag finetune"),
        (["pretrain", "mpm", "--data", "nowhere/*.root"], 4, "nowhere"),
        (["pretrain", "mpm", "--data", "x.root", "--max-time", "soon"], 2, "15m"),
        (["pretrain", "mpm", "--data", "x.root", "--set", "training.learning_rat=1"], 3, "did you mean learning_rate"),
        (["pretrain", "mpm", "--data", "x.root", "--set", "data.features=all"], 3, "jetclass_full"),
        (["pretrain", "mpm", "--data", "x.root", "--card", "jetclas"], 3, "did you mean jetclass"),
        (["pretrain", "mpm", "--data", "x.root", "--device", "cuda:9"], 7, "--device"),
        (["finetune", "--data", "x.root", "--device", "tpu"], 2, "auto, cpu, cuda or mps"),
        (["finetune", "--data", "x.root", "--mode", "prob"], 2, "did you mean probe"),
        (["finetune", "--data", "x.root", "--mode", "head"], 3, "--from"),
        (["finetune", "--data", "x.root", "--mode", "all"], 2, "unknown mode 'all' in --mode"),
        (["pretrain", "mpm", "--data", "x.root", "--probe", "QCD"], 3, "in --probe QCD"),
        (["pretrain", "mpm", "--data", "x.root", "--set", "seed=x"], 3, "in --set seed=x"),
        (["finetune", "--data", "x.root", "--from", "nowhere"], 5, "nowhere"),
        (["eval", "nowhere", "--data", "x.root"], 5, "nowhere"),
        (["cat", "mpmm"], 3, "did you mean mpm"),
        (["validate", "mpm", "--set", "a=1", "--set", "seed=x"], 3, "2 mistakes"),
        (["validate", "mpm", "--set", "data.features=foo"], 3, "jetclass_full"),
        (["validate", "mpm", "--set", "training.epochs=.inf"], 3, "finite"),
        (["validate", "mpm", "--set", "objective.decoder.heads=5"], 3, "cannot share"),
        (["validate", "mpm", "--set", "data.batch_size=0"], 3, "expected a number of jets, or auto"),
        (["validate", "top", "--set", "classes=[QCD,Foo]"], 3, "Foo"),
        (["eval", "nowhere", "--data", "x.root", "--out", "taken.yaml"], 2, "folder"),
        (["predict", "nowhere", "--data", "x.root", "--out", "x.txt"], 2, ".parquet"),
        (["cp", "mpm", "taken.yaml"], 2, "--force"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_user_errors_are_one_line_with_their_code(jettag, tmp_path, monkeypatch, words, code, said):
    from ..data.make import make_columns

    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.yaml").write_text("")
    write_root(tmp_path / "x.root", make_columns(20))
    found, out, err = jettag(*words)
    assert (found, out) == (code, "")
    last = err.rstrip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    assert sum(line.startswith("error") for line in err.splitlines()) == 1


def test_lists_and_texts(call_json, jettag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lists = call_json("ls")
    assert {"mpm", "top"} <= {row["name"] for row in lists["recipes"]}
    assert {"jetclass", "generated", "top_landscape"} <= {row["name"] for row in lists["cards"]}
    assert {row["size"] for row in lists["models"]} == {"tiny", "small", "base", "large"}
    assert lists["runs"] == []
    tiny = next(row["parameters"] for row in lists["models"] if row["size"] == "tiny")
    assert isinstance(tiny, int)
    assert f"{tiny:,}" in jettag("ls", "models")[1]
    assert jettag("cat", "mpm")[1].startswith("# Masked particle modelling")
    assert "label_smoothing" in jettag("cat", "top", "--resolved")[1]
    assert "learning_rate: 0.5" in jettag("cat", "mpm", "--set", "training.learning_rate=0.5")[1]
    assert jettag("cp", "mpm", "mine")[0] == 0
    assert (tmp_path / "mine.yaml").read_text() == jettag("cat", "mpm")[1]
    assert jettag("validate", "mine.yaml", *SMALL)[0] == 0
    assert set(call_json("validate", "mpm")["parameters"]) == {"tiny", "base"}
    assert set(call_json("validate", "tokenizer")["parameters"]) == {"tokenizer"}  # it has no backbone


def test_several_recipes_are_validated_at_once(call_json, jettag, tmp_path):
    for name, rate in (("good", 1e-3), ("bad", 99)):
        text = jettag("cat", "mpm", "--set", "training.learning_rate=0.125")[1]
        (tmp_path / f"{name}.yaml").write_text(text.replace("0.125", str(rate)))
    rows = call_json("validate", "mpm", tmp_path / "go*.yaml", tmp_path / "good.yaml")["recipes"]
    assert [row["valid"] for row in rows] == [True, True]  # each once
    assert rows[0]["parameters"] == rows[1]["parameters"]
    code, out, err = jettag("validate", "weak-top", tmp_path / "*.yaml", "--json")
    assert code == 3
    assert [row["valid"] for row in json.loads(out)["recipes"]] == [True, False, True]
    lines = err.splitlines()
    assert "bad.yaml is not valid" in lines[1]
    assert "learning_rate" in lines[1]
    assert lines[-1].startswith("error: 1 of 3 recipes are not valid")
    assert jettag("validate", tmp_path / "none*.yaml")[0] == 3


def test_a_signal_ends_the_validation_of_several_recipes(jettag, monkeypatch):
    def stopped(*_):
        raise Stopped("stopped by a signal", exit_code=143)

    monkeypatch.setattr("jettag_cli.validate._check", stopped)
    code, _, err = jettag("validate", "mpm", "top")
    assert (code, "not valid" in err) == (143, False)


def test_runs_are_listed_below_this_folder(runs, call_json, monkeypatch):
    monkeypatch.chdir(runs)
    rows = call_json("ls", "runs")["runs"]
    assert {row["run"] for row in rows} == {"pretrain", "finetuned", "scratch"}
    assert all(row["finished"] is True and isinstance(row["jets"], int) for row in rows)


def test_what_a_damaged_run_does_not_tell_is_null(call_json, jettag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text("{")
    (row,) = call_json("ls", "runs")["runs"]
    assert row == {"run": ".", "task": "damaged run.json", "jets": None, "finished": None, "started": None}
    assert jettag("ls", "runs")[1].splitlines()[-1].split() == [".", "damaged", "run.json", "no"]


def test_the_doctor_knows_this_machine(call_json):
    found = call_json("doctor")
    assert found["missing"] == []
    assert found["packages"]["torch"]
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "flags" in flags:
        assert found["cpu_bf16"] == ("avx512_bf16" in flags or "amx_tile" in flags)


def test_the_doctor_tells_of_every_extra(jettag, monkeypatch):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = project["optional-dependencies"]
    extras = {key: {re.split("[>=<]", package)[0] for package in declared[key]} for key in declared}
    assert {key: set(names) for key, names in EXTRAS.items()} == {
        key: names for key, names in extras.items() if key not in ("test", "dev")
    }
    monkeypatch.setattr("jettag_cli.doctor._version", lambda name: None if name == "s3fs" else "1.0")
    _, out, _ = jettag("doctor")
    assert "aiohttp 1.0; without s3fs: pip install 'jettag[remote]'" in " ".join(out.split())


def test_the_doctor_tries_compiled_blocks_on_the_cpu(call_json, monkeypatch):
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    monkeypatch.setattr(device_check, "RECIPES", ("supervised",))
    (trial,) = call_json("doctor", "--device", "cpu")["trials"]
    assert (trial["recipe"], trial["precision"], trial["compiled"]) == ("supervised", "fp32", True)
    assert trial["passed"]
    assert trial["difference"] < 1e-5


def _not_there(_):
    raise RuntimeError("operator not there\nand more")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            lambda losses: [*losses[:-1], losses[-1] + 0.5],
            "LOSSES OTHER than on the cpu, by 0.5 where rounding may make",
        ),
        (_not_there, "FAILED: operator not there in training on cpu;"),
    ],
)
def test_the_doctor_tells_of_a_device_that_trains_otherwise(jettag, monkeypatch, changed, said):
    monkeypatch.setattr(device_check, "RECIPES", ("supervised", "both"))
    monkeypatch.setattr(device_check, "_losses", lambda *_, compiled: changed([3.0, 2.0]) if compiled else [3.0, 2.0])
    code, out, err = jettag("doctor", "--device", "cpu")
    assert code == 7
    assert f"error: 2 of 2 trainings fail, first supervised, fp32, compiled: {said}" in err
    assert out.count(said[:12]) == 2


@pytest.mark.parametrize(
    ("number", "ignored", "code"), [(signal.SIGUSR1, "", 75), (signal.SIGTERM, "", 143), (signal.SIGUSR1, "USR1", 0)]
)
def test_the_first_module_finds_the_signals_handled(number, ignored, code, tmp_path):
    """The handlers are there before a command, or torch, is imported; what the shell ignores stays ignored."""
    lines = ["import os", f"os.kill(os.getpid(), {int(number)})", "print('went on', flush=True)", "os._exit(0)"]
    (tmp_path / "typer.py").write_text("\n".join(lines))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    trap = f"trap '' {ignored}; " if ignored else ""
    done = subprocess.run(
        ["sh", "-c", trap + 'exec "$@"', "-", sys.executable, "-m", "jettag_cli", "doctor"],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    said = "" if ignored else "error: stopped by a signal; run the command again\n"
    assert (done.returncode, done.stderr) == (code, said)
    assert done.stdout == ("went on\n" if ignored else "")


@pytest.mark.parametrize("delay", [0, 0.2, 0.5, 1.0])
def test_an_early_interrupt_is_one_line(delay):
    """While typer, pydantic and torch are loaded; the clock starts with the first module that the command loads."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "jettag_cli", "doctor"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "typer" not in process.stderr.readline():
        pass
    clock = Timer(delay, process.send_signal, [signal.SIGINT])
    clock.start()
    out, err = process.communicate(timeout=120)
    clock.cancel()
    if process.returncode == 0:  # it was faster
        assert "disk free" in out
    else:
        said = re.findall("^(?!import time:).+|error: .*", err, re.MULTILINE)  # the signal may cut a line of these
        assert process.returncode == 130, err
        assert len(said) == 1
        assert said[0].startswith("error: interrupted")


def test_garbage_is_not_searched_for_while_modules_load_and_at_the_end():
    code = """if True:
        import atexit, gc, sys
        from jettag_cli import entry

        loaded = entry.loading.__wrapped__
        def loading():
            for _ in loaded():
                print("loading", gc.isenabled())
                yield
            print("working", gc.isenabled())

        entry.loading = entry.contextmanager(loading)
        atexit.register(lambda: print("left", gc.get_freeze_count() > 10_000, flush=True))
        sys.argv = ["jettag", "cat", "mpm"]
        entry.main()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    said = [line for line in done.stdout.splitlines() if line.partition(" ")[0] in ("loading", "working", "left")]
    assert said == [*["loading False", "working True"] * 2, "left True"]


def test_the_script_begins_where_the_module_does():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["jettag"].partition(":")
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("command", ["cat mpm", "cat mpm --resolved", "ls recipes", "--help", "--version"])
def test_a_closed_pipe_is_no_error(command):
    done = subprocess.run(
        f"{sys.executable} -m jettag_cli {command} | true; exit ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@pytest.fixture
def broken(monkeypatch):
    """Have a function of `jettag` be a defect."""

    def boom(*_args, **_kwargs):
        raise RuntimeError("boom")

    return lambda name: monkeypatch.setattr(f"jettag.{name}", boom)


def test_a_defect_keeps_its_traceback_and_exits_with_one(jettag, broken, tmp_path):
    broken("config.recipe.load_recipe")
    code, _, err = jettag("pretrain", "mpm", "--data", "x.root", "--out", tmp_path)
    assert code == 1
    assert "boom" in err.splitlines()[-1]
    assert "RuntimeError: boom" in (tmp_path / "traceback.txt").read_text()


FILES = ["--background", "x.root", "--signal", "x.root", "--test", "x.root"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("runs.inference.evaluate", ["eval", "run", "--data", "x.root"]),
        ("run.load_recipe", ["scan", "labels", "--data", "x.root", "--test", "x.root"]),
        ("run.weak_study", ["weak", "iad", "--fraction", "0.1", *FILES]),
        ("run.weak_study", ["weak", "scan", *FILES]),
    ],
)
def test_a_traceback_is_kept_where_the_command_writes(jettag, broken, tmp_path, function, words):
    """In a folder that is made for it, or on stderr where there is none; it is in nobody's way."""
    broken(function)
    out = tmp_path / "out"
    code, _, err = jettag(*words, "--out", out)
    assert code == 1
    assert "RuntimeError: boom" in (out / "traceback.txt").read_text()
    assert err.splitlines()[-1].endswith(f"in {out / 'traceback.txt'}; please report that file")
    if words[0] == "eval":
        code, _, err = jettag(*words)
        assert code == 1
        assert "Traceback" in err
        assert err.splitlines()[-1].endswith("please report the traceback above")


def test_a_traceback_is_kept_in_the_default_run_directory(jettag, broken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    broken("runs.pretraining.pretrain")
    for name in ("mpm", "mpm-2"):
        code, _, err = jettag("pretrain", "mpm", "--data", "x.root")
        assert code == 1
        assert f"runs/{name}/traceback.txt" in err
    code, _, err = jettag("pretrain", "mpm", "--data", "x.root", "--resume")
    assert "runs/mpm-2/traceback.txt" in err  # the run that was begun last
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mpm", "mpm-2"]


def test_a_study_begins_beside_the_traceback_of_a_defect(tmp_path):
    for settle in (scan_plan.settle_plan, weak_plan.settle_plan):
        folder = tmp_path / settle.__module__
        folder.mkdir()
        (folder / "traceback.txt").touch()
        settle(folder, {"labels": [1], "modes": [], "seeds": []})
        assert (folder / "plan.json").is_file()


def test_json_has_no_nan():
    from jettag_cli.console import emit_json

    with pytest.raises(ValueError, match="not JSON compliant"):
        emit_json({"x": float("nan")})


def test_several_values_after_one_option(jettag, tmp_path):
    """`--data a b` is `--data a --data b`; values end at the next option."""
    code, _, err = jettag("pretrain", "mpm", "--data", tmp_path / "a.root", tmp_path / "b.root", "--json")
    assert code == 4
    assert "a.root" in err
    code, _, err = jettag("eval", tmp_path, "--background", "QCD", "Hbb", "--data", "c.root")
    assert code in {4, 5}, err


def test_json_schema_of_ls_is_one_object(jettag):
    assert json.loads(jettag("ls", "recipes", "--json")[1])["schema"] == 1
