"""Against 100 jets that others made with Delphes and the same card (JetClass-II, with pile-up and PUPPI)."""

from pathlib import Path

import awkward as ak
import numpy as np
import pytest

from jettag.simulate.cards import DETECTORS
from jettag.simulate.events import charge_of
from jettag.simulate.substructure import n_subjettiness, soft_drop_mass
from jettag.simulate.tracks import to_perigee

pytest.importorskip("pyarrow")
SAMPLE = next(
    (
        parent / "shared/samples/jetclass2_100jets.parquet"
        for parent in Path(__file__).resolve().parents
        if (parent / "shared/samples/jetclass2_100jets.parquet").exists()
    ),
    None,
)
pytestmark = pytest.mark.skipif(SAMPLE is None, reason="the JetClass-II sample is not on this machine")
FIELD = DETECTORS["cms"].field


@pytest.fixture(scope="module")
def sample():
    return ak.from_parquet(SAMPLE)


@pytest.fixture(scope="module")
def pairs(sample):
    """Generated and reconstructed charged hadrons that agree in azimuth at our perigee and in charge, one row each:
    our d0, dz, their d0, error, dz, error, pT ratio, pT, eta."""
    rows = []
    for jet in sample:
        pdg = np.asarray(jet.genpart_pid).astype(int)
        hadron = np.isin(np.abs(pdg), (211, 321, 2212))
        p4 = np.stack([np.asarray(jet[f"genpart_{k}"], float)[hadron] for k in ("px", "py", "pz", "energy")], axis=1)
        vertex = np.stack([np.asarray(jet[f"genpart_{k}"], float)[hadron] for k in "xyz"], axis=1)
        charge = charge_of(pdg[hadron])
        d0, dz, phi = to_perigee(p4, charge, vertex, FIELD)
        track = np.asarray(jet.part_isChargedHadron)
        theirs = {k: np.asarray(jet[f"part_{k}"], float)[track] for k in ("px", "py", "pz", "charge")}
        impact = [np.asarray(jet[f"part_{k}"], float)[track] for k in ("d0val", "d0err", "dzval", "dzerr")]
        pt = np.hypot(theirs["px"], theirs["py"])
        for index in range(track.sum()):
            apart = np.angle(np.exp(1j * (np.arctan2(theirs["py"][index], theirs["px"][index]) - phi)))
            near = np.flatnonzero((np.abs(apart) < 2e-5) & (charge == theirs["charge"][index]))
            if len(near) == 1:
                k = near[0]
                true_pt = np.hypot(*p4[k, :2])
                rows.append([d0[k], dz[k], *(column[index] for column in impact), pt[index] / true_pt, true_pt])
    return np.array(rows).T


def test_delphes_finds_its_tracks_at_our_perigee(sample, pairs):
    assert pairs.shape[1] > 0.97 * ak.sum(sample.part_isChargedHadron)


def test_our_impact_parameters_are_delphes_s_within_its_errors(pairs):
    d0, dz, d0_seen, d0_error, dz_seen, dz_error = pairs[:6]
    assert np.std((d0_seen - d0) / d0_error) == pytest.approx(1.0, abs=0.06)
    low, high = np.quantile((dz_seen - dz) / dz_error, (0.16, 0.84))
    assert (high - low) / 2 == pytest.approx(1.0, abs=0.08)


def test_the_sign_of_d0_is_delphes_s(pairs):
    d0, d0_seen, d0_error = pairs[0], pairs[2], pairs[3]
    displaced = np.abs(d0) > 6 * d0_error
    assert displaced.sum() > 100
    assert np.all(np.sign(d0_seen[displaced]) == np.sign(d0[displaced]))


def test_tracks_have_the_card_s_errors(sample):
    track = ak.to_numpy(ak.flatten(sample.part_charge)) != 0
    px, py, pz, error = (ak.to_numpy(ak.flatten(sample[f"part_{k}"]))[track] for k in ("px", "py", "pz", "d0err"))
    known = np.unique(DETECTORS["cms"].impact.d0)
    assert np.abs(error[:, None] - known).min(axis=1).max() < 1e-5
    eta = np.arcsinh(pz / np.hypot(px, py))
    stiff = np.hypot(px, py) > 140  # rescaling does not take a track out of the last step
    ours, _ = DETECTORS["cms"].impact.resolutions(np.hypot(px, py)[stiff], eta[stiff])
    assert np.mean(np.abs(ours - error[stiff]) < 1e-5) > 0.8


def test_tracks_keep_the_true_momentum_or_follow_their_tower(pairs):
    # What `exact_tracks` says: many momenta are true to the last digit, the others are as wide as the calorimeter.
    ratio, pt = pairs[6:]
    middle = (pt > 16) & (pt < 200)
    assert 0.2 < np.mean(np.abs(ratio[middle] - 1) < 2e-5) < 0.7
    card = np.hypot(0.06, 1.3e-3 * pt[middle])
    assert np.median(np.abs(ratio[middle] - 1) / card) < 0.5  # 0.67 if the card's track resolution were at work


def test_substructure_of_their_jets(sample):
    p4 = np.stack(
        [ak.to_numpy(ak.flatten(sample[f"part_{k}"])).astype(float) for k in ("px", "py", "pz", "energy")], axis=1
    )
    offsets = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(sample.part_px)))])
    tau = n_subjettiness(p4, offsets, radius=0.8)
    many = ak.to_numpy(sample.jet_nparticles) > 8
    for n in range(4):
        ratio = tau[many, n] / ak.to_numpy(sample[f"jet_tau{n + 1}"])[many]
        assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
    mass = soft_drop_mass(p4, offsets, radius=0.8)[many]
    assert np.median(mass / ak.to_numpy(sample.jet_sdmass)[many]) == pytest.approx(1.0, abs=0.02)
