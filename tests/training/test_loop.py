"""The loop: resumed equals uninterrupted, stops where told, never saves what is not finite."""

import copy
import itertools
import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from jettag.config.objectives import MaskedRecipe
from jettag.config.recipe import TrainingRecipe
from jettag.data.loader import Loader
from jettag.errors import CheckpointError, DivergenceError, Stopped
from jettag.models import compiling
from jettag.objectives.build import JetsAre, build_masked
from jettag.training import Limits, Trainer, load_checkpoint, load_last_good, resolve_checkpoint, train
from jettag.training.probe import Probe

from ..conftest import make_table
from ..objectives.test_classification import make_model as make_classifier
from ..objectives.test_masked import make_model
from ..objectives.test_tokenizer import make_tokenizer

RECIPE = TrainingRecipe(learning_rate=1e-3, max_steps=12, val_every=4, log_every=2, keep_checkpoints=10)


def make_target(table, name):
    if name == "vqvae":
        recipe = MaskedRecipe.model_validate(
            {"target": {"name": name}, "decoder": {"dim": 16, "layers": 1, "heads": 2}}
        )
        backbone = make_model(table).backbone
        return build_masked(
            recipe, backbone, JetsAre(table.feature_names, 12, tokenizer=(make_tokenizer(table).tokenizer, ""))
        )
    return make_tokenizer(table) if name == "tokenizer" else make_model(table, name=name)


def make_trainer(table, recipe=RECIPE, seed=0, model=None):
    model = model or make_model(table, seed)
    loader = Loader(table, batch_size=32, seed=seed, pieces=recipe.accumulate)
    return Trainer(model, loader, recipe, device=torch.device("cpu"), seed=seed, settings={"is": "a test"})


def run_to(trainer, folder, steps, log=lambda _: None, probe=None, **limits):
    folder.mkdir(exist_ok=True)
    val, note = make_table(50, seed=9), lambda _: None
    return train(trainer, val, Limits(steps, **limits), folder, seed=0, log=log, note=note, probe=probe)


def losses(folder):
    return [
        (r["step"], r.get("loss"), r.get("val_loss"))
        for r in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    ]


