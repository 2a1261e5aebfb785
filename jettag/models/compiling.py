"""The blocks of a network through `torch.compile`: one program for all lengths of jets and all blocks.

Only the blocks are compiled. What is around them (the layout, the pair embedding) deals with lists of groups and asks
for lengths on the host, which would cut a compiled program in pieces; a block is a pure function of tensors, called
for every group and layer. Its sizes are symbols, so that neither a batch of other lengths nor the next layer compiles
anything again; training and evaluation, another precision, and sizes of 1 have programs of their own.
"""

import torch
from torch import nn

from jettag.models.attention import Block, ClassBlock

__all__ = ["compile_blocks"]

BACKEND = "inductor"
# Programs for one and the same code, after which PyTorch would give up without a word: gradients or not, two
# precisions, batches of one jet, jets of one constituent, and what deep networks draw for whole jets.
MOST_PROGRAMS = 32


def compile_blocks(network: nn.Module) -> None:
    """Let every Particle Transformer block in ``network`` be compiled at its first call; names and state stay."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_PROGRAMS)
    for block in network.modules():
        if isinstance(block, (Block, ClassBlock)):
            block.compile(dynamic=True, backend=BACKEND)
