"""Embedding once: the same batches in the same order, the same losses, and the jets again once the backbone is free."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from jettag.data.loader import Loader
from jettag.data.once import once
from jettag.errors import Stopped
from jettag.objectives.phases import FROZEN, Phases
from jettag.training import Limits, Trainer, load_checkpoint, resolve_checkpoint, train
from jettag.training.precompute import KNOWN, EmbeddedTable, embedded

from ..conftest import make_table
from ..objectives.test_classification import make_model
from .test_loop import RECIPE, losses

CPU = torch.device("cpu")
DROPS = {"dropout": 0.2, "attention_dropout": 0.2}


class OnDisk:
    """A table read in stretches of seven jets, as shards are."""

    def __init__(self, table):
        self.table = table
        self.block_sizes = np.array([7] * (len(table) // 7) + ([len(table) % 7] if len(table) % 7 else []))

    def __getattr__(self, name):
        return getattr(self.table, name)

    def __len__(self):
        return len(self.table)

    def load(self, blocks):
        starts = np.cumsum(self.block_sizes) - self.block_sizes
        index = np.concatenate([np.arange(starts[b], starts[b] + self.block_sizes[b]) for b in blocks])
        return self.table.select(index), np.arange(len(index))


KINDS = {"in memory": lambda table: table, "on disk": OnDisk}


@pytest.mark.parametrize(("kind", "attentive"), [("in memory", False), ("in memory", True), ("on disk", False)])
def test_batches_carry_what_the_backbone_would_say_in_the_order_of_the_jets(table, kind, attentive):
    deep = {"num_layers": 3, "summary_blocks": 2}
    model = make_model(table, phases=FROZEN, attentive=attentive, backbone_options=DROPS | deep).train()
    jets = KINDS[kind](table)
    quick = embedded(jets, model, CPU, lambda _: None)
    assert isinstance(quick, EmbeddedTable)
    loaders = [Loader(part, batch_size=32, seed=3) for part in (jets, quick)]
    assert loaders[0].state_dict() == loaders[1].state_dict()
    for _ in range(15):  # more than two epochs
        raw, batch = (next(loader) for loader in loaders)
        assert torch.equal(batch.label, raw.label)
        expected = model(raw)
        for name, value in model(batch).items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    seen = {}
    for part in (jets, quick):
        found = np.zeros((len(table), 2))
        for index, batch in once(part, 50):
            found[index] = model.eval().logits(batch).detach().numpy()
        seen[part is quick] = found
    np.testing.assert_allclose(seen[True], seen[False], atol=1e-5)


def test_embeddings_that_are_known_are_taken_where_they_are_the_backbones(table):
    model = make_model(table, phases=FROZEN, backbone_options=DROPS).eval()
    own = EmbeddedTable(table, model, CPU).embeddings
    told = []
    known = EmbeddedTable(replace(table, jet={KNOWN: own}), model, CPU, note=told.append)
    assert known.embeddings is own
    rows = np.array([5, 2])
    held = EmbeddedTable(replace(table, jet={KNOWN: own}).select(rows), model, CPU, note=told.append)
    assert np.array_equal(held.embeddings, own[rows])
    assert not told
    narrow = EmbeddedTable(replace(table, jet={KNOWN: own[:, 1:]}), model, CPU, note=told.append)
    np.testing.assert_allclose(narrow.embeddings, own, atol=1e-6)
    assert told


@pytest.mark.parametrize("kind", KINDS)
def test_a_backbone_set_free_in_the_middle_of_an_epoch_sees_the_jets_that_follow(table, kind):
    model = make_model(table, phases=Phases(frozen=0.5))
    loaders = [
        Loader(part, batch_size=32, seed=3)
        for part in (KINDS[kind](table), embedded(KINDS[kind](table), model, CPU, print))
    ]
    for step in range(12):
        if step == 3:
            model.enter(0.5)
        raw, batch = (next(loader) for loader in loaders)
        assert (batch.embedding is None) == (step >= 3)
        if step >= 3:
            assert torch.equal(batch.features, raw.features)
            assert torch.equal(batch.p4, raw.p4)


@pytest.mark.parametrize(("kind", "attentive"), [("in memory", False), ("in memory", True), ("on disk", True)])
def test_embeddings_that_do_not_fit_are_not_kept(table, kind, attentive, monkeypatch):
    """Constituents of a table on disk never: only reading it would tell how many there are."""
    notes = []
    monkeypatch.setattr("jettag.training.precompute.LARGEST", 4 * 200 * 8)
    model = make_model(table, phases=FROZEN, attentive=attentive)
    jets = KINDS[kind](table)
    assert embedded(jets, model, CPU, notes.append) is jets
    assert "do not fit" in notes[0]


MODES = {
    "probe": {"phases": FROZEN},
    "attentive": {"phases": FROZEN, "attentive": True},
    "lpft": {"phases": Phases(frozen=0.5, restart=True, first_rate=3.0)},
    "staged": {"phases": Phases(frozen=0.3, ramp=0.4)},
    "lora": {"lora": {"rank": 2}},
}


def start(table, mode, *, quick=True):
    model = make_model(table, backbone_options=DROPS, **MODES[mode])
    tables = [table, make_table(50, seed=9)]
    if quick and model.phases.frozen:
        tables = [embedded(part, model, CPU, lambda _: None) for part in tables]
    loader = Loader(tables[0], batch_size=32, seed=0)
    trainer = Trainer(model, loader, RECIPE, device=CPU, seed=0, settings={"is": mode})
    return trainer, tables[1]


def run(trainer, val, folder, log=lambda _: None):
    folder.mkdir(exist_ok=True)
    train(trainer, val, Limits(12), folder, seed=0, log=log, note=print)


@pytest.mark.parametrize("mode", ["probe", "attentive", "lpft", "staged"])
def test_a_run_that_embeds_once_is_the_run_that_does_not(tmp_path, table, mode):
    pair = []
    for quick in (True, False):
        torch.manual_seed(5)
        trainer, val = start(table, mode, quick=quick)
        run(trainer, val, tmp_path / str(quick))
        pair.append(trainer)
    records = [np.array(losses(tmp_path / str(quick)), dtype=float) for quick in (True, False)]  # NaN for None
    np.testing.assert_allclose(*records, rtol=1e-4)
    # Weights without influence, such as a bias before a BatchNorm, follow Adam's share of the rounding: outputs agree.
    jets = table.batch(np.arange(50))
    a, b = (trainer.model.eval().logits(jets) for trainer in pair)
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stop_at", [2, 6, 8])  # before, at and after the change of phase, records every second step
def test_resumed_equals_uninterrupted_to_the_bit_in_every_mode(tmp_path, table, mode, stop_at):
    torch.manual_seed(5)
    whole, val = start(table, mode)
    run(whole, val, tmp_path / "whole")

    def interrupt(record):
        if record["step"] == stop_at and "loss" in record:
            os.kill(os.getpid(), signal.SIGTERM)

    torch.manual_seed(5)
    first, val = start(table, mode)
    with pytest.raises(Stopped):
        run(first, val, tmp_path / "parts", log=interrupt)
    torch.manual_seed(999)
    second, val = start(table, mode)
    second.restore(load_checkpoint(resolve_checkpoint(tmp_path / "parts", prefer="last")))
    assert second.step == first.step < 12
    run(second, val, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    for part in ("model", "ema.module"):
        a, b = (torch.nn.Module.state_dict(_get(trainer, part)) for trainer in (whole, second))
        for name, value in a.items():
            assert torch.equal(value, b[name]), name


def _get(trainer, path):
    for part in path.split("."):
        trainer = getattr(trainer, part)
    return trainer


def test_patience_waits_for_the_phase_that_matters(table):
    trainer, _ = start(table, "lpft")
    trainer.recipe = RECIPE.model_copy(update={"patience": 2})
    for loss in (1.0, 2.0, 2.0, 2.0):
        trainer.judge(loss)
    assert not trainer.out_of_patience
    trainer.go_to(0.6)
    assert not trainer.out_of_patience  # counts anew
    trainer.judge(2.0)
    trainer.judge(2.0)
    assert trainer.out_of_patience
