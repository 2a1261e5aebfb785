import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from jettag.config.objectives import AugmentationRecipe, ContrastiveRecipe
from jettag.data.features import FEATURE_SETS
from jettag.data.jets import JetTable
from jettag.models import build_backbone
from jettag.objectives.contrastive import (
    COLLAPSED,
    Contrastive,
    alignment,
    condition,
    nt_xent,
    rank,
    spread,
    uniformity,
)
from jettag.objectives.views import Views
from jettag.physics.kinematics import eta, phi, pt

from .test_masked import TINY

NONE = {"boost": None, "rotation": False, "translation": None, "smearing": None, "splitting": 0}


def true_batch(features="jetclass_full", jets=12, side=-1, seed=0):
    """A batch whose features are what `jettag.data.features` computes for jets at eta = side, phi = 3."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, jets)
    size = counts.sum()
    owner = np.repeat(np.arange(jets), counts)
    deta, dphi = rng.normal(0, 0.2, (2, size))
    transverse = rng.exponential(30, size) + 1
    y, azimuth = side * (1.0 + deta), 3.0 + dphi
    energy = np.sqrt((transverse * np.cosh(y)) ** 2 + 0.14**2)
    p4 = np.stack([transverse * np.cos(azimuth), transverse * np.sin(azimuth), transverse * np.sinh(y), energy], 1)
    columns = {"pt": transverse, "pz": p4[:, 2], "energy": energy, "deta": deta, "dphi": dphi}
    columns["jet_pt"] = np.bincount(owner, transverse)[owner]
    columns["jet_energy"] = np.bincount(owner, energy)[owner]
    chosen = FEATURE_SETS[features]
    for name in chosen.fields:
        columns.setdefault(name, rng.normal(size=size))
    table = JetTable(
        features=chosen(columns),
        p4=p4.astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        feature_names=chosen.names,
    )
    return table.batch(np.arange(jets)), chosen


def two_views(recipe, batch, chosen, slots=16, seed=0):
    views = Views(AugmentationRecipe(**recipe), chosen.names, slots)
    return views(batch, views.draw(batch, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("features", list(FEATURE_SETS))
@pytest.mark.parametrize("side", [-1, 1])
def test_without_augmentations_a_view_is_the_jet(features, side):
    batch, chosen = true_batch(features, side=side)
    for view in two_views(NONE, batch, chosen):
        torch.testing.assert_close(view.features, batch.features, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(view.p4, batch.p4, atol=1e-4, rtol=1e-5)
        assert torch.equal(view.mask, batch.mask)


@pytest.mark.parametrize("side", [-1, 1])
def test_features_of_a_view_are_those_of_its_momenta(side):
    batch, chosen = true_batch(side=side)
    names = list(chosen.names)
    jet_pt = pt(batch.p4).sum(1, keepdim=True)
    for view in two_views({"boost": None}, batch, chosen):
        axis = 1.0
        deta, dphi = side * eta(view.p4) - axis, torch.remainder(phi(view.p4) - 3.0 + math.pi, 2 * math.pi) - math.pi
        real = view.mask
        for name, expected in {
            "part_deta": deta,
            "part_dphi": dphi,
            "part_pt_log": (pt(view.p4).log() - 1.7) * 0.7,
            "part_logptrel": ((pt(view.p4) / jet_pt).log() + 4.7) * 0.7,
            "part_deltaR": (torch.hypot(deta, dphi) - 0.2) * 4,
        }.items():
            found = view.features[..., names.index(name)][real]
            torch.testing.assert_close(found, expected[real].clamp(-5, 5), atol=3e-3, rtol=1e-3)
        assert (view.features[~real] == 0).all()
        assert (view.p4[~real] == 0).all()


def test_a_boost_changes_energies_and_nothing_else_of_the_picture():
    batch, chosen = true_batch()
    names = list(chosen.names)
    for view in two_views(NONE | {"boost": 2.0}, batch, chosen):
        same = [i for i, name in enumerate(names) if name not in ("part_e_log", "part_logerel")]
        torch.testing.assert_close(view.features[..., same], batch.features[..., same], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(view.p4[..., 3], batch.p4[..., 3])
        # The share of the jet's energy is that of the boosted jet: the sum of its constituents, as in the batch.
        energy = view.p4[..., 3]
        expected = ((energy / energy.sum(1, keepdim=True)).log() + 4.7) * 0.7
        found = view.features[..., names.index("part_logerel")]
        torch.testing.assert_close(found[view.mask], expected[view.mask].clamp(-5, 5), atol=0.1, rtol=0.02)


def test_both_views_keep_the_jet_s_transverse_momentum_and_only_the_second_splits():
    batch, chosen = true_batch()
    first, second = two_views({}, batch, chosen, slots=8)
    for view in (first, second):
        torch.testing.assert_close(pt(view.p4).sum(1), pt(batch.p4).sum(1))
    assert torch.equal(first.mask, batch.mask)
    assert (second.mask.sum(1) == 8).sum() > (first.mask.sum(1) == 8).sum()


def published_views(pictures, angles, shifts, splits, normal, slots):
    """The loop of run_jetclr.py on one jet of (pT, eta, phi) rows, real constituents only, from given numbers.

    x_i is rotated; x_j is a rotated copy of it, split twice, smeared; both are translated by shifts of their own.
    """

    def rotate(x, angle):
        c, s = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
        return [(p, c * e - s * f, s * e + c * f) for p, e, f in x]

    def translate(x, u, v):
        e, f = ([row[k] for row in x] for k in (1, 2))
        u, v = (2 * u - 1) * (max(e) - min(e)), (2 * v - 1) * (max(f) - min(f))
        return [(p, a + u, b + v) for p, a, b in x]

    first = rotate(pictures, angles[0])
    second = rotate(first, angles[1])
    for order, share in splits:
        parents = np.argsort(order[: len(second)], kind="stable")[: slots - len(second)]
        children = [((1 - share[i]) * second[i][0], *second[i][1:]) for i in parents]
        second = [(share[i] * p if i in parents else p, e, f) for i, (p, e, f) in enumerate(second)] + children
    second = [
        (p, e + 0.1 / max(p, 0.1) * normal[i][0], f + 0.1 / max(p, 0.1) * normal[i][1])
        for i, (p, e, f) in enumerate(second)
    ]
    return translate(first, *shifts[:2]), translate(second, *shifts[2:])


@pytest.mark.parametrize("slots", [8, 12, 40])
def test_views_are_those_of_the_published_code(slots):
    """Order, scales and both views, with the numbers that were drawn; jets of few and of many constituents."""
    batch, chosen = true_batch(side=1)
    names = list(chosen.names)
    views = Views(AugmentationRecipe(boost=None), chosen.names, slots)
    drawn = views.draw(batch, torch.Generator().manual_seed(3))
    found = views(batch, drawn)
    deta, dphi = (batch.features[..., names.index(f"part_{key}")] for key in ("deta", "dphi"))
    for jet, row in enumerate(drawn.double().numpy()):
        real = batch.mask[jet]
        picture = torch.stack([pt(batch.p4[jet]), deta[jet], dphi[jet]], 1)[real].double().tolist()
        rest, splits, width = row[8:], [], batch.mask.shape[1]
        for _ in range(2):
            splits.append((rest[:width], rest[width : 2 * width]))
            rest, width = rest[2 * width :], max(min(2 * width, slots), width)
        expected = published_views(picture, row[:2], row[2:6], splits, rest.reshape(-1, 2), slots)
        for view, rows in zip(found, expected, strict=True):
            seen = torch.stack(
                [pt(view.p4[jet]), *(view.features[jet, :, names.index(f"part_{k}")] for k in ("deta", "dphi"))], 1
            )
            torch.testing.assert_close(seen[view.mask[jet]], torch.tensor(rows).float(), atol=1e-4, rtol=1e-3)


def picture_mass2(view, names):
    """(B,) sum_ij pT_i pT_j ((deta_i - deta_j)^2 + (dphi_i - dphi_j)^2), from the view's own momenta and features."""
    transverse = (pt(view.p4) * view.mask).double()
    total = torch.zeros(len(view.mask), dtype=torch.float64)
    for name in ("part_deta", "part_dphi"):
        x = view.features[..., names.index(name)].double()
        total += (transverse[:, :, None] * transverse[:, None] * (x[:, :, None] - x[:, None]) ** 2).sum((1, 2))
    return total


