"""Cards that join candidates to jets, by links or by a cone, and keys that fit no column."""

import awkward as ak
import numpy as np
import pytest
import uproot

from jettag.data.card import load_card
from jettag.data.read import read_events
from jettag.errors import CardError

CARD = """
name: mine
constituents: {{pt: a, eta: b, phi: c, mass: {{value: 0.1}}, {column}}}
jet: {{{jet}}}
"""


@pytest.mark.parametrize("join", ["delphes", "cms_pfnano"])
def test_events_without_jets_or_without_candidates(tmp_path, join):
    # Jets of the four events: none, one, two, none; candidates: two, none, one near the second jet, none.
    jets, candidates = ([], [0.0], [-1.0, 1.0], []), ([0.3, 0.4], [], [1.1], [])
    names = {"delphes": ("Jet.", "Track.", "Delphes"), "cms_pfnano": ("Jet_", "PFCands_", "Events")}
    jet, candidate, tree = names[join]
    card = load_card(join)

    def lists(values, kind=np.float32, number=None):
        filled = ak.Array([[number if number is not None else x for x in event] for event in values])
        return ak.values_astype(filled, kind)

    columns = {}
    for prefix, values in ((jet, jets), (candidate, candidates)):
        own = {column.branches[0] for column in card.jet.values()} | {
            column.branches[0] for _, column in card.constituents if column and column.branches
        }
        for branch in (name for name in own if name.startswith(prefix)):
            integer = branch.lower().endswith(("flavor", "flavour", "pid", "pdgid", "charge"))
            number = None if branch.lower().endswith("eta") else 5 if integer and prefix == jet else 1
            columns[branch] = lists(values, np.int32 if integer else np.float32, number)
    if join == "cms_pfnano":
        columns["JetPFCands_jetIdx"] = lists(([-1, -1], [], [1], []), np.int32)
        columns["JetPFCands_pFCandsIdx"] = lists(([0, 1], [], [0], []), np.int32)
    with uproot.recreate(tmp_path / "a.root") as file:
        file.mktree(tree, {name: ak.type(column).content for name, column in columns.items()}).extend(columns)
    found = read_events(tmp_path / "a.root", card)
    assert ak.num(found.constituents).tolist() == [0, 0, 1]
    assert found.eta.tolist() == [0.0, -1.0, 1.0]


@pytest.mark.parametrize(
    ("column", "jet", "says"),
    [
        ("d0: {value: 1, branch: x}", "", "a branch or a value, and not both"),
        ("d0: {branch: x, to_jet: ratio}", "", "a difference for eta and phi and a ratio for pt"),
        ("origin: {branch: x, names: [Primary, FromSpace]}", "", "names are for origin, of Pileup, Fake"),
        ("d0: x", "pt: {branch: x, missing: -1}", "missing is for constituents only"),
    ],
)
def test_keys_that_do_not_fit_a_column(tmp_path, column, jet, says):
    (tmp_path / "mine.yaml").write_text(CARD.format(column=column, jet=jet))
    with pytest.raises(CardError, match=says):
        load_card(tmp_path / "mine.yaml")


def test_a_join_is_by_links_or_by_a_cone(tmp_path):
    (tmp_path / "mine.yaml").write_text(CARD.format(column="d0: x", jet="") + "join: {jets: Jet_, candidates: P_}\n")
    with pytest.raises(CardError, match="needs jet_index and candidate_index, or cone"):
        load_card(tmp_path / "mine.yaml")
