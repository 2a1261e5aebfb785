"""How much memory a training will take, measured on a copy of the model and a few of the longest jets."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from jettag.config.recipe import TrainingRecipe
from jettag.data.jets import Jets
from jettag.models.threads import one_thread
from jettag.objectives import Objective
from jettag.training.checkpoint import pack_optimizer
from jettag.training.optim import build_optimizer

__all__ = ["Memory", "estimate"]

LOOKAHEAD = 6  # steps after which the last optimizer, Ranger, has all that it keeps


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        parameters: with the buffers.
        gradients: of what is trained.
        optimizer: its state after some steps.
        average: the moving average of the weights.
        jet: what the backward pass needs of one of the longest jets.
    """

    parameters: int
    gradients: int
    optimizer: int
    average: int
    jet: int

    def total(self, jets: int) -> int:
        """With ``jets`` of the longest in a piece of a batch."""
        return self.parameters + self.gradients + self.optimizer + self.average + self.jet * jets

    def words(self, jets: int) -> str:
        """One line for the person."""
        parts = ("parameters", "gradients", "optimizer", "average")
        fixed = ", ".join(f"{name} {size(getattr(self, name))}" for name in parts)
        return (
            f"memory: about {size(self.total(jets))} in a step ({fixed}, activations {size(self.jet)} a jet"
            f" x {jets} jets), besides torch and the data"
        )


def size(count: float) -> str:
    """Bytes in a unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def estimate(model: Objective, recipe: TrainingRecipe, jets: Jets) -> Memory:
    """Train a copy of ``model`` with ``jets``, and count what it keeps; the random state is left as it was.

    Activations are the tensors that autograd saves, each storage once, on the device and in the precision of the
    parameters: half precision and an accelerator's fused attention keep less, what is padded there keeps more. On a
    CPU every thread has a gradient of every parameter for a moment, which is not counted.
    """
    with torch.random.fork_rng(devices=[]):
        twin = copy.deepcopy(model).train()
        twin.enter(1.0)  # the last phase trains the most
        optimizer = build_optimizer(twin, recipe)
        own = {value.untyped_storage().data_ptr() for value in (*twin.parameters(), *twin.buffers())}
        saved: dict[int, int] = {}
        held = []  # keeps a storage from being freed and its address from being counted for another

        def note(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in own:
                saved[storage.data_ptr()] = storage.nbytes()
                held.append(x)
            return x

        # Autograd tells nobody what other threads save.
        with one_thread(), torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = twin(jets, drawn=twin.draw(jets, torch.Generator().manual_seed(0)))["loss"]
        loss.backward()
        for _ in range(LOOKAHEAD):
            optimizer.step()
        state, _ = pack_optimizer(optimizer)
    parameters = sum(v.nbytes for v in (*model.parameters(), *model.buffers()))
    return Memory(
        parameters=parameters,
        gradients=sum(p.grad.nbytes for p in twin.parameters() if p.grad is not None),
        optimizer=sum(v.nbytes for v in state.values()),
        average=parameters if recipe.ema_decay else 0,
        jet=sum(saved.values()) // len(jets),
    )