@pytest.mark.parametrize(
    "changes",
    [
        *({"optimizer": name} for name in ("adamw", "lion", "muon", "ranger", "sgd")),
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"accumulate": 3, "schedule": "one_cycle"},
        {"compile": True},
        {"threads": 3},
        *({"target": name} for name in ("regression", "flow", "setflow", "tokenizer", "vqvae")),
    ],
    ids=str,
)
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path, table, changes, monkeypatch, request):
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    target, threads = changes.get("target", "kmeans"), changes.get("threads", 1)
    recipe = RECIPE.model_copy(update={k: value for k, value in changes.items() if k not in ("target", "threads")})
    torch.set_num_threads(threads)
    request.addfinalizer(lambda: torch.set_num_threads(1))
    whole = make_trainer(table, recipe, model=make_target(table, target))
    run_to(whole, tmp_path / "whole", 12)

    first = make_trainer(table, recipe, model=make_target(table, target))
    calls = iter(range(100))

    def interrupt(_record):
        if next(calls) == 3:  # in the middle of an epoch, not at a validation
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as caught:
        run_to(first, tmp_path / "parts", 12, log=interrupt)
    assert caught.value.exit_code == 143
    assert 0 < first.step < 12

    torch.manual_seed(999)
    second = make_trainer(table, recipe, model=make_target(table, target))
    second.restore(load_checkpoint(resolve_checkpoint(tmp_path / "parts", prefer="last")))
    run_to(second, tmp_path / "parts", 12)

    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for (name, a), b in zip(whole.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    for (name, a), b in zip(
        whole.ema.module.state_dict().items(), second.ema.module.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


def test_looking_at_a_run_more_or_less_often_changes_no_weight(tmp_path, table):
    """Records, validations and a probe from the middle on; the backbone drops at random, so a draw would be seen."""
    model = make_model(table)
    for module in model.modules():
        if isinstance(getattr(module, "drop", None), float):
            module.drop = module.attention_drop = 0.2
    whole = make_trainer(table, model=copy.deepcopy(model))
    torch.manual_seed(3)
    run_to(whole, tmp_path / "whole", 12)

    def interrupt(record):
        if record["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    torch.manual_seed(3)
    with pytest.raises(Stopped):
        run_to(make_trainer(table, model=copy.deepcopy(model)), tmp_path / "parts", 12, log=interrupt)
    other = RECIPE.model_copy(update={"val_every": 3, "log_every": 1})
    second = make_trainer(table, other, model=model)
    second.restore(load_checkpoint(resolve_checkpoint(tmp_path / "parts", prefer="last")))
    assert second.step == 7  # the signal is seen a step after the record
    run_to(second, tmp_path / "parts", 12, probe=Probe(make_table(100, seed=5), seed=0))
    for part in (lambda trainer: trainer.model, lambda trainer: trainer.ema.module):
        for (name, a), b in zip(part(whole).state_dict().items(), part(second).state_dict().values(), strict=True):
            assert torch.equal(a, b), name
    records = [(step, val is not None) for step, loss, val in losses(tmp_path / "parts") if step > 7]
    assert records == [(8, False), (9, False), (9, True), (10, False), (11, False), (12, False), (12, True)]


def test_best_is_the_checkpoint_of_the_least_validation_loss(tmp_path, table):
    trainer = make_trainer(table)
    run_to(trainer, tmp_path / "run", 12)
    by_step = {step: val for step, _, val in losses(tmp_path / "run") if val is not None}
    best = min(by_step, key=by_step.get)
    assert resolve_checkpoint(tmp_path / "run").name == f"step-{best:08d}"
    assert resolve_checkpoint(tmp_path / "run", prefer="last").name == "step-00000012"


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path, table):
    trainer = make_trainer(table)
    run_to(trainer, tmp_path / "run", 4)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items() if "running" not in name}
    table.features[:] = np.nan
    with pytest.raises(DivergenceError, match="at step 4"):
        run_to(trainer, tmp_path / "run", 8)
    for name, value in before.items():
        if "num_batches" not in name:
            assert torch.equal(trainer.model.state_dict()[name], value), name
    assert load_checkpoint(resolve_checkpoint(tmp_path / "run", prefer="last")).step == 4


@pytest.mark.parametrize(
    ("changes", "asked", "steps"),
    [
        ({"log_every": 1}, None, 12),
        ({"log_every": 100}, None, 12),  # it is validation that comes first
        ({"log_every": 100, "val_every": 100}, None, 9),  # the end
        ({"log_every": 100, "val_every": 100}, signal.SIGTERM, 12),
        ({"log_every": 100, "val_every": 100}, "STOP", 12),
        ({"log_every": 100, "val_every": 100}, "time to save", 12),
    ],
    ids=str,
)
def test_an_accelerator_lets_nothing_out_of_weights_that_are_not_finite(
    tmp_path, table, monkeypatch, changes, asked, steps
):
    """There the loss is looked at later than at its step: until then no weight changes, and nothing is told or kept."""
    run, told, weights = tmp_path / "run", [], {}
    first = make_trainer(table)
    run_to(first, run, 4, log=told.append)
    trainer = make_trainer(table, RECIPE.model_copy(update=changes))
    trainer.restore(load_checkpoint(resolve_checkpoint(run, prefer="last")))
    trainer.looks_at_each_step = False
    step, good, judged = trainer.update, table.features.copy(), []
    validate, told_before = trainer.validate, len(told)

    def update(limits):
        table.features[:] = np.nan if trainer.step == 6 else good
        if trainer.step in (5, 6):
            weights[trainer.step] = {name: value.clone() for name, value in trainer.model.named_parameters()}
        losses = step(limits)
        if trainer.step == 8:  # one after the bad one
            assert losses["loss"].isfinite()
            if asked == "STOP":
                (run / "STOP").touch()
            elif asked == "time to save":
                monkeypatch.setattr("jettag.training.loop.SECONDS_BETWEEN_SAVES", 0.0)
            elif asked:
                os.kill(os.getpid(), asked)
        return losses

    trainer.update = update
    trainer.validate = lambda *given: judged.append(trainer.step) or validate(*given)
    files = {path: path.read_bytes() for path in sorted((run / "checkpoints").rglob("*")) if path.is_file()}
    with pytest.raises(DivergenceError, match=r"at step 6 .*; the checkpoint of step 4 is still good"):
        run_to(trainer, run, steps, log=told.append)
    table.features[:] = good
    assert any(not torch.equal(weights[5][name], value) for name, value in weights[6].items())
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, weights[6][name]), name
    assert judged == []
    assert {record["step"] for record in told[told_before:]} <= {5, 6}
    assert [entry["step"] for entry in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())] == [
        record["step"] for record in told
    ]
    assert {path: path.read_bytes() for path in sorted((run / "checkpoints").rglob("*")) if path.is_file()} == files
    assert json.loads((run / "bad_batch.json").read_text())["step"] == 6


