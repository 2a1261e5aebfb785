"""Negatives are those of all processes: the loss and its gradients are those of one process with the whole batch."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.functional import normalize

from jettag.objectives.contrastive import nt_xent

SHARES = (3, 4)  # jets of each process


def views():
    return normalize(torch.randn(2, sum(SHARES), 5, generator=torch.Generator().manual_seed(0)), dim=2)


def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    begin = sum(SHARES[:rank])
    own = views()[:, begin : begin + SHARES[rank]].clone().requires_grad_()
    loss = nt_xent(own[0], own[1], 0.2, everyone=True)
    (loss * SHARES[rank]).backward()
    torch.save({"loss": loss.detach(), "gradient": own.grad}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path):
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    z = views().requires_grad_()
    whole = nt_xent(z[0], z[1], 0.2)
    whole.backward()
    mean = sum(part["loss"] * share for part, share in zip(found, SHARES, strict=True)) / sum(SHARES)
    torch.testing.assert_close(mean, whole.detach())
    gradient = torch.cat([part["gradient"] for part in found], dim=1) / sum(SHARES)
    torch.testing.assert_close(gradient, z.grad)
