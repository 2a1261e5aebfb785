"""Energy correlations of a jet's constituents: how many prongs it has, without finding axes.

References:
    Larkoski, Salam, Thaler, arXiv:1305.0007 (e2, e3 and C2); Larkoski, Moult, Neill, arXiv:1409.6298 (D2).
"""

import torch
from torch import Tensor

from jettag.physics.kinematics import delta_phi, phi, pt, rapidity

__all__ = ["energy_correlations"]


def energy_correlations(p4: Tensor, mask: Tensor, *, beta: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two- and three-point correlations, with z = pT / sum pT and Delta the distance in (rapidity, azimuth).

        e2 = sum_{i<j} z_i z_j Delta_ij^beta
        e3 = sum_{i<j<k} z_i z_j z_k (Delta_ij Delta_jk Delta_ik)^beta

    C2 = e3 / e2^2 and D2 = e3 / e2^3. The sum over triples is one matrix product: N^2 numbers of memory.

    Args:
        p4: (B, N, 4) in GeV; padding is anything finite.
        mask: (B, N) bool, True where a constituent is real.
        beta: exponent of the angles.

    Returns:
        e2 and e3, each (B,); exactly zero where a jet has too few constituents.
    """
    real, padding = mask[..., None], (~mask).to(p4.dtype)
    nothing = torch.zeros_like(padding)
    # Padding needs a direction, too; numbers from the host would have to be copied to the device at every step.
    p4 = torch.where(real, p4, torch.stack([padding, nothing, nothing, padding], dim=-1))
    size = pt(p4) * mask
    share = size / size.sum(1, keepdim=True).clamp(min=torch.finfo(size.dtype).tiny)
    y, angle = rapidity(p4), phi(p4)
    apart = torch.hypot(y[:, :, None] - y[:, None], delta_phi(angle[:, :, None], angle[:, None]))
    if beta != 1.0:
        apart = apart.pow(beta)
    weighed = share[:, None, :] * apart  # (B, i, k): z_k Delta_ik
    two = torch.einsum("bi,bij->b", share, weighed) / 2
    three = torch.einsum("bi,bij,bij->b", share, weighed, weighed @ apart) / 6
    return two, three
