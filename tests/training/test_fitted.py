"""A linear head starts where no step of an optimizer would improve its regularised cross entropy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jettag.objectives.phases import FROZEN
from jettag.training.fitted import fit_head

from ..conftest import make_table
from ..objectives.test_classification import make_model


def clusters(jets, classes, seed=0, scale=1.0, dim=8):
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, jets)
    x = random.normal(size=(jets, dim)) * np.linspace(1, 30, dim) + 5
    x[np.arange(jets), label] += 2 * scale * np.linspace(1, 30, dim)[label]
    return x.astype(np.float32), label


def model_of(classes, dim=8, **options):
    table = make_table(20)
    model = make_model(table, phases=FROZEN, **options)
    model.head = type(model.head)(dim, classes)
    model.class_weight = torch.ones(classes)
    return model.double()


@pytest.mark.parametrize("classes", [2, 4])
def test_no_small_change_lowers_the_loss(classes):
    """The gradient of the cross entropy is what the prior gives back, small against that of random weights."""
    x, label = clusters(4000, classes)
    model = model_of(classes)
    rows, truth = torch.from_numpy(x).double(), torch.from_numpy(label)

    def slope():
        model.zero_grad()
        F.cross_entropy(model.head(rows), truth).backward()
        layer = model.head.layers[-1]
        return (layer.weight.grad * rows.std(0)).abs().max().item(), F.cross_entropy(model.head(rows), truth).item()

    before, loss_before = slope()
    notes = []
    fit_head(model, x, label, notes.append)
    after, loss = slope()
    assert loss < 0.7 * loss_before
    assert after < 0.01 * before
    assert "logistic regression of 4000 embeddings" in notes[0]


def test_units_do_not_matter_and_classes_weigh_as_in_the_loss():
    x, label = clusters(2000, 2)
    models = [model_of(2) for _ in range(3)]
    fit_head(models[0], x, label, print)
    fit_head(models[1], 100 * x + 7, label, print)
    models[2].class_weight = torch.tensor([1.0, 9.0])
    fit_head(models[2], x, label, print)
    rows = torch.from_numpy(x).double()
    first, second, third = (
        torch.softmax(m.head(y), 1).detach() for m, y in zip(models, (rows, 100 * rows + 7, rows), strict=True)
    )
    torch.testing.assert_close(first, second, atol=2e-3, rtol=0)
    assert first[:, 1].mean() == pytest.approx(label.mean(), abs=0.01)
    odds = 9 * label.mean() / (9 * label.mean() + 1 - label.mean())
    assert third[:, 1].mean() > (first[:, 1].mean() + odds) / 2 - 0.1


def test_labels_without_a_lesson_are_hardly_believed():
    """A hundred labels that tell nothing: cross-validation keeps the weights small."""
    x, _ = clusters(100, 2)
    label = np.random.default_rng(3).integers(0, 2, 100)
    model = model_of(2)
    fit_head(model, x, label, print)
    assert (torch.softmax(model.head(torch.from_numpy(x).double()), 1)[:, 1] - label.mean()).abs().max() < 0.1


def test_a_class_without_jets_is_not_expected_and_one_class_alone_changes_nothing():
    x, label = clusters(500, 2)
    model = model_of(3)
    fit_head(model, x, 2 * label, print)
    assert torch.softmax(model.head(torch.from_numpy(x).double()), 1)[:, 1].max() < 0.1
    before = model.head.layers[-1].weight.clone()
    fit_head(model, x, np.zeros(500, dtype=np.int64), print)
    assert torch.equal(model.head.layers[-1].weight, before)