def test_a_view_keeps_the_mass_of_the_picture_but_for_soft_smearing():
    """Turned, moved, split in the same direction, boosted: the jet of the picture weighs what it weighed."""
    batch, chosen = true_batch(jets=40)
    names = list(chosen.names)
    before = picture_mass2(batch, names)
    for view in two_views({"smearing": None, "splitting": 3}, batch, chosen, slots=40):
        assert not torch.allclose(view.features[:, :1], batch.features[:, :1])
        torch.testing.assert_close(picture_mass2(view, names), before, rtol=1e-4, atol=1e-3)
    # The harder the jet, the less smearing moves it: a width of 0.1 GeV / pT for each constituent.
    shifts = []
    for scale in (1.0, 10.0, 100.0):
        harder = replace(batch, p4=batch.p4 * scale)
        _, view = two_views(NONE | {"smearing": 0.1}, harder, chosen)
        shifts.append((view.features - batch.features)[..., names.index("part_deta")].abs().max())
    assert shifts[0] / shifts[1] == pytest.approx(10, rel=1e-2)
    assert shifts[1] / shifts[2] == pytest.approx(10, rel=1e-2)


def test_a_jet_without_constituents_stays_one_and_harms_no_other():
    batch, chosen = true_batch()
    mask = batch.mask.clone()
    mask[3] = False
    empty = replace(batch, mask=mask, p4=batch.p4 * mask[..., None], features=batch.features * mask[..., None])
    for view, whole in zip(two_views({}, empty, chosen), two_views({}, batch, chosen), strict=True):
        assert not view.mask[3].any()
        assert (view.p4[3] == 0).all()
        assert (view.features[3] == 0).all()
        others = torch.arange(len(mask)) != 3
        assert torch.equal(view.features[others], whole.features[others])


