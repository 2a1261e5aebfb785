"""What another program reads in an exported file is what jettag computes."""

import numpy as np
import pytest

from jettag.config.shipped import list_shipped
from jettag.data.binding import JET_ETA
from jettag.data.card import load_card
from jettag.data.features import FEATURE_SETS
from jettag.data.formulas import COLUMNS, describe_columns, describe_features


@pytest.mark.parametrize("name", FEATURE_SETS)
def test_expressions_are_the_functions(name):
    """Random columns through the text and through the function; columns that one line derives, by that line."""
    rng = np.random.default_rng(0)
    columns = {key: rng.uniform(0.1, 2.0, 50) for key in COLUMNS}
    for feature, told in zip(FEATURE_SETS[name].features, describe_features(FEATURE_SETS[name]), strict=True):
        found = eval(told["formula"], {}, {**vars(np), **columns})
        np.testing.assert_allclose(found, feature.formula(columns), err_msg=feature.name)


def test_derived_columns_invert_one_another():
    rng = np.random.default_rng(1)
    polar = {"pt": rng.exponential(20, 50), "eta": rng.normal(0, 1, 50), "phi": rng.uniform(-3, 3, 50)}
    names = {**vars(np), **polar, "mass": rng.uniform(0, 1, 50)}
    for key in ("px", "py", "pz", "energy"):
        names[key] = eval(COLUMNS[key][1], {}, names)
    for key, expected in polar.items():
        np.testing.assert_allclose(eval(COLUMNS[key][1], {}, names), expected)
    squared = names["energy"] ** 2 - names["px"] ** 2 - names["py"] ** 2 - names["pz"] ** 2
    np.testing.assert_allclose(squared, names["mass"] ** 2, atol=1e-6)


@pytest.mark.parametrize("card", list_shipped("data_cards"))
def test_every_name_in_a_formula_is_told(card):
    loaded = load_card(card)
    for features in FEATURE_SETS.values():
        try:
            columns = describe_columns(features, loaded)
        except KeyError as problem:
            pytest.fail(f"{card}: {problem}")
        for told in (*describe_features(features), *columns.values()):
            code = compile(told.get("formula", "0"), "", "eval")
            unknown = [name for name in code.co_names if name not in columns and not hasattr(np, name)]
            fields = [name for name in features.fields if name != JET_ETA]
            on_card = [name for name in fields if loaded.column("constituents", name)]
            assert [name for name in unknown if name in on_card] == [], told
            assert not {"pt", "px", "jet_pt", "energy"} & set(unknown), told


def test_units_and_signs_are_the_card_s():
    columns = describe_columns(FEATURE_SETS["jetclass_full"], load_card("jetclass"))
    assert columns["d0"] == {"is": COLUMNS["d0"][0], "branches": ["part_d0val"], "factor": -1.0}
    assert columns["pt"]["formula"] == "sqrt(px**2 + py**2)"
    assert "branches" not in columns["pt"]
    assert "mass" not in columns
