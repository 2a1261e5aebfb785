"""Labels of a scheme from whatever a card has."""

from pathlib import Path

import numpy as np
import pytest

from jettag.config.flavour import FlavourRecipe
from jettag.config.schemes import scheme
from jettag.data.card import DataCard, load_card
from jettag.data.inputs import InputFile
from jettag.data.labels import class_names
from jettag.errors import CardError, DataError
from jettag.runs.flavour_data import check_origins, flavour_card, origin_weights, without_missing_truth

from ..cli.conftest import write_root
from ..objectives.test_flavour import truth_table
from .make import make_columns, without

BASE = {"name": "mine", "constituents": {"px": "x", "py": "y", "pz": "z", "energy": "e"}}


def test_codes_of_the_flavour_column_make_the_classes_and_the_rest_is_outside():
    found = flavour_card(load_card("generated"), "b_c_light").labels
    assert found.branches == ("jet_flavour",)
    assert found.classes == {"b": (5, 55, 54), "c": (4, 44), "light": (0,), "outside the scheme": (15,)}
    assert "outside the scheme" not in flavour_card(load_card("generated"), "b_c_tau_light").labels.classes


def test_a_scheme_of_double_hadrons_reads_the_extended_column():
    card = DataCard.model_validate({**BASE, "jet": {"flavour": "f", "flavour_extended": "g"}})
    assert flavour_card(card, "extended").labels.branch == "g"
    assert flavour_card(card, "b_c_light").labels.branch == "f"
    with pytest.raises(CardError, match="flavour_extended"):
        flavour_card(load_card("generated"), "extended")


@pytest.mark.parametrize(
    ("name", "cone", "extended"),
    [
        ("flavour", "jet_flavour", "jet_flavour_extended"),
        ("atlas_ftag", "jets/HadronConeExclTruthLabelID", "jets/HadronGhostExtendedTruthLabelID"),
    ],
)
def test_shipped_cards_have_both_columns(name, cone, extended):
    card = load_card(name)
    # Written by `predict` as HadronConeExclTruthLabelID, which knows no double hadrons.
    assert card.column("jet", "flavour").branches == (cone,)
    assert flavour_card(card, "extended").labels.branch == extended


def test_one_hot_classes_are_taken_by_name():
    names = scheme("deepjet").classes
    labels = {"kind": "one_hot", "classes": {name: f"is_{name}" for name in reversed(names)}}
    card = DataCard.model_validate({**BASE, "labels": labels})
    assert flavour_card(card, "deepjet").labels.classes == {name: f"is_{name}" for name in names}
    with pytest.raises(CardError, match="label scheme b_c_light"):
        flavour_card(card, "b_c_light")


def test_a_card_that_was_labelled_once_is_labelled_alike_again():
    once = flavour_card(load_card("generated"), "b_c_light")
    assert flavour_card(once, "b_c_light") == once


def test_files_bring_the_classes_that_a_card_does_not_know():
    """Those of any scheme, in its order and not in that of the files; a wrong one is answered with all of them."""
    for name in ("b_c_light", "extended", "deepjet"):
        classes = scheme(name).classes
        inputs = [InputFile(Path(f"{own}.root"), own) for own in reversed(classes)]
        found = flavour_card(load_card("jetclass"), name, inputs)
        assert class_names(found, inputs, None) == classes
        assert flavour_card(found, name, inputs[:1]) == found  # as a run keeps it
        with pytest.raises(DataError, match=f"no class 'Tbqq' in label scheme {name} .*of {', '.join(classes)}"):
            flavour_card(load_card("jetclass"), name, [*inputs, InputFile(Path("x.root"), "Tbqq")])
        with pytest.raises(CardError, match=r"give x\.root, and every other file, as CLASS:GLOB of b, "):
            flavour_card(load_card("jetclass"), name, [*inputs, InputFile(Path("x.root"))])


def test_classes_of_a_scheme_are_taken_together_where_the_card_knows_none():
    files = {name: InputFile(Path(f"{name}.root"), name) for name in ("light", "c", "b", "Hbb", "Tbqqq")}
    card = load_card("jetclass")
    assert class_names(card, [files[name] for name in ("light", "c", "b")], None) == ("b", "c", "light")
    with pytest.raises(DataError, match="CLASS:GLOB of light too"):
        class_names(card, [files["b"], files["c"]], None)
    with pytest.raises(DataError, match="no class 'b'"):
        class_names(card, [files["b"], files["Hbb"]], None)
    with pytest.raises(DataError, match="did you mean Tbqq"):
        class_names(card, [files["Tbqqq"]], None)


def test_tasks_whose_truth_no_file_has_are_turned_off(tmp_path):
    columns = make_columns(5)
    truth = columns | {f"part_{name}": columns["part_charge"] for name in ("origin", "vertex")}
    recipe, card = FlavourRecipe(), load_card("generated")

    def settled(*files):
        inputs = [InputFile(write_root(tmp_path / f"{place}.root", file)) for place, file in enumerate(files)]
        return without_missing_truth(inputs, card, recipe)

    assert settled(truth, truth) == (recipe, "")
    assert settled(truth, columns) == (recipe, "")  # which `refuse_missing_truth` names
    found, note = settled(columns)
    assert found == FlavourRecipe(origin=None, vertex=None)
    assert note == "objective: origin=null and vertex=null, as the files have no origin and no vertex of constituents"
    found, note = settled(without(truth, "part_vertex"))
    assert found == FlavourRecipe(vertex=None)
    found, note = settled(without(truth, "part_origin"))
    assert found == FlavourRecipe(origin=None, vertex={"pair_weights": "none"})


def test_rare_origins_weigh_by_how_much_rarer_they_are():
    table = truth_table(50)
    table.constituent["origin"][:] = -1
    table.constituent["origin"][:12] = [2] * 8 + [3] * 2 + [0] + [5]
    assert origin_weights(table) == (8.0, 1.0, 1.0, 4.0, 1.0, 8.0, 1.0, 1.0)
    check_origins(table)
    table.constituent["origin"][0] = 8
    with pytest.raises(DataError, match="origins 8 are none"):
        check_origins(table)
    assert np.isfinite(origin_weights(truth_table(20))).all()
