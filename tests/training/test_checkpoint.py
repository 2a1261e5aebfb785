"""Checkpoints: whole or absent, and damage is seen."""

import pytest
import torch

from jettag.errors import CheckpointError, ResourceError
from jettag.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_last_good,
    load_model_state,
    pack_optimizer,
    resolve_checkpoint,
    save_checkpoint,
    unpack_optimizer,
)


def checkpoint(step, value=0.0):
    return Checkpoint(
        step=step,
        model={"w": torch.full((3,), value)},
        optimizer={"rng": torch.arange(4)},
        state={"settings": {}, "a": [1, None]},
    )


def test_what_is_saved_is_what_is_loaded(tmp_path):
    folder = save_checkpoint(tmp_path, checkpoint(7, 1.5), keep=2, is_best=True)
    loaded = load_checkpoint(folder)
    assert (loaded.step, loaded.state) == (7, {"settings": {}, "a": [1, None]})
    assert torch.equal(loaded.model["w"], torch.full((3,), 1.5))
    assert torch.equal(loaded.optimizer["rng"], torch.arange(4))
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "optimizer.safetensors", "state.json"}
    assert len({p.stat().st_mode for p in folder.iterdir()}) == 1, "whoever may read one may read all"


def test_old_ones_go_but_never_the_best_or_the_last(tmp_path):
    for step in range(1, 7):
        save_checkpoint(tmp_path, checkpoint(step), keep=2, is_best=step == 2)
    assert {p.name for p in (tmp_path / "checkpoints").glob("step-*")} == {
        "step-00000002",
        "step-00000005",
        "step-00000006",
    }
    assert resolve_checkpoint(tmp_path).name == "step-00000002"
    assert resolve_checkpoint(tmp_path, prefer="last").name == "step-00000006"
    folder = tmp_path / "checkpoints"
    assert resolve_checkpoint(folder / "best") == folder / "step-00000002"
    assert resolve_checkpoint(folder / "last") == folder / "step-00000006"
    assert resolve_checkpoint(folder / "step-00000002" / "model.safetensors") == folder / "step-00000002"


@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_damage_is_seen(tmp_path, part):
    folder = save_checkpoint(tmp_path, checkpoint(1), keep=1, is_best=False)
    content = bytearray((folder / part).read_bytes())
    content[len(content) // 2] ^= 0x40
    (folder / part).write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)
    (folder / part).unlink()
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)


def test_a_damaged_last_one_gives_way_to_the_newest_whole_one_with_one_warning(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step, float(step)), keep=3, is_best=False)
    folder = tmp_path / "checkpoints"
    said = []
    assert load_last_good(tmp_path, said.append).step == 3
    assert not said
    (folder / "step-00000003" / "model.safetensors").write_bytes(b"")
    assert load_last_good(tmp_path, said.append).step == 2
    assert len(said) == 1
    assert "step-00000003" in said[0]
    assert "step-00000002" in said[0]
    (folder / "last").write_text("step-00000009\n")  # names one that is not there
    assert load_last_good(tmp_path, said.append).step == 2
    for path in folder.glob("step-*/state.json"):
        path.write_text("{")
    with pytest.raises(CheckpointError, match="step-00000009"):
        load_last_good(tmp_path, said.append)
    with pytest.raises(CheckpointError, match="no checkpoint found"):
        load_last_good(tmp_path / "nowhere", said.append)


def test_pruning_counts_from_the_newest_and_leaves_no_torn_folder(tmp_path):
    """A run that went back to step 2 must not lose its new checkpoints to the damaged one of step 9."""
    save_checkpoint(tmp_path, checkpoint(9), keep=2, is_best=False)
    (tmp_path / "checkpoints" / ".step-00000007.tmp").mkdir()
    for step in (3, 4, 5):
        save_checkpoint(tmp_path, checkpoint(step), keep=2, is_best=False)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"last", "step-00000004", "step-00000005", "step-00000009"}


def test_the_average_is_preferred_to_the_plain_weights(tmp_path):
    both = checkpoint(1, 1.0)
    both.ema = {"w": torch.full((3,), 2.0)}
    save_checkpoint(tmp_path, both, keep=1, is_best=True)
    assert load_model_state(tmp_path)[0]["w"][0] == 2.0


def test_a_folder_without_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint found"):
        resolve_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such run"):
        resolve_checkpoint(tmp_path / "nowhere")


def test_a_disk_that_refuses_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, checkpoint(1), keep=1, is_best=True)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jettag.training.checkpoint.save_file", full)
    with pytest.raises(ResourceError, match="No space left"):
        save_checkpoint(tmp_path, checkpoint(2), keep=1, is_best=True)
    assert load_checkpoint(resolve_checkpoint(tmp_path)).step == 1
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_optimizer_state_survives(table):
    weights = [torch.nn.Parameter(torch.randn(4)) for _ in range(2)]
    optimizer = torch.optim.Adam(weights, lr=0.1)
    for _ in range(3):
        sum((w**2).sum() for w in weights).backward()
        optimizer.step()
        optimizer.zero_grad()
    tensors, rest = pack_optimizer(optimizer)
    copies = [torch.nn.Parameter(w.detach().clone()) for w in weights]
    other = torch.optim.Adam(copies, lr=0.7)
    unpack_optimizer(other, {name: value.clone() for name, value in tensors.items()}, rest)
    for some, opt in ((weights, optimizer), (copies, other)):
        sum((w**2).sum() for w in some).backward()
        opt.step()
    assert all(torch.equal(a, b) for a, b in zip(weights, copies, strict=True))
