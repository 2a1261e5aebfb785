"""Are probabilities what they say? Calibration error, temperature, last-layer Laplace, and weights between samples.

Temperature scaling and the expected calibration error are those of arXiv:1706.04599; the Laplace approximation of the
last layer is that of arXiv:2106.14806, in closed form.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from jettag.errors import DataError
from jettag.weak.checks import FloatArray, check_weights

__all__ = [
    "Reliability",
    "calibration_error",
    "effective_sample_size",
    "fit_laplace",
    "fit_temperature",
    "negative_log_likelihood",
    "reliability",
]

BINS = 15
WIDEST = 4.0  # |log temperature|
FEWEST = 20  # jets
PRECISIONS = np.geomspace(1e-3, 1e4, 22)  # of the prior, tried on validation jets


@dataclass(frozen=True)
class Reliability:
    """What was said and what came, in bins of equal population of the highest probability.

    Attributes:
        confidence: (b,) mean highest probability.
        accuracy: (b,) share that is right.
        count: (b,) jets.
    """

    confidence: FloatArray
    accuracy: FloatArray
    count: npt.NDArray[np.int64]


def reliability(probabilities: npt.NDArray, label: npt.NDArray, *, bins: int = BINS) -> Reliability:
    """Bin the jets by their highest probability.

    Args:
        probabilities: (n, C).
        label: (n,).
        bins: at most.

    Raises:
        DataError: too few jets.
    """
    if len(label) < FEWEST:
        raise DataError(f"{len(label)} jets are too few to calibrate, at least {FEWEST}", do="give more jets")
    highest = probabilities.max(1)
    right = probabilities.argmax(1) == label
    parts = np.array_split(np.argsort(highest, kind="stable"), min(bins, len(label)))
    return Reliability(
        confidence=np.array([highest[rows].mean() for rows in parts]),
        accuracy=np.array([right[rows].mean() for rows in parts]),
        count=np.array([len(rows) for rows in parts]),
    )


def calibration_error(probabilities: npt.NDArray, label: npt.NDArray, *, bins: int = BINS) -> float:
    """Expected calibration error: mean over jets of |confidence - accuracy| of their bin, of equal population.

    It is not zero for a perfect tagger: n jets in a bin have an accuracy that fluctuates by 0.5 / sqrt(n) at most.
    """
    found = reliability(probabilities, label, bins=bins)
    return float(np.average(np.abs(found.confidence - found.accuracy), weights=found.count))


def negative_log_likelihood(probabilities: npt.NDArray, label: npt.NDArray) -> float:
    """Mean over jets of -log of the probability of their class, in nats."""
    own = probabilities[np.arange(len(label)), label]
    return float(-np.mean(np.log(np.maximum(own, 1e-300))))


def fit_temperature(logits: npt.NDArray, label: npt.NDArray) -> float:
    """The temperature T by which logits are divided so that the likelihood of these jets is highest.

    Args:
        logits: (n, C) of jets that trained nothing; logarithms of probabilities do.
        label: (n,).

    Raises:
        DataError: too few jets, or of one class alone.
    """
    if len(label) < FEWEST:
        raise DataError(f"{len(label)} jets are too few to calibrate, at least {FEWEST}", do="give more jets")
    if len(np.unique(label)) < 2:
        raise DataError("jets of one class cannot calibrate", do="give files of all classes")

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(label)), label].mean())

    found = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))


@dataclass(frozen=True)
class _Laplace:
    """Logits of a last layer and their covariance."""

    covariance: FloatArray  # (P, P) of the weights, class by class
    num_classes: int

    def __call__(self, embedding: npt.NDArray, logits: npt.NDArray) -> FloatArray:
        """(n, C) probabilities, by the probit approximation."""
        inputs = _with_one(embedding)
        width = inputs.shape[1]
        variance = np.empty_like(logits, dtype=np.float64)
        for k in range(self.num_classes):
            block = self.covariance[k * width : (k + 1) * width, k * width : (k + 1) * width]
            variance[:, k] = np.einsum("ni,ij,nj->n", inputs, block, inputs)
        result: FloatArray = softmax(logits / np.sqrt(1 + np.pi / 8 * np.maximum(variance, 0)), axis=1)
        return result


def fit_laplace(embedding: npt.NDArray, logits: npt.NDArray, label: npt.NDArray, *, n_train: int) -> _Laplace:
    """A Gaussian about the weights of the last layer; its prior's precision is chosen by the likelihood of these jets.

    The Hessian of the cross entropy is taken from jets that are like those of the training, as if there were
    ``n_train`` of them; half of the jets give it and the other half choose the precision.

    Args:
        embedding: (n, D) what the last layer sees.
        logits: (n, C) what it says.
        label: (n,).
        n_train: jets of the training.

    Returns:
        (embeddings, logits) -> (n, C) probabilities.

    Raises:
        DataError: too few jets.
    """
    if len(label) < 2 * FEWEST:
        raise DataError(f"{len(label)} jets are too few for a Laplace approximation", do="give more jets")
    half = np.arange(len(label)) % 2 == 0
    inputs, p = _with_one(embedding[half]), softmax(logits[half].astype(np.float64), axis=1)
    classes, width = logits.shape[1], inputs.shape[1]
    hessian = np.zeros((classes * width, classes * width))
    for k in range(classes):
        for j in range(classes):
            each = p[:, k] * ((k == j) - p[:, j])
            block = (inputs * each[:, None]).T @ inputs
            hessian[k * width : (k + 1) * width, j * width : (j + 1) * width] = block
    hessian *= n_train / len(inputs)
    values, vectors = np.linalg.eigh(hessian)
    best: tuple[float, _Laplace] | None = None
    for precision in PRECISIONS:
        made = _Laplace((vectors / (np.maximum(values, 0) + precision)) @ vectors.T, classes)
        loss = negative_log_likelihood(made(embedding[~half], logits[~half]), label[~half])
        if best is None or loss < best[0]:
            best = loss, made
    assert best is not None  # there are precisions
    return best[1]


def _with_one(embedding: npt.NDArray) -> FloatArray:
    return np.column_stack([embedding, np.ones(len(embedding))]).astype(np.float64)


def effective_sample_size(weights: npt.ArrayLike) -> float:
    """(sum w)^2 / sum w^2: so many events without weights would fluctuate as much.

    Raises:
        DataError: a weight is negative or not finite, or all are zero.
    """
    numbers = check_weights(weights)
    return float(numbers.sum() ** 2 / np.square(numbers).sum())
