"""Label schemes: what the tools' lists say, and sums that keep every probability."""

import numpy as np
import pytest

from jettag.config.schemes import EXTENDED_CODES, add_up, find_sums, scheme, scheme_names
from jettag.errors import UsageError


@pytest.mark.parametrize("name", scheme_names())
def test_a_scheme_names_each_class_once(name):
    found = scheme(name)
    assert len(set(found.classes)) == len(found.classes)
    for mapping in (found.codes, found.letters, found.aliases):
        assert set(mapping) <= set(found.classes)
    codes = [code for values in found.codes.values() for code in values]
    assert len(set(codes)) == len(codes)
    assert set(codes) <= set(EXTENDED_CODES)
    others = [alias for aliases in found.aliases.values() for alias in aliases]
    assert len({*others, *found.classes}) == len(others) + len(found.classes)


SUMS = [(fine, coarse) for fine in scheme_names() for coarse in scheme(fine).sums]


@pytest.mark.parametrize(("fine", "coarse"), SUMS)
def test_probabilities_of_a_fine_scheme_add_up_to_those_of_a_coarse_one(fine, coarse):
    """As an identity: one by one with a loop, to one in total, in any order of the columns."""
    names = list(scheme(fine).classes)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(names)), 20)
    groups = find_sums(names, coarse)
    assert set(groups) == set(scheme(coarse).classes)
    found = add_up(probabilities, names, groups)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for column, members in zip(found.T, groups.values(), strict=True):
        expected = [sum(row[names.index(member)] for member in members) for row in probabilities]
        np.testing.assert_allclose(column, expected)
    order = np.random.default_rng(1).permutation(len(names))
    shuffled = [names[place] for place in order]
    np.testing.assert_allclose(add_up(probabilities[:, order], shuffled, find_sums(shuffled, coarse)), found)


def test_the_lists_have_the_published_lengths_and_landmarks():
    lengths = {"deepjet": 6, "particlenet": 20, "boosted": 17, "deepak8": 17, "glopart": 17}
    lengths |= {"sophon": 188, "jetclass": 10}
    assert {name: len(scheme(name).classes) for name in lengths} == lengths
    sophon = scheme("sophon").classes
    # 15 resonances of two prongs, 146 of three or four, 27 of QCD by heavy flavour: 0-14, 15-160, 161-187
    kinds = ["YY" if name.startswith("X_YY") else name.split("_")[0] for name in sophon]
    assert [kinds.index(kind) for kind in ("X", "YY", "QCD")] == [0, 15, 161]
    assert (sophon[77], sophon[115], sophon[131], sophon[155]) == (
        "X_YY_gggg",
        "X_YY_qqqb",
        "X_YY_bcev",
        "X_YY_bctauhv",
    )
    assert (sophon[161], sophon[169], sophon[181], sophon[187]) == ("QCD_bbccss", "QCD_bb", "QCD_cc", "QCD_light")
    # QCD classes are all contents of up to two b, c and s quarks each.
    assert len(set(sophon[161:])) == 3**3


def test_two_lists_of_boosted_jets_differ_in_one_top_and_in_nothing_else():
    """A top jet without its b is of one, a top jet with b and c of the other; of ParticleNet's 20, DeepAK8 has 17."""
    ours, theirs = scheme("boosted").classes, scheme("deepak8").classes
    decays = {"T": ["bcq", "bqq", "bq", "cq"], "H": ["bb", "cc", "qqqq"], "Z": ["bb", "cc", "qq"], "W": ["cq", "qq"]}
    decays["QCD"] = ["bb", "cc", "b", "c", "others"]
    assert set(ours) == {kind + decay for kind, found in decays.items() for decay in found}
    assert (set(ours) - set(theirs), set(theirs) - set(ours)) == ({"Tcq"}, {"Tbc"})
    assert set(scheme("particlenet").classes) - set(theirs) == {"Tbel", "Tbmu", "Tbta"}
    assert set(theirs) < set(scheme("particlenet").classes)
    # Class k of 17 has the probability k / 136: the four tops are the first four in either list.
    p = np.arange(17)[None] / 136
    for names in (ours, theirs):
        groups = find_sums(names, "resonance")
        assert add_up(p, names, groups)[0, list(groups).index("top")] == pytest.approx((0 + 1 + 2 + 3) / 136)
        with pytest.raises(UsageError, match="no class"):
            add_up(p, names, find_sums(theirs if names is ours else ours, "resonance"))


def test_classes_of_other_tools_are_known_by_name_only():
    found = scheme("b_c_light")
    assert [found.own_name(name) for name in ("ujets", "bjets", "cjets", "c", "isQCD")] == [
        "light", "b", "c", "c", None,
    ]  # fmt: skip
    assert found.letter("light") == "u"


@pytest.mark.parametrize(
    ("names", "coarse", "said"),
    [
        (["b", "c"], "b_c_light", "do not add up"),
        (["b", "c"], "bcl", "did you mean"),
        (["QCD"], "deepjet", "no scheme does"),
    ],
)
def test_what_does_not_add_up_is_said(names, coarse, said):
    with pytest.raises(UsageError, match=said):
        find_sums(names, coarse)


def test_a_class_in_two_groups_is_refused():
    with pytest.raises(UsageError, match="two groups"):
        add_up(np.ones((1, 2)), ["b", "c"], {"x": ["b"], "y": ["b", "c"]})
    with pytest.raises(UsageError, match="no class 'bb'"):
        add_up(np.ones((1, 2)), ["b", "c"], {"x": ["bb"]})
