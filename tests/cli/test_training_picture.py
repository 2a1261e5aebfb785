"""``plots/training.png``: what it shows, when it is drawn, and that no training fails for want of it."""

import json
import subprocess
import sys
from contextlib import suppress
from itertools import count

import pytest

from jettag.errors import Stopped
from jettag.evaluation import plots
from jettag.runs import common, holding
from jettag.runs.common import NOBODY
from jettag.runs.holding import hold_run
from jettag.runs.training_picture import draw_training_picture
from jettag.training.run_directory import read_run, update_run

from .conftest import SMALL

OFTEN = ["--set", "training.val_every=5", "--set", "training.log_every=2"]


@pytest.fixture(autouse=True)
def _files_too(monkeypatch):
    """The other tests of commands make figures only."""
    for module in (common, holding):
        monkeypatch.setattr(module, "draw_training_picture", draw_training_picture)


@pytest.fixture
def words(files, tmp_path):
    return [
        *("finetune", "--task", "top", "--card", "jetclass", "--data", files / "train" / "*.root", *SMALL, *OFTEN),
        *("--out", tmp_path / "run", "--max-steps"),
    ]


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is saved."""
    figures, save = [], plots.save

    def keep(figure, stem):
        figures.append(figure)
        return save(figure, stem)

    monkeypatch.setattr(plots, "save", keep)
    return figures


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_training_is_drawn_and_a_resumed_one_again_as_a_whole(jettag, words, drawn, tmp_path):
    run = tmp_path / "run"
    for steps in (6, 12):
        code, _, err = jettag(*words, steps, *(["--resume"] if steps > 6 else []))
        assert code == 0, err
        records = metrics(run)
        assert records[-1]["step"] == steps
        lines = {line.get_label(): line.get_data() for line in drawn[-1].axes[0].lines}
        for label, key in (("loss", "loss"), ("validation loss", "val_loss")):
            shown = [tuple(pair) for pair in zip(*lines[label], strict=True)]
            assert shown == [(record["step"], record[key]) for record in records if key in record]
    assert len(drawn) == 2
    assert sorted(path.name for path in (run / "plots").iterdir()) == ["training.pdf", "training.png"]
    assert "](plots/training.png)" in (run / "README.md").read_text()


def test_a_full_disk_is_one_warning(jettag, words, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "write_atomically", full)
    code, _, err = jettag(*words, 2)
    assert code == 0
    warned = [line for line in err.splitlines() if "no picture" in line]
    assert len(warned) == 1
    assert "No space left on device" in warned[0]
    run = tmp_path / "run"
    assert read_run(run)["finished"]
    assert "](plots/training.png)" not in (run / "README.md").read_text()


def test_a_training_needs_no_matplotlib(words, tmp_path):
    start = "import sys; sys.modules['matplotlib'] = None; from jettag_cli.main import app; app()"
    command = [sys.executable, "-c", start, *map(str, words), "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no picture of the training") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "plots").exists()


@pytest.fixture
def stopped(tmp_path):
    """Stop a run that has one line of metrics and a checkpoint; its directory."""

    def stop_training(run, **choices):
        with hold_run(run, resume=False, told=NOBODY, **choices):
            update_run(run, begin=True, seed=1)
            (run / "metrics.jsonl").write_text('{"step": 5, "loss": 1.5, "learning_rate": 0.1}\n{"step": 6, "lo')
            saved = run / "checkpoints" / "step-00000005" / "state.json"
            saved.parent.mkdir(parents=True, exist_ok=True)
            saved.touch()
            raise Stopped("stopped", exit_code=75)

    number = count()

    def call(**choices):
        run = tmp_path / f"stopped-{next(number)}"
        with pytest.raises(Stopped) as stop:
            stop_training(run, **choices)
        assert stop.value.exit_code == 75
        assert read_run(run)["stopped"] == 75
        return run

    return call


def test_a_training_that_a_signal_stopped_is_drawn(stopped, drawn):
    assert (stopped() / "plots" / "training.png").is_file()
    assert [list(data) for data in drawn[0].axes[0].lines[0].get_data()] == [[5], [1.5]]


def test_a_second_signal_leaves_the_first_ones_exit_code(stopped, monkeypatch):
    for second in (Stopped("again", exit_code=143), KeyboardInterrupt()):

        def interrupted(*_, error=second):
            raise error

        monkeypatch.setattr(holding, "draw_training_picture", interrupted)
        stopped()


def test_studies_draw_none_of_their_trainings(stopped):
    assert not (stopped(pictures=False) / "plots").exists()


def test_an_interrupted_drawing_leaves_the_old_files(stopped, monkeypatch, drawn):
    run = stopped()
    before = {path.name: path.read_bytes() for path in (run / "plots").iterdir()}
    (run / "metrics.jsonl").write_text('{"step": 9, "loss": 0.5, "learning_rate": 0.1}\n')

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jettag.config.files.sync", interrupted)
    with suppress(KeyboardInterrupt):
        draw_training_picture(run, NOBODY.note)
    assert len(drawn) == 2
    assert {path.name: path.read_bytes() for path in (run / "plots").iterdir()} == before
