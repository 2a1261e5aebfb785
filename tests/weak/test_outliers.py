"""Outliers: what does not look like the background scores higher, by every method; images ignore how a jet lies."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from jettag.errors import DataError, UsageError
from jettag.weak.autoencoders import AutoencoderSettings, fit_autoencoder, jet_images
from jettag.weak.outliers import OUTLIERS, fit_outliers

SMALL = AutoencoderSettings(latent=2, hidden=(32,), epochs=15, batch_size=128, nae_epochs=2, chain_steps=5)


def sheet(n, seed, away=0.0):
    """Six features that lie on a plane but for a little noise; ``away`` leaves the plane."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 2)) @ np.array([[1, 0, 1, 0.5, 0, 1], [0, 1, 1, -0.5, 1, 0]])
    values += 0.1 * random.normal(size=(n, 6))
    values[:, 0] += away
    return values.astype(np.float32)


@pytest.mark.parametrize("method", OUTLIERS)
def test_what_leaves_the_plane_scores_higher(method):
    score = fit_outliers(method, sheet(2000, 0), settings=SMALL, seed=1)
    background, signal = score(sheet(1000, 1)), score(sheet(1000, 2, away=1.5))
    auc = roc_auc_score(np.repeat([0, 1], 1000), np.concatenate([background, signal]))
    assert auc > (0.6 if method == "isolation" else 0.9)  # a forest cuts along the axes
    again = fit_outliers(method, sheet(2000, 0), settings=SMALL, seed=1)
    assert np.array_equal(again(sheet(100, 3)), score(sheet(100, 3)))


def test_a_linear_bottleneck_finds_what_principal_components_leave():
    """The error of the best plane is the square of what the two first components leave."""
    values = sheet(3000, 4)
    score = fit_autoencoder("autoencoder", values, settings=SMALL, seed=0).score(values)
    scaled = (values - values.mean(0)) / values.std(0)
    _, _, axes = np.linalg.svd(scaled - scaled.mean(0), full_matrices=False)
    left = ((scaled @ axes[2:].T) ** 2).mean(1)
    assert spearmanr(score, left).statistic > 0.7
    assert score.mean() < 3 * left.mean()


def test_the_normalised_energy_is_higher_where_chains_went():
    """Between two clusters a plain autoencoder may rebuild well; the chains find that and raise it."""
    random = np.random.default_rng(5)
    values = (random.normal(size=(2000, 2)) * 0.2 + np.where(random.random((2000, 1)) < 0.5, -2, 2)).astype(np.float32)
    settings = AutoencoderSettings(latent=1, hidden=(32,), epochs=20, batch_size=128, nae_epochs=8, chain_steps=10)
    between = np.column_stack([np.linspace(-0.8, 0.8, 50)] * 2).astype(np.float32)
    ratio = {}
    for kind in ("autoencoder", "nae"):
        found = fit_autoencoder(kind, values, settings=settings, seed=2)
        ratio[kind] = np.median(found.score(between)) / np.median(found.score(values))
    assert ratio["nae"] > ratio["autoencoder"]


def test_an_image_does_not_know_how_the_jet_lies():
    random = np.random.default_rng(6)
    pt, x, y = random.exponential(10, 30), random.normal(0, 0.25, 30), random.normal(0, 0.1, 30)
    turned = []
    for angle, shift, flip in ((0.0, 0.0, 1), (1.1, 0.2, 1), (2.5, -0.3, -1)):
        eta = np.cos(angle) * x - np.sin(angle) * flip * y + shift
        phi = np.sin(angle) * x + np.cos(angle) * flip * y - shift
        turned.append(jet_images(pt, eta, phi, np.array([0, 30]), pixels=8)[0])
    assert np.allclose(turned[0], turned[1], atol=1e-6)
    assert np.allclose(turned[0], turned[2], atol=1e-6)
    assert (turned[0] ** 2).sum() == pytest.approx(1, abs=0.05)  # shares of pT, but for what lies outside
    two = jet_images(np.tile(pt, 2), np.tile(x, 2), np.tile(y, 2), np.array([0, 30, 60]), pixels=8)
    assert np.allclose(two[0], two[1])


def test_bad_input_is_one_line_and_the_shared_generator_stays():
    before = torch.random.get_rng_state()
    fit_autoencoder("vae", sheet(200, 7), settings=SMALL)
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(DataError, match="too few for an autoencoder"):
        fit_autoencoder("vae", sheet(50, 7))
    with pytest.raises(DataError, match="NaN"):
        fit_autoencoder("vae", np.full((200, 3), np.nan))
    with pytest.raises(UsageError, match="nae"):
        fit_autoencoder("nea", sheet(200, 7))
