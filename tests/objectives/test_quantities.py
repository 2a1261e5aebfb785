"""What targets predict: standardised numbers, what counts, and names."""

import numpy as np
import pytest
import torch

from jettag.data.features import FEATURE_SETS
from jettag.errors import RecipeError
from jettag.objectives.quantities import IDENTITIES, IMPACT, KINEMATIC, Quantities, has_identity, identity_of

FULL = FEATURE_SETS["jetclass_full"].names


def test_impact_parameters_are_those_of_charged_constituents():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (4000, len(FULL))).astype(np.float32)
    charge = rng.integers(-1, 2, 4000)
    x[:, FULL.index("part_charge")] = charge
    x[charge == 0, FULL.index("part_d0")] = 0
    quantities = Quantities(FULL)
    quantities.fit(x)
    values, counted = quantities(torch.from_numpy(x))
    assert quantities.names == KINEMATIC + IMPACT
    assert (counted[:, :3] == 1).all()
    assert torch.equal(counted[:, 3:], torch.from_numpy(charge != 0).float()[:, None].expand(-1, 4))
    assert values[:, :3].mean(0).abs().max() < 1e-2
    charged = values[torch.from_numpy(charge != 0), 3:]
    assert charged.mean(0).abs().max() < 1e-2
    assert (charged.std(0) - 1).abs().max() < 0.02


def test_a_constant_and_an_outlier_stay_finite():
    x = np.ones((50, len(FULL)), dtype=np.float32)
    x[:, FULL.index("part_deta")] = np.linspace(-1, 1, 50)
    quantities = Quantities(FULL, impact=False)
    quantities.fit(x)
    x[0, FULL.index("part_pt_log")] = 1e6
    values, _ = quantities(torch.from_numpy(x))
    assert values[0, 0] == 5.0
    assert torch.isfinite(values).all()


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_what_features_do_not_tell_is_left_out(name):
    names = FEATURE_SETS[name].names
    assert len(Quantities(names)) == (3 if name in ("jetclass_kin", "jetclass_kinpid") else 7)
    assert has_identity(names) == (name != "jetclass_kin")


def test_features_without_directions_are_refused():
    with pytest.raises(RecipeError, match="part_dphi"):
        Quantities(("part_pt_log", "part_deta"))


@pytest.mark.parametrize(
    ("flag", "charge", "name"),
    [
        ("isChargedHadron", -1, "h-"),
        ("isChargedHadron", 1, "h+"),
        ("isNeutralHadron", 0, "neutral hadron"),
        ("isPhoton", 0, "photon"),
        ("isElectron", -1, "e-"),
        ("isElectron", 1, "e+"),
        ("isMuon", -1, "mu-"),
        ("isMuon", 1, "mu+"),
        (None, 0, "other"),
    ],
)
def test_flags_and_charge_name_the_constituent(flag, charge, name):
    row = torch.zeros(1, len(FULL))
    row[0, FULL.index("part_charge")] = charge
    if flag:
        row[0, FULL.index(f"part_{flag}")] = 1
    assert IDENTITIES[int(identity_of(row, FULL))] == name
