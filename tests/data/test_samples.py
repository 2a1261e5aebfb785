"""Files that other people made: JetClass-II's particle columns are read with the card of JetClass."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import vector

from jettag.data.card import load_card
from jettag.data.read import expand_inputs, read_events, read_table

SAMPLE = Path(__file__).resolve().parents[3] / "shared" / "samples" / "jetclass2_100jets.parquet"
pytestmark = pytest.mark.skipif(not SAMPLE.is_file(), reason=f"{SAMPLE} is not part of the repository")


def test_jetclass_2_is_read_without_labels_or_with_the_file_s_class():
    card = load_card("jetclass")
    table = read_table(expand_inputs([SAMPLE]), card, features="jetclass_full", labels=False)
    assert len(table) == 100
    assert np.isfinite(table.features).all()
    named = read_table(expand_inputs([f"Hbb:{SAMPLE}"]), card, features="jetclass_full", labels=True)
    assert set(named.label) == {1}
    np.testing.assert_array_equal(named.features, table.features)


def test_stored_deta_is_mirrored_by_the_sign_of_the_jets_eta():
    """What the card says about JetClass's deta, from the file's own momenta."""
    raw = ak.from_parquet(SAMPLE)
    p4 = vector.zip({name: raw[f"part_{name}"] for name in ("px", "py", "pz", "energy")})
    mirrored = (p4.eta - raw.jet_eta) * np.where(raw.jet_eta < 0, -1, 1)
    assert ak.max(abs(mirrored - raw.part_deta)) < 1e-6
    assert ak.max(abs(p4.eta - raw.jet_eta - raw.part_deta)) > 1
    assert ak.array_equal(read_events(SAMPLE, "jetclass").constituents.deta, raw.part_deta)


def test_displaced_tracks_lie_ahead_of_the_jet():
    """The card's sign of d0 makes more of them positive along the jet than negative, as decays in flight do."""
    tracks = read_events(SAMPLE, "jetclass").constituents
    tracks = tracks[abs(tracks.d0) > 3 * tracks.d0_error]
    along = ak.flatten(-tracks.d0 * np.sin(tracks.dphi))
    assert ak.sum(along > 0) > ak.sum(along < 0)
