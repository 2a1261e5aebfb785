"""What a representation has learnt: a logistic regression on frozen jet embeddings, while the backbone trains."""

import numpy as np
import numpy.typing as npt
import torch

from jettag.data.jets import Table
from jettag.data.once import once
from jettag.models.particle_transformer import ParticleTransformer

__all__ = ["Probe"]

BATCH_SIZE = 512  # jets
MOST_ITERATIONS = 200


class Probe:
    """Judge a backbone by what a linear classifier reads off its embeddings; half of the jets fit, half judge.

    The backbone is asked in evaluation mode without gradients, and nothing random is drawn: a training with a probe
    takes the same steps as one without.

    Args:
        table: labelled jets.
        seed: of the division.
    """

    def __init__(self, table: Table, seed: int) -> None:
        if table.label is None:
            msg = "a probe needs labelled jets"
            raise ValueError(msg)
        self.table = table
        self.label: npt.NDArray[np.int64] = table.label
        order = np.random.default_rng(seed).permutation(len(table))
        self.fitting, self.judging = np.array_split(order, 2)

    @torch.no_grad()
    def __call__(self, backbone: ParticleTransformer, device: torch.device) -> dict[str, float]:
        """``probe_accuracy`` and ``probe_auc`` (one against one, averaged over pairs of classes)."""
        from sklearn.linear_model import LogisticRegression  # seconds to import
        from sklearn.metrics import roc_auc_score
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        was_training = backbone.training
        backbone.eval()
        found: npt.NDArray[np.float32] = np.empty((len(self.table), backbone.summary_dim), dtype=np.float32)
        for index, jets in once(self.table, BATCH_SIZE, device):
            found[index] = backbone(jets).summary.float().cpu().numpy()
        backbone.train(was_training)
        if not np.isfinite(found).all():
            return {"probe_accuracy": float("nan"), "probe_auc": float("nan")}
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_ITERATIONS))
        model.fit(found[self.fitting], self.label[self.fitting])
        probability = model.predict_proba(found[self.judging])
        truth = self.label[self.judging]
        auc = roc_auc_score(truth, probability[:, 1] if probability.shape[1] == 2 else probability, multi_class="ovo")
        return {"probe_accuracy": float((probability.argmax(1) == truth).mean()), "probe_auc": float(auc)}