def test_each_augmentation_has_its_switch():
    batch, chosen = true_batch()
    for name, value in {"boost": 2.0, "rotation": True, "translation": 1.0, "smearing": 0.1, "splitting": 1}.items():
        _, view = two_views(NONE | {name: value}, batch, chosen)
        assert view.features.shape != batch.features.shape or not torch.allclose(view.features, batch.features)


def test_a_view_does_not_depend_on_padding_or_neighbours():
    batch, chosen = true_batch()
    views = Views(AugmentationRecipe(), chosen.names, 16)
    drawn = views.draw(batch, torch.Generator().manual_seed(0))
    whole, part = views(batch, drawn), views(batch.rows(slice(3, 7)), drawn[3:7])
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(one.features[3:7], other.features)


def test_nt_xent_by_its_definition():
    g = torch.Generator().manual_seed(0)
    first, second = (
        torch.nn.functional.normalize(torch.randn(5, 7, generator=g, dtype=torch.float64), dim=1) for _ in "ab"
    )
    z = torch.cat([first, second])
    losses = []
    for i in range(10):
        j = (i + 5) % 10
        numerator = math.exp(float(z[i] @ z[j]) / 0.2)
        losses.append(-math.log(numerator / sum(math.exp(float(z[i] @ z[k]) / 0.2) for k in range(10) if k != i)))
    assert float(nt_xent(first, second, 0.2)) == pytest.approx(np.mean(losses), rel=1e-5)
    assert torch.isfinite(nt_xent(first, first, 1e-3))


def test_diagnostics_at_their_ends():
    one = torch.eye(4)[:1].expand(6, 4)
    assert spread(one) == 0
    assert uniformity(one) == pytest.approx(0, abs=1e-6)
    assert alignment(one, one) == 0
    poles = torch.cat([torch.eye(4), -torch.eye(4)])
    assert spread(poles) == 1
    assert uniformity(poles) < -3


def test_the_rank_counts_the_directions_that_vary():
    generator = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0, 1.0, 0, 0]) + 7
    variances = np.linalg.eigvalsh(np.cov((x @ turned).numpy().T))
    assert float(rank(x @ turned)) == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-9)
    assert float(rank(torch.linspace(0, 1, 9)[:, None] * turned[0] + 5)) == pytest.approx(1, rel=1e-9)
    assert float(rank(turned[:1].expand(9, 6))) == pytest.approx(0, abs=1e-9)


