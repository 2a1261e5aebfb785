"""Cards: every shipped one loads, and every mistake of a broken one is in one message."""

import pytest

from jettag.config import dump_yaml, list_shipped
from jettag.data.card import DataCard, load_card
from jettag.errors import CardError

GOOD = """
name: mine
constituents: {px: a, py: b, pz: c, energy: d}
"""


def broken(tmp_path, text):
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(CardError) as caught:
        load_card(path)
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", sorted(list_shipped("data_cards")))
def test_shipped_cards_load_by_name_and_survive_yaml(name, tmp_path):
    card = load_card(name)
    assert card.name == name
    assert card.description
    assert card.citation
    (tmp_path / "copy.yaml").write_text(dump_yaml(card))
    assert load_card(tmp_path / "copy.yaml") == card


def test_the_classes_are_in_jetclass_s_order():
    order = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
    assert load_card("jetclass").classes == order
    assert load_card("generated").classes == order
    assert load_card("top_landscape").classes == ("QCD", "Tbqq")


def test_a_card_needs_little(tmp_path):
    (tmp_path / "card.yaml").write_text(GOOD)
    card = load_card(tmp_path / "card.yaml")
    assert card.classes == ()
    assert card.constituents.px.branches == ("a",)


def test_all_mistakes_are_told_at_once(tmp_path):
    message = broken(
        tmp_path,
        """
nam: mine
constituents:
  px: a
  py: b
  is_muons: m
  d0: {branch: d, unit: GeV, sign: 2}
jet:
  pt: {branch: p, unit: mm}
labels: {classes: {a: one, b: one}}
units: {momentum: TeV}
""",
    )
    assert message.startswith("9 mistakes")
    for part in (
        "nam: unknown key, did you mean name?",
        "name: missing",
        "is_muons: unknown key, did you mean is_muon",
        "needs px, py, pz, energy or pt, eta, phi",
        "d0.unit: expected one of mm, cm, um, found 'GeV'",
        "d0.sign",
        "jet.pt.unit: expected one of GeV, MeV, found 'mm'",
        "'one' belongs to a too",
        "units.momentum",
    ):
        assert part in message


def test_a_value_belongs_to_one_class(tmp_path):
    labels = "labels: {branch: flavour, classes: {light: [0, 5], b: 5}}"
    assert "5 belongs to light too" in broken(tmp_path, GOOD + labels)


def test_an_unknown_card_is_answered_with_the_nearest():
    with pytest.raises(CardError, match="did you mean jetclass"):
        load_card("jetclas")


def test_factors_lead_to_gev_mm_and_rad():
    card = DataCard.model_validate(
        {
            "name": "x",
            "units": {"momentum": "MeV", "length": "cm", "angle": "deg"},
            "constituents": {"pt": "a", "eta": "b", "phi": "c", "mass": "d", "d0": {"branch": "e", "unit": "um"}},
        }
    )
    factors = {f: card.factor(f, card.column("constituents", f)) for f in ("pt", "eta", "phi", "mass", "d0")}
    assert factors == pytest.approx({"pt": 1e-3, "eta": 1, "phi": 3.141592653589793 / 180, "mass": 1e-3, "d0": 1e-3})
