"""The commands on a stand-in for an accelerator (`tests.standin`): the same runs, whatever they are computed on."""

import json

import pytest

from ..training.test_distributed import records
from ..training.test_standin import on_standin
from .conftest import SMALL
from .test_torchrun import QUIET


def test_from_pre_training_to_a_table_of_a_tagger(files, tmp_path, call_json):
    """In double precision the losses, and so all that follows from them, are those of the CPU."""
    data = ["--data", str(files / "train" / "*.root")]
    sets = ("data.batch_size=32", "training.log_every=1", "training.precision=fp64")
    exact = [x for value in sets for x in ("--set", value)]
    small = ["--set", "backbone.size=tiny", "--set", QUIET]  # auto would take a larger one there

    def commands(folder):
        backbone, tagger = str(folder / "backbone"), str(folder / "tagger")
        finetune = ["finetune", "--task", "top", "--from", backbone, *data]
        return [
            ["pretrain", "jetclr", *data, *small, *exact, "--max-steps", "6", "--out", backbone, "--json"],
            [*finetune, *exact, "--set", "training.accumulate=2", "--max-steps", "6", "--out", tagger, "--json"],
            ["eval", tagger, "--data", str(files / "test" / "*.root"), "--json"],
        ]

    for words in commands(tmp_path / "cpu"):
        rows = call_json(*words)
    *_, there = on_standin("tests.cli.on_standin", json.dumps(commands(tmp_path / "there"))).splitlines()
    for run in ("backbone", "tagger"):
        one, other = (records(tmp_path / place / run) for place in ("cpu", "there"))
        assert len(one) == len(other) > 6
        for a, b in zip(one, other, strict=True):
            assert b == pytest.approx(a, abs=1e-9), run
    expected, found = ([row["auc"] for row in table["rows"]] for table in (rows, json.loads(there)))
    assert found == pytest.approx(expected, abs=1e-3)  # of some hundred jets, scored in single precision


def test_no_command_needs_double_precision(files, tmp_path):
    """Apple's GPUs have none. What a head begins with, or a probe says, is for the host to compute."""
    train, test = (["--data", str(files / part / "*.root")] for part in ("train", "test"))
    few, backbone, tagger = ["--max-steps", "2", "--json"], str(tmp_path / "backbone"), str(tmp_path / "lpft")
    commands = [["pretrain", "both", *train, *SMALL, *few, "--probe", "QCD,Tbqq", "--out", backbone]]
    for mode in ("attentive", "lora", "lpft"):
        finetune = ["finetune", "--task", "top", "--from", backbone, "--mode", mode]
        commands += [[*finetune, *train, *few, "--out", str(tmp_path / mode)]]
    commands += [["eval", tagger, *test, "--json"]]
    for word in ("predict", "embed"):
        commands += [[word, tagger, *test, "--out", str(tmp_path / f"{word}.root"), "--json"]]
    told = on_standin("tests.cli.on_standin", json.dumps(commands), "single").splitlines()
    assert len(told) == len(commands)


def test_the_doctor_finds_that_it_trains_as_the_cpu_does():
    (told,) = on_standin("tests.cli.on_standin", json.dumps([["doctor", "--device", "mps", "--json"]])).splitlines()
    trials = json.loads(told)["trials"]
    assert [(trial["precision"], trial["compiled"]) for trial in trials] == [
        *(("fp64", False), ("fp32", False), ("fp32", True), ("bf16", False), ("bf16", True))
    ]
    for trial in trials:
        assert trial["passed"], trial
        assert trial["difference"] <= {"fp64": 1e-9, "fp32": 1e-3, "bf16": 0.1}[trial["precision"]]