def make_model(chosen):
    torch.manual_seed(0)
    backbone = build_backbone("particle_transformer", "tiny", len(chosen.names), **TINY)
    return Contrastive(backbone, ContrastiveRecipe(), chosen.names, 16)


def test_every_parameter_receives_a_gradient_and_the_loss_falls():
    batch, chosen = true_batch()
    model = make_model(chosen).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(30):
        losses = model(batch, generator)
        optimizer.zero_grad()
        losses["loss"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        seen.append(losses["loss"].item())
    assert np.mean(seen[-5:]) < np.mean(seen[:5]) - 0.3


def test_only_a_collapse_raises_the_alarm():
    _, chosen = true_batch()
    model = make_model(chosen)
    assert model.alarm({"spread": COLLAPSED / 2, "rank": 5.0}).startswith("the embeddings have collapsed")
    assert model.alarm({"spread": 0.9, "rank": 1.05}).startswith("the embeddings have collapsed")
    assert model.alarm({"spread": 0.9, "rank": 5.0}) is None


def test_the_alarm_sees_what_batch_normalisation_hides():
    batch, chosen = true_batch(jets=64)
    model = make_model(chosen).train()
    healthy = {k: float(v.detach()) for k, v in model(batch, torch.Generator().manual_seed(0)).items() if v.ndim == 0}
    assert model.alarm(healthy) is None
    x = torch.randn(64, model.backbone.dim, generator=torch.Generator().manual_seed(0))
    line = 1 + 0.01 * x + 0.3 * x[:, :1]  # all jets in one direction, and moving along it
    assert spread(model.projection(line)) > 0.5
    assert model.alarm({k: float(v) for k, v in condition(line).items()}) is not None


def test_what_all_embeddings_have_in_common_does_not_count():
    _, chosen = true_batch()
    projection = make_model(chosen).train().projection
    x = torch.randn(32, projection.layers[0].num_features, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(projection(x), projection(3 * x + 100), atol=1e-3, rtol=0)
    assert spread(projection(x + 100)) > 0.7


def test_dropping_leaves_each_view_a_random_part_of_the_jet_and_nothing_else_changed():
    batch, chosen = true_batch(jets=400)
    views = two_views(NONE | {"dropping": 0.4}, batch, chosen)
    pictures = [batch.features[..., chosen.names.index(name)] for name in ("part_pt_log", "part_logptrel", "part_deta")]
    have = [set(zip(*(p[j, batch.mask[j]].tolist() for p in pictures), strict=True)) for j in range(len(batch))]
    kept = []
    for view in views:
        rows = [view.features[..., chosen.names.index(name)] for name in ("part_pt_log", "part_logptrel", "part_deta")]
        left = [
            set(zip(*((r[j, view.mask[j]] * 1e4).round().tolist() for r in rows), strict=True))
            for j in range(len(batch))
        ]
        whole = [{tuple(round(x * 1e4) for x in row) for row in jet} for jet in have]
        assert all(left)  # never a jet without constituents
        near = sum(len(part & full) for part, full in zip(left, whole, strict=True)) / sum(map(len, left))
        assert near > 0.97  # but for roundings: shares are still those of the whole jet
        kept.append(view.mask.sum().item())
        assert view.mask.sum(1).ne(batch.mask.sum(1)).any()
    real = batch.mask.sum().item()
    alone = (batch.mask.sum(1) == 1).sum().item()  # these keep the one they have
    for number in kept:
        assert number == pytest.approx(0.6 * real + 0.4 * alone, abs=5 * math.sqrt(0.24 * real) + 0.02 * real)
    assert not torch.equal(views[0].mask, views[1].mask)


def test_what_is_dropped_changes_no_other_number_of_a_view():
    batch, chosen = true_batch()
    plain, dropped = (two_views({"dropping": share}, batch, chosen) for share in (None, 1e-9))
    for one, other in zip(plain, dropped, strict=True):
        torch.testing.assert_close(one.features, other.features, atol=1e-5, rtol=1e-5)
        assert torch.equal(one.mask, other.mask)