def test_weights_that_give_no_validation_loss_are_told_and_not_kept(tmp_path, table):
    """The loss before the step that made them was finite, and nothing tells of the step before it is looked at."""
    run = tmp_path / "run"
    trainer = make_trainer(table)
    step = trainer.update

    def update(limits):
        found = step(limits)
        if trainer.step == 8:
            with torch.no_grad():
                for value in (*trainer.model.parameters(), *trainer.averaged.parameters()):
                    value.fill_(1e30)
        return found

    trainer.update = update
    said = "validation loss (nan|inf) after step 8 in .*; start anew with .*; the checkpoint of step 4 is still good"
    with pytest.raises(DivergenceError, match=said):
        run_to(trainer, run, 12)
    assert load_last_good(run, pytest.fail).step == 4
    assert [entry for entry in losses(run) if entry[2] is not None][-1][0] == 4
    assert "NaN" not in (run / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("val_every", "said"),
    [
        (4, "the checkpoint of step 8 gives it already, that of step 4 is older"),
        (9, "of step 8 gives it already, and there is no older"),
    ],
)
def test_a_checkpoint_whose_own_weights_diverge_is_not_called_good(tmp_path, table, monkeypatch, val_every, said):
    """It was written for the time that had passed, or the weights that are averaged were judged and were good."""
    run = tmp_path / "run"
    trainer = make_trainer(table, RECIPE.model_copy(update={"val_every": val_every, "log_every": 1}))
    step = trainer.update

    def update(limits):
        found = step(limits)
        if trainer.step == 8:
            monkeypatch.setattr("jettag.training.loop.SECONDS_BETWEEN_SAVES", 0.0)
            with torch.no_grad():
                for value in trainer.model.parameters():
                    value.fill_(1e30)
        return found

    trainer.update = update
    with pytest.raises(DivergenceError, match=f"at step 8 .*; start anew with .*{said}"):
        run_to(trainer, run, 12)
    assert resolve_checkpoint(run, prefer="last").name == "step-00000008"


@pytest.mark.parametrize("made_for", ["cpu", "meta"])  # padded, packed
def test_a_loss_that_is_not_finite_names_the_jets(tmp_path, table, made_for):
    """Two jets are made bad; the message and the file name these two as the loader met them, and no other."""
    origin = {"file": np.arange(200) % 2, "entry": 1000 + np.arange(200)}
    table = replace(table, jet=origin)
    trainer = make_trainer(table)
    trainer.loader = Loader(table, batch_size=32, seed=0, device=torch.device(made_for))
    trainer.files = ("a.root", "b.root")
    bad = [7, 120]
    for jet in bad:
        table.features[table.offsets[jet]] = np.inf
    with pytest.raises(
        DivergenceError, match=r"repair those jets; (no checkpoint was|the checkpoint of step \d+ is) "
    ) as caught:
        run_to(trainer, tmp_path / "run", 14)
    content = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    named = {(row["row"], row["file"], row["entry"]) for row in content["not_finite_jets"]}
    assert named
    assert named <= {(jet, "ab"[jet % 2] + ".root", 1000 + jet) for jet in bad}
    for _, file, entry in named:
        assert f"entry {entry} of {file}" in str(caught.value)
    assert len(content["jets"]) in {32, 200 % 32}  # a batch of the epoch, perhaps its last
    assert content["step"] == trainer.step


