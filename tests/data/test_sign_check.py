"""The sign and the unit of d0, read off tracks of decays in flight that are made here."""

import json

import awkward as ak
import numpy as np
import pytest
from jettag_cli.main import app
from typer.testing import CliRunner

from jettag.data.root import write_tree


def decays(jets, *, sign=1.0, scale=1.0, flying=1.0, seed=0, heavy=True):
    """Jets of four tracks that begin at one point on the axis, L millimetres from the collision; JetClass's d0."""
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-np.pi, np.pi, jets)
    flight = rng.exponential(3.0, jets) * flying
    dphi = rng.normal(0, 0.15, (jets, 4))
    track = phi[:, None] + dphi
    x, y = flight * np.cos(phi), flight * np.sin(phi)
    exact = x[:, None] * np.sin(track) - y[:, None] * np.cos(track)  # (x py - y px) / pT
    error = rng.uniform(0.03, 0.06, (jets, 4))
    pt = np.sort(rng.uniform(1, 9, (jets, 4)))[:, ::-1]
    columns = {
        "px": pt * np.cos(track), "py": pt * np.sin(track), "pz": np.zeros_like(pt), "energy": np.hypot(pt, 0.13957),
        "d0val": sign * scale * rng.normal(exact, error), "d0err": scale * error, "dphi": dphi,
    }  # fmt: skip
    tree = {f"part_{name}": ak.from_regular(ak.Array(values.astype(np.float32))) for name, values in columns.items()}
    tree |= {"jet_phi": phi.astype(np.float32), "jet_eta": np.zeros(jets, dtype=np.float32)}
    return tree | {"jet_flavour": np.where(np.arange(jets) % 2 == 0, 5 if heavy else 0, 0).astype(np.int32)}


def check(path, *extra):
    return CliRunner().invoke(app, ["data", "check", "flavour", str(path), *extra])


def written(path, *parts):
    write_tree(path, "tree", parts, metadata={})
    return path


def test_the_right_sign_agrees(tmp_path):
    done = check(written(tmp_path / "a.root", decays(300)), "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["d0_sign"]["verdict"] == "agrees"
    assert facts["d0_sign"]["ahead"] > 5 * facts["d0_sign"]["behind"]
    assert facts["d0_error_median_mm"] == pytest.approx(0.045, abs=0.002)
    assert facts["unit_problem"] is None


def test_the_wrong_sign_is_an_error_that_says_what_to_do(tmp_path):
    done = check(written(tmp_path / "a.root", decays(300, sign=-1.0)))
    assert done.exit_code == 4
    last = done.stderr.strip().splitlines()[-1]
    assert "sign of d0 is opposite to the card's" in last
    assert "turn `sign` of d0" in last


def test_heavy_flavour_decides_where_labels_tell(tmp_path):
    # Light jets of the wrong sign, four times as many, do not outvote the b jets.
    b = decays(200)
    b = {name: column[::2] for name, column in b.items()}
    light = decays(400, sign=-1.0, heavy=False)
    done = check(written(tmp_path / "a.root", b, light), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["d0_sign"]["verdict"] == "agrees"


def test_too_few_tracks_and_prompt_ones_cannot_tell(tmp_path):
    for name, columns in (("few", decays(8)), ("prompt", decays(400, flying=0.0))):
        done = check(written(tmp_path / f"{name}.root", columns))
        assert done.exit_code == 0, done.stderr
        assert "cannot tell" in done.stderr


@pytest.mark.parametrize(
    ("scale", "says"), [(0.1, "looks like cm where the card says mm"), (1000.0, "um where it says")]
)
def test_another_unit_shows_in_the_errors(tmp_path, scale, says):
    done = check(written(tmp_path / "a.root", decays(100, scale=scale)))
    assert done.exit_code == 0
    assert says in done.stderr.replace("\n", " ")
