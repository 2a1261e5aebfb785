"""A VQ-VAE over the constituents of a jet: each becomes one of K codes, from which the jet is rebuilt.

Both halves are small transformers, so a code may mean different things in different jets (arXiv:2401.13537).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from jettag.data.features import FEATURE_SETS
from jettag.data.jets import Jets, Table
from jettag.data.loader import Loader
from jettag.data.transfer import sent
from jettag.errors import DataError
from jettag.models.precision import doubled, widened
from jettag.objectives.chance import Chance, uniform
from jettag.objectives.codebook import Codebook, usage
from jettag.objectives.objective import Objective
from jettag.objectives.quantities import IDENTITIES, Quantities, has_identity, identity_of

__all__ = ["Tokenizer", "TokenizerTraining"]

FIT_JETS, FIT_BATCHES = 256, 8  # jets whose latents the first codes are k-means centres of
LARGEST_TANH = 0.995  # 3 mm: beyond, tanh(d0) of the feature no longer tells the distance
PT_SCALE = next(
    f.standardise[1] for f in FEATURE_SETS["jetclass_kin"].features if f.name == "part_pt_log" and f.standardise
)
# What an error of a quantity is called, and its unit.
ERRORS = {
    "part_pt_log": "error_log_pt",
    "part_deta": "error_deta_rad",
    "part_dphi": "error_dphi_rad",
    "part_d0": "error_d0_mm",
    "part_d0err": "error_d0err_mm",
    "part_dz": "error_dz_mm",
    "part_dzerr": "error_dzerr_mm",
}


class Tokenizer(nn.Module):
    """Jets -> a code for each constituent, and back.

    Args:
        feature_names: columns of the features.
        codes: K.
        latent: width of a code.
        width: W of the transformers.
        layers: blocks of each half.
        heads: of each block.
        cosine: latents and codes are of length one.
        decay: of the codes' running means.
        impact: impact parameters too, where the features have them.
    """

    def __init__(
        self,
        feature_names: tuple[str, ...],
        *,
        codes: int,
        latent: int,
        width: int,
        layers: int,
        heads: int,
        cosine: bool,
        decay: float,
        impact: bool,
    ) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {
            "codes": codes,
            "latent": latent,
            "width": width,
            "layers": layers,
            "heads": heads,
            "cosine": cosine,
            "decay": decay,
            "impact": impact,
        }
        self.feature_names = tuple(feature_names)
        self.quantities = Quantities(self.feature_names, impact=impact)
        self.names_too = has_identity(feature_names)
        size = len(self.quantities) + (len(IDENTITIES) if self.names_too else 0)
        self.embed = nn.Linear(size, width)
        self.encoder = nn.ModuleList([Block(width, heads, mlp_ratio=2.0, qkv_bias=True) for _ in range(layers)])
        self.to_latent = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, latent))
        self.codebook = Codebook(codes, latent, cosine=cosine, decay=decay)
        self.from_latent = nn.Linear(latent, width)
        self.decoder = nn.ModuleList([Block(width, heads, mlp_ratio=2.0, qkv_bias=True) for _ in range(layers)])
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))

    @property
    def num_codes(self) -> int:
        """K."""
        return len(self.codebook.codes)

    def settings(self) -> dict[str, Any]:
        """Keyword arguments that build this network again, but for the feature names."""
        return dict(self._settings)

    def look(self, jets: Jets) -> tuple[Tensor, Tensor, Tensor | None]:
        """Standardised values (B N, K), what counts of them, and identities (B N,) where they are known."""
        features = jets.features.flatten(0, 1)
        values, counted = self.quantities(features)
        return values, counted, identity_of(features, self.feature_names) if self.names_too else None

    def latents(self, jets: Jets) -> Tensor:
        """(B N, L), before a code is chosen."""
        values, counted, name = self.look(jets)
        x = values * counted
        if name is not None:
            x = torch.cat([x, (name[:, None] == torch.arange(len(IDENTITIES), device=x.device)).to(x.dtype)], dim=1)
        x = self._run(self.encoder, self.embed(x).view(*jets.mask.shape, -1), jets.mask)
        return self.codebook.on_sphere(widened(self.to_latent(x).flatten(0, 1)))

    def rebuild(self, latents: Tensor, mask: Tensor) -> Tensor:
        """(B N, L) -> (B N, K + identities)."""
        x = self._run(self.decoder, self.from_latent(latents).view(*mask.shape, -1), mask)
        return widened(self.head(x).flatten(0, 1))

    @torch.no_grad()
    def tokens(self, jets: Jets) -> Tensor:
        """(B, N) int64; what stands in padded slots has no meaning."""
        return self.codebook.nearest(self.latents(jets)).view(jets.mask.shape)

    @staticmethod
    def _run(blocks: nn.ModuleList, x: Tensor, mask: Tensor) -> Tensor:
        for block in blocks:
            x = block(x, attn_mask=mask[:, None, None, :])
        return x

    def physical_error(self, found: Tensor, values: Tensor) -> Tensor:
        """(P, K) absolute errors in the units that `ERRORS` names; of ln pT, rad and mm."""
        mean, std = self.quantities.mean, self.quantities.std
        a, b = found * std + mean, values * std + mean
        columns = []
        for place, name in enumerate(self.quantities.names):
            x, y = a[:, place], b[:, place]
            if name in ("part_d0", "part_dz"):
                x, y = (v.clamp(-LARGEST_TANH, LARGEST_TANH).atanh() for v in (x, y))
            columns.append((x - y).abs() / (PT_SCALE if name == "part_pt_log" else 1.0))
        return torch.stack(columns, dim=1)


class TokenizerTraining(Objective):
    """Reconstruction: L1 of the standardised quantities, cross entropy of identities, and the commitment to codes.

    Means over what counts of a constituent, over the constituents of a jet, and over jets. In training ``codes_used``
    and ``code_perplexity`` are of the codes' running means, in a validation of its jets. In evaluation the errors in
    physical units stand beside the loss, as means over constituents.

    Args:
        tokenizer: trained.
        commitment: weight of the mean squared distance of latents from their codes.
        identity_weight: weight of the cross entropy.
        fit_constituents: sample that gives mean and width.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, commitment: float, identity_weight: float, fit_constituents: int
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.commitment = commitment
        self.identity_weight = identity_weight
        self.fit_constituents = fit_constituents

    def settings(self) -> dict[str, Any]:
        """There is no backbone here."""
        return {"tokenizer": self.tokenizer.settings()}

    @torch.no_grad()
    def prepare(self, table: Table, *, seed: int) -> None:
        """Fit mean and width, and begin with k-means centres of the latents."""
        self.tokenizer.quantities.fit(table.sample_features(self.fit_constituents, seed))
        batches = Loader(table, batch_size=min(FIT_JETS, len(table)), seed=seed)
        found = []
        for _ in range(min(FIT_BATCHES, batches.batches_per_epoch)):
            jets = next(batches).pad()
            found.append(self.tokenizer.latents(jets)[jets.mask.flatten()].numpy())
        latents, codes = np.concatenate(found), self.tokenizer.num_codes
        if len(latents) < codes:
            raise DataError(f"{len(latents)} constituents cannot fill {codes} codes", do="lower objective.codes")
        from sklearn.cluster import MiniBatchKMeans  # seconds to import

        kmeans = MiniBatchKMeans(codes, batch_size=4096, n_init=1, random_state=seed, max_iter=20).fit(latents)
        self.tokenizer.codebook.begin(torch.from_numpy(kmeans.cluster_centers_.astype(np.float32)))

    def draw(self, jets: Jets, chance: Chance) -> Tensor:
        """(B, N) random numbers, which decide what replaces dead codes."""
        return uniform(jets.mask.shape, chance)

    def forward(
        self, jets: Jets, generator: torch.Generator | None = None, drawn: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch, and what each is a mean over."""
        drawn = self.draw(jets, generator or torch.default_generator) if drawn is None else drawn
        net, book = self.tokenizer, self.tokenizer.codebook
        real = jets.mask.flatten().to(book.codes.dtype)
        latents = net.latents(jets)
        index = book.nearest(latents.detach())
        coded = book.codes[index]
        if self.training:
            book.follow(latents.detach(), index, real, sent(drawn, real.device).flatten())
        found = net.rebuild(latents + (coded - latents).detach(), jets.mask)
        values, counted, name = net.look(jets)
        count = len(net.quantities)
        rebuilt = ((found[:, :count] - values).abs() * counted).sum(1) / counted.sum(1)
        commitment = (latents - coded).square().mean(1)
        losses = {"loss": rebuilt + self.commitment * commitment, "reconstruction": rebuilt, "commitment": commitment}
        if name is not None:
            logits = found[:, count:]
            losses["loss"] = losses["loss"] + self.identity_weight * F.cross_entropy(logits, name, reduction="none")
            losses["identity_accuracy"] = (logits.argmax(1) == name).float()
        share = real.view(jets.mask.shape) / jets.mask.sum(1, keepdim=True).clamp(min=1)
        jet = jets.mask.any(1).sum().to(real.dtype)
        wide = doubled(share)
        means = {key: (value * share.flatten()).sum(dtype=wide) / jet.clamp(min=1) for key, value in losses.items()}
        if self.training:
            means["codes_used"], means["code_perplexity"] = book.usage
        weight = jet.expand(len(means))
        if not self.training:
            of_real = counted * real[:, None]
            error = (net.physical_error(found[:, :count], values) * of_real).sum(0) / of_real.sum(0).clamp(min=1)
            means |= {ERRORS[key]: error[place] for place, key in enumerate(net.quantities.names)}
            weight = torch.cat([weight, of_real.sum(0)])
            means["tally"] = torch.zeros_like(book.share).index_add(0, index, real)
        return {key: value if key == "loss" else value.detach() for key, value in means.items()} | {"weight": weight}

    def conclude(self, tally: Tensor) -> dict[str, float]:
        """``codes_used`` and ``code_perplexity``, of (K,) how many constituents chose each code."""
        used, perplexity = usage(tally)
        return {"codes_used": used.item(), "code_perplexity": perplexity.item()}