def test_patience_ends_a_run_that_no_longer_improves(tmp_path, table):
    recipe = RECIPE.model_copy(update={"learning_rate": 1e-12, "ema_decay": None, "val_every": 2, "patience": 3})
    trainer = make_trainer(table, recipe)
    losses_val = iter([3.0, 2.0, 2.5, 2.0, 2.1, 1.0])
    trainer.validate = lambda *_: {"loss": next(losses_val)}
    assert run_to(trainer, tmp_path / "run", 100) == "patience"
    assert trainer.step == 10  # the second validation was the best, and three came after it
    assert resolve_checkpoint(tmp_path / "run").name == "step-00000004"
    again = make_trainer(table, recipe)
    again.restore(load_last_good(tmp_path / "run", pytest.fail))
    assert run_to(again, tmp_path / "run", 100) == "patience"
    assert again.step == 10


def test_a_stop_file_ends_a_run_as_finished_and_the_run_can_go_on(tmp_path, table):
    trainer = make_trainer(table)

    def ask(record):
        if record["step"] == 2:
            (tmp_path / "run" / "STOP").touch()

    assert run_to(trainer, tmp_path / "run", 100, log=ask) == "STOP"
    assert trainer.step == 3
    assert not (tmp_path / "run" / "STOP").exists()
    assert [val is not None for _, _, val in losses(tmp_path / "run")][-1]
    assert load_checkpoint(resolve_checkpoint(tmp_path / "run", prefer="last")).step == 3
    assert run_to(trainer, tmp_path / "run", 5) == "max_steps"


def test_time_ends_a_run_as_finished_with_the_rate_brought_down(tmp_path, table):
    trainer = make_trainer(table)
    records = []
    run_to(trainer, tmp_path / "run", 10**9, log=records.append, max_seconds=3.0)
    assert trainer.step < 10**6
    assert records[-1]["progress"] == 1.0
    rates = [r["learning_rate"] for r in records if "learning_rate" in r]
    assert rates[-1] < 0.1 * max(rates)


@pytest.mark.parametrize("val_every", [4, 5, 7, 30, 46, 48, 1000])
def test_the_time_of_a_run_has_its_last_validation_and_save_in_it(tmp_path, table, monkeypatch, val_every):
    clock = [0.0]
    monkeypatch.setattr("jettag.training.loop.time", SimpleNamespace(monotonic=lambda: clock[0]))

    def takes(seconds, function):
        def slow(*arguments, **settings):
            clock[0] += next(seconds)
            return function(*arguments, **settings)

        return slow

    def begun():
        trainer = make_trainer(table, RECIPE.model_copy(update={"val_every": val_every}))
        validations = itertools.chain([14], itertools.repeat(10))  # the first is slow, as of files that are not cached
        for name, seconds in (
            ("update", itertools.repeat(1)),
            ("validate", validations),
            ("save", itertools.repeat(2)),
        ):
            monkeypatch.setattr(trainer, name, takes(seconds, getattr(trainer, name)))
        return trainer

    records, trainer = [], begun()
    assert run_to(trainer, tmp_path / "run", 10**9, log=records.append, max_seconds=60) == "max_time"
    known = val_every < 46  # what a validation takes, before the time is over
    assert 60 - 2 * 16 < clock[0] <= 60 + (1 if known else 16)
    progress = [record["progress"] for record in records]
    assert progress == sorted(progress)  # phases and rates do not go back when a validation is faster
    assert progress[-1] == 1.0
    again = begun()
    again.restore(load_last_good(tmp_path / "run", pytest.fail))
    before = clock[0]
    assert run_to(again, tmp_path / "run", 10**9, max_seconds=60) == "max_time"
    assert (again.step, clock[0]) == (trainer.step, before)


def test_another_model_is_not_resumed(tmp_path, table):
    trainer = make_trainer(table)
    run_to(trainer, tmp_path / "run", 4)
    stranger = make_trainer(table)
    stranger.settings = {"is": "another"}
    with pytest.raises(CheckpointError, match="differs from the recipe's in is"):
        stranger.restore(load_checkpoint(resolve_checkpoint(tmp_path / "run")))


def test_training_learns_what_can_be_learnt(tmp_path):
    """Jets of the two classes differ in their width alone; guessing has a loss of ln 2."""
    recipe = RECIPE.model_copy(update={"val_every": 60, "learning_rate": 3e-3})
    trainer = make_trainer(make_table(600), recipe, model=make_classifier(make_table(10)))
    run_to(trainer, tmp_path / "run", 120)
    values = [val for _, _, val in losses(tmp_path / "run") if val is not None]
    assert values[-1] < 0.8 * np.log(2)
