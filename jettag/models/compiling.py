"""The blocks of a network through `torch.compile`: one program for all lengths of jets and all blocks.

Only the blocks are compiled. What is around them (the layout, the pair embedding) deals with lists of groups and asks
for lengths on the host, which would cut a compiled program in pieces; a block is a pure function of tensors, called
for every group and layer. Its sizes are symbols, so that neither a batch of other lengths nor the next layer compiles
anything again; training and evaluation, another precision, and sizes of 1 have programs of their own.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as shapes

from jettag.errors import ResourceError
from jettag.models.attention import Block, ClassBlock

__all__ = ["compile_blocks", "compiles_for_each_thread", "is_first_time", "spare_slots"]

BACKEND = "inductor"
OF_CPU: dict[str, bool | int] = {
    # Programs that call each other in C++ let go of Python's lock: threads take groups through them side by side.
    "cpp_wrapper": True,
    # What several passes read is computed once; else a GELU is computed in each of the three passes of a norm.
    "realize_cpu_opcount_threshold": 6,
    "realize_opusers_threshold": 1,
}
OF_OTHERS: dict[str, bool | int] = {
    # Else one program for few constituents in a batch and one for many.
    "triton.mix_order_reduction_non_strict_mode": True,
}
# Programs for one and the same code, after which PyTorch would give up without a word: gradients or not, two
# precisions, batches of one jet, and what deep networks draw for whole jets.
MOST_PROGRAMS = 32
SPECIAL = 16  # tokens of a jet for which, and for whose multiples, there is a program of its own on an accelerator


def compile_blocks(network: nn.Module) -> None:
    """Let every Particle Transformer block in ``network`` be compiled at its first call; names and state stay.

    That call raises `ResourceError` where this machine cannot compile.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # warns that there is no CUDA, on a CPU too
    options = _known(OF_CPU if next(network.parameters()).device.type == "cpu" else OF_OTHERS)
    for block in network.modules():
        if isinstance(block, (Block, ClassBlock)):
            block.compile(dynamic=True, backend=BACKEND, options=options)
            assert block._compiled_call_impl is not None
            block._compiled_call_impl = _prepared(block._compiled_call_impl)


def _prepared(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same with what it takes to have few programs, and with the failure of a compiler in one line.

    On an accelerator blocks give wide numbers in mixed precision, and get them: the first one, too, or it would be
    another program.
    """

    @functools.wraps(call)
    def compiled(x: Tensor, *others: Tensor) -> Any:
        # Each thread has settings of its own, and setting them again takes longer than looking.
        if torch._dynamo.config.recompile_limit < MOST_PROGRAMS:
            torch._dynamo.config.recompile_limit = MOST_PROGRAMS
        if shapes.use_duck_shape:  # the first batch may have as many jets as the network is wide; the last has not
            shapes.use_duck_shape = False
        if x.device.type != "cpu":
            x = x.to(torch.promote_types(x.dtype, torch.float32))
        try:
            return call(x, *others)
        except torch._dynamo.exc.BackendCompilerFailed as problem:
            cause = problem.inner_exception
            what = next(iter(str(cause).splitlines()), type(cause).__name__)
            do = "install a C++ compiler, such as g++, or do without torch.compile (training.compile=false)"
            raise ResourceError(f"torch.compile failed: {what}", do=do) from problem

    return compiled


def spare_slots(network: nn.Module, tokens: int) -> int:
    """Slots that jets of so many tokens get beside them, where all have as many, lest they have their own program."""
    return int((tokens % SPECIAL == 0 or tokens == 1) and bool(_compiled(network)))


def compiles_for_each_thread(network: nn.Module) -> bool:
    """Whether its blocks are compiled and drop whole jets: the generator that draws those is a constant there."""
    return any(block.drop_path.acts for block in _compiled(network))


def is_first_time(network: nn.Module) -> bool:
    """Whether its blocks are compiled and did not compute in this way before, which takes programs of its own."""
    if not _compiled(network):
        return False
    way = (network.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
    known = vars(network).setdefault("_ways", set())
    is_new = way not in known
    known.add(way)
    return is_new


def _compiled(network: nn.Module) -> list[Block | ClassBlock]:
    """The blocks that are compiled, or will be at their first call."""
    blocks = (module for module in network.modules() if isinstance(module, (Block, ClassBlock)))
    return [block for block in blocks if block._compiled_call_impl is not None]


def _known(options: dict[str, bool | int]) -> dict[str, bool | int] | None:
    """Those that this PyTorch's compiler has, which takes seconds to import; None for another compiler."""
    if BACKEND != "inductor":
        return None
    from torch._inductor import config as inductor

    return {name: value for name, value in options.items() if hasattr(inductor, name)}
