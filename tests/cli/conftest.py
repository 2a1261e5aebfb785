"""The installed command, and small files that another program might have written."""

import json

import numpy as np
import pytest
import uproot
from jettag_cli.main import app
from typer.testing import CliRunner

from jettag.runs.training_picture import draw_training_picture

from ..data.make import make_columns

SMALL = [
    "--set",
    "backbone.settings={dim: 16, embed_dims: [16], pair_dims: [8], num_heads: 2, num_layers: 1, num_class_layers: 1}",
    "--set",
    "data.batch_size=32",
]
# Of pre-training only.
SMALL_DECODER = ["--set", "objective.target.codes=16", "--set", "objective.decoder={dim: 16, layers: 1, heads: 2}"]


def write_root(path, columns):
    """A TTree as uproot users write it, every branch with its own counter."""
    with uproot.recreate(path) as file:
        kinds = {
            name: values.dtype if isinstance(values, np.ndarray) else values.type.content
            for name, values in columns.items()
        }
        file.mktree("tree", kinds).extend(columns)
    return path


def widened(columns, factor):
    """The same jets with their angles to the axis scaled: a class that can be told apart."""
    return columns | {name: columns[name] * np.float32(factor) for name in ("part_deta", "part_dphi")}


def jets(count, name, factor, seed):
    """Jets with two jet-level features that tell the classes apart."""
    random = np.random.default_rng(seed)
    columns = make_columns(count, seed=seed, class_name=name, longest=6)
    return columns | {
        "jet_mass_like": random.normal(factor, 1, count).astype(np.float32),
        "jet_width": random.normal(size=count).astype(np.float32),
    }


@pytest.fixture(scope="session", autouse=True)
def _one_core():
    """Tests share the cores already: the seconds in which a worker starts are for those that ask for workers."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("jettag.config.processes", "jettag.runs.weak_workers"):
            patch.setattr(f"{module}.usable_cores", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _figures_only():
    """The figure of a training is made of all that was told, and what goes wrong with it fails the test.

    Turning it into files takes seconds, and is for `test_training_picture`.
    """

    def make(run, _note):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jettag.evaluation.plots.save", lambda *_: [])
            draw_training_picture(run, pytest.fail)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("common", "holding"):
            patch.setattr(f"jettag.runs.{module}.draw_training_picture", make)
        yield


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """Files of QCD and Tbqq, to train on and to judge, and a card with their two features."""
    folder = tmp_path_factory.mktemp("weak")
    for seed, (name, factor) in enumerate({"QCD": 0.0, "Tbqq": 2.5}.items()):
        write_root(folder / f"{name}.root", jets(200, name, factor, seed))
        write_root(folder / f"{name}_test.root", jets(200, name, factor, 10 + seed))
    import yaml
    from jettag_data_cards import __path__ as cards

    card = yaml.safe_load(open(f"{cards[0]}/jetclass.yaml"))  # noqa: SIM115, PTH123
    card["jet"] |= {"mass_like": "jet_mass_like", "width": "jet_width"}
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Training and test files of QCD, Tbqq and Hbb, of JetClass's schema."""
    folder = tmp_path_factory.mktemp("files")
    for seed, part in enumerate(("train", "test")):
        (folder / part).mkdir()
        for place, (name, factor) in enumerate({"QCD": 1.0, "Tbqq": 3.0, "Hbb": 2.0}.items()):
            columns = make_columns(150, seed=10 * seed + place, class_name=name)
            write_root(folder / part / f"{name}.root", widened(columns, factor))
    return folder


@pytest.fixture(scope="session")
def jettag():
    """Run the command; returns (exit code, stdout, stderr)."""
    runner = CliRunner()

    def call(*words):
        result = runner.invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return call


@pytest.fixture(scope="session")
def call_json(jettag):
    """Run with --json; returns the one object on stdout."""

    def call(*words):
        code, out, err = jettag(*words, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return call


@pytest.fixture(scope="session")
def runs(files, call_json, tmp_path_factory):
    """A backbone, a tagger fine-tuned from it, and one from scratch."""
    folder = tmp_path_factory.mktemp("runs")
    train = sorted((files / "train").glob("*.root"))
    call_json(
        *("pretrain", "mpm", "--data", *train, "--out", folder / "pretrain", *SMALL, *SMALL_DECODER, "--max-steps", 8)
    )
    common = ["--task", "top", "--card", "jetclass", "--data", *train, *SMALL, "--max-steps", 60]
    call_json("finetune", *common, "--from", folder / "pretrain", "--out", folder / "finetuned")
    call_json("finetune", *common, "--out", folder / "scratch")
    return folder
