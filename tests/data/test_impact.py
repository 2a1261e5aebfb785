"""Impact parameters turned or shuffled: what changes, and what does not."""

import numpy as np
import pytest

from jettag.data.card import load_card
from jettag.data.features import FEATURE_SETS
from jettag.data.impact import as_impact, change_impact
from jettag.data.read import expand_inputs, read_table
from jettag.errors import UsageError

from ..cli.conftest import write_root
from .make import make_columns

COLUMNS = ("slot", "d0", "d0_error", "charge")
OTHER = {"part_d0", "part_d0err", "part_dz", "part_dzerr"}


@pytest.fixture
def opened(tmp_path):
    path = write_root(tmp_path / "jets.root", make_columns(50, seed=3))
    read = {"features": "jetclass_full", "labels": False, "constituent_columns": COLUMNS}
    return read_table(expand_inputs([str(path)]), load_card("generated"), **read)


def test_negated_features_are_those_of_negated_impact_parameters(opened):
    turned = change_impact(opened, "jetclass_full", "negated")
    names = list(opened.feature_names)
    for name in names:
        before, after = (table.features[:, names.index(name)] for table in (opened, turned))
        np.testing.assert_array_equal(after, -before if name in ("part_d0", "part_dz") else before, err_msg=name)
    np.testing.assert_array_equal(turned.constituent["d0"], -opened.constituent["d0"])
    np.testing.assert_array_equal(turned.constituent["d0_error"], opened.constituent["d0_error"])
    twice = change_impact(turned, "jetclass_full", "negated")
    np.testing.assert_array_equal(twice.features, opened.features)


def test_shuffled_tracks_keep_their_kinematics_and_the_impact_parameters_of_all(opened):
    dealt = change_impact(opened, "jetclass_full", "shuffled")
    names = list(opened.feature_names)
    track = opened.constituent["charge"] != 0
    for place, name in enumerate(names):
        if name not in OTHER:
            np.testing.assert_array_equal(dealt.features[:, place], opened.features[:, place])
    rows = [names.index(name) for name in sorted(OTHER)]
    np.testing.assert_array_equal(dealt.features[~track][:, rows], opened.features[~track][:, rows])
    before, after = (sorted(map(tuple, table.features[track][:, rows].tolist())) for table in (opened, dealt))
    assert before == after  # each track's four numbers stay together
    assert not np.array_equal(dealt.features[track][:, rows], opened.features[track][:, rows])
    place = names.index("part_d0")
    np.testing.assert_allclose(dealt.features[:, place], np.tanh(-dealt.constituent["d0"]), atol=1e-6)


def test_the_table_is_left_alone_and_sets_without_impact_parameters_are_refused(opened):
    before = opened.features.copy()
    change_impact(opened, "jetclass_full", "shuffled")
    np.testing.assert_array_equal(opened.features, before)
    assert change_impact(opened, "jetclass_full", "kept") is opened
    with pytest.raises(UsageError, match="no impact parameters"):
        change_impact(opened, "jetclass_kin", "negated")
    with pytest.raises(UsageError, match="did you mean negated"):
        as_impact("negate")
    assert {"part_d0", "part_dz"} <= set(FEATURE_SETS["jetclass_full"].names)


def test_columns_beside_the_features_follow_sorting_and_cutting(tmp_path):
    """Constituents in rising pT in the file: each keeps its number in the file, and cuts take the softest."""
    import awkward as ak

    columns = make_columns(30, seed=5, longest=8)
    flipped = {k: v[:, ::-1] if k.startswith("part_") else v for k, v in columns.items()}
    path = write_root(tmp_path / "jets.root", flipped)
    read = {"features": "jetclass_full", "labels": False, "max_constituents": 3, "constituent_columns": COLUMNS}
    table = read_table(expand_inputs([str(path)]), load_card("generated"), **read)
    counts = ak.num(columns["part_px"]).to_numpy()
    for jet in range(30):
        rows = slice(table.offsets[jet], table.offsets[jet + 1])
        kept = min(counts[jet], 3)
        assert table.constituent["slot"][rows].tolist() == [counts[jet] - 1 - k for k in range(kept)]
        np.testing.assert_allclose(table.constituent["d0"][rows], -columns["part_d0val"][jet][:kept], rtol=1e-6)


def test_lifetime_signs_turn_with_the_impact_parameters_and_hits_are_dealt_with_them(tmp_path):
    """Against a file that was written with the opposite impact parameters."""
    columns = make_columns(50, seed=3)
    tracks = {f"part_{name}": columns["part_charge"] * 0 + 1 for name in ("nPixelHits", "nInnermostHits")}
    tracks |= {f"part_{name}": columns["part_charge"] * columns["part_px"] for name in ("nStripHits", "nSharedHits")}
    opposite = {name: -columns[name] for name in ("part_d0val", "part_dzval")}
    read = {"features": "gn2", "labels": False, "constituent_columns": ("d0", "n_strip_hits")}
    first, second = (
        read_table(expand_inputs([str(write_root(tmp_path / name, values))]), load_card("flavour"), **read)
        for name, values in (("a.root", columns | tracks), ("b.root", columns | tracks | opposite))
    )
    turned = change_impact(first, "gn2", "negated")
    np.testing.assert_allclose(turned.features, second.features, atol=1e-6)
    names = list(first.feature_names)
    signed = [place for place, name in enumerate(names) if name.endswith("_lifetime")]
    assert (first.features[:, signed] != turned.features[:, signed]).any(axis=0).all()
    dealt = change_impact(first, "gn2", "shuffled")
    moved = {name for place, name in enumerate(names) if (dealt.features[:, place] != first.features[:, place]).any()}
    lifetime = {"part_d0sig_lifetime", "part_z0sig_lifetime", "part_z0sintheta"}
    assert moved == OTHER | lifetime | {"part_n_strip_hits", "part_n_shared_hits"}
