"""The discrete middle of a VQ-VAE: nearest codes, moved towards what they stand for.

van den Oord et al., arXiv:1711.00937: codes are running means of the latents that chose them (its appendix A.1), the
gradient passes straight through. Codes that nothing chooses are replaced by latents of the batch (arXiv:2003.01460).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jettag.models.precision import unrounded
from jettag.models.synchronise import gathered, summed

__all__ = ["Codebook", "usage"]

DEAD = 0.03  # of a code's fair share: below, it is replaced
USED = 0.1  # of a code's fair share: above, it counts as used


def usage(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the codes in use, and perplexity exp(-sum p ln p), of (K,) how often, or how likely, each is chosen."""
    p = chosen / chosen.sum()
    used = (p > USED / len(p)).float().mean()
    return used, cast("Tensor", torch.special.entr(p).sum().exp())


class Codebook(nn.Module):
    """K codes of width L; all of it is buffers.

    Args:
        num_codes: K.
        latent: L.
        cosine: latents and codes are of length one.
        decay: of the running means, a step.
    """

    codes: Tensor
    share: Tensor
    total: Tensor

    def __init__(self, num_codes: int, latent: int, *, cosine: bool, decay: float) -> None:
        super().__init__()
        self.cosine = cosine
        self.decay = decay
        self.register_buffer("codes", torch.zeros(num_codes, latent))
        self.register_buffer("share", torch.full((num_codes,), 1 / num_codes))  # of constituents that choose it
        self.register_buffer("total", torch.zeros(num_codes, latent))  # their summed latents, over all constituents

    def begin(self, codes: Tensor) -> None:
        """Start from these (K, L)."""
        self.codes.copy_(self.on_sphere(codes))
        self.share.fill_(1 / len(codes))
        self.total.copy_(self.codes / len(codes))

    def on_sphere(self, x: Tensor) -> Tensor:
        """(..., L), of length one where the codebook is a cosine one."""
        return F.normalize(x, dim=-1) if self.cosine else x

    @torch.no_grad()
    def nearest(self, latents: Tensor) -> Tensor:
        """(P, L) -> (P,) int64."""
        with unrounded(latents):
            return (self.codes.square().sum(1) - 2 * latents.to(self.codes.dtype) @ self.codes.T).argmin(1)

    @torch.no_grad()
    def follow(self, latents: Tensor, chosen: Tensor, real: Tensor, uniform: Tensor) -> None:
        """Move the codes towards the latents that chose them, over all processes.

        Args:
            latents: (P, L).
            chosen: (P,) from `nearest`.
            real: (P,) 1 for constituents, 0 for padding.
            uniform: (P,) random numbers that decide which latents replace dead codes.
        """
        count = torch.zeros_like(self.share).index_add(0, chosen, real)
        sums = torch.zeros_like(self.total).index_add(0, chosen, latents * real[:, None])
        count, sums, number = summed(count, sums, real.sum())
        candidates = self._candidates(latents, real, uniform, number)
        self.share.lerp_(count / number.clamp(min=1), 1 - self.decay)
        self.total.lerp_(sums / number.clamp(min=1), 1 - self.decay)
        fair = 1 / len(self.share)
        dead = ((self.share < DEAD * fair) & (number > 0))[:, None]
        codes = self.on_sphere(self.total / self.share.clamp(min=1e-3 * DEAD * fair)[:, None])
        self.codes.copy_(torch.where(dead, candidates, codes))
        self.share.copy_(torch.where(dead[:, 0], torch.full_like(self.share, fair), self.share))
        self.total.copy_(torch.where(dead, candidates * fair, self.total))

    def _candidates(self, latents: Tensor, real: Tensor, uniform: Tensor, number: Tensor) -> Tensor:
        """(K, L) latents of real constituents in random order, of the ``number`` that all processes have."""
        most = len(self.codes)
        key = torch.where(real > 0, uniform, 2.0)
        first = key.argsort()[:most]
        keyed, _ = gathered(torch.cat([key[first, None], latents[first]], dim=1))
        keyed = keyed[keyed[:, 0].argsort()[:most]]
        place = torch.arange(most, device=latents.device) % number.long().clamp(min=1)
        return keyed[place, 1:]

    @property
    def usage(self) -> tuple[Tensor, Tensor]:
        """`usage` over the latest batches of the training."""
        return usage(self.share)
