import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uproot
from jettag_cli.main import app
from typer.testing import CliRunner

pytest.importorskip("pythia8mc")
COMMAND = [sys.executable, "-m", "jettag_cli"]


def run(*words):
    return CliRunner().invoke(app, list(words))


def test_json_is_the_only_thing_on_stdout(tmp_path):
    done = run("generate", "qcd", "--jets", "5", "--out", str(tmp_path / "d"), "--workers", "1", "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["files"] == [str(tmp_path / "d" / "QCD.root")]
    assert facts["processes"][0]["jets"] == 5
    assert uproot.open(facts["files"][0])["tree"].num_entries == 5
    again = run("generate", "QCD", "--jets", "5", "--out", str(tmp_path / "d"), "--workers", "1")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_dijets_tell_what_was_written_of_each_process(tmp_path):
    names = "dijet_qcd,dijet_resonance"
    words = ("--jets", "2", "--workers", "1", "--detector", "none", "--json")
    done = run("generate", names, *words, "--out", str(tmp_path))
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    for path, row in zip(facts["files"], facts["processes"], strict=True):
        assert uproot.open(path)["tree"].num_entries == row["events_written"] == facts["events"] == 2


def test_flavour_samples_follow_their_own_cuts_unless_told(tmp_path, monkeypatch):
    monkeypatch.setattr("jettag.simulate.chunk.EVENTS", 8)
    words = ("--jets", "6", "--workers", "1", "--association", "ghost", "--material")
    done = run("generate", "TTbar", *words, "--pt", "30:60", "--out", str(tmp_path))
    assert done.exit_code == 0, done.stderr
    jets = uproot.open(tmp_path / "ttbar.root")["tree"].arrays(["jet_pt", "jet_eta", "jet_flavour"])
    assert len(jets) == 6
    assert all(30 <= pt <= 60 for pt in jets.jet_pt)
    assert set(jets.jet_flavour.tolist()) <= {0, 4, 5, 15}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("Tbqqq",), 2, "did you mean Tbqq"),
        ((",",), 2, "no process"),
        (("QCD", "--pt", "1000:500"), 2, "--pt"),
        (("QCD", "--pt", "high"), 2, "LOW:HIGH"),
        (("QCD", "--radius", "-0.4"), 2, "--radius"),
        (("QCD", "--jets", "0"), 2, "--jets"),
        (("QCD", "--detector", "cdf"), 2, "cdf"),
        (("QCD", "--format", "csv"), 2, "csv"),
        (("QCD", "--workers", "0"), 2, "--workers"),
        (("ttbar", "--pt", "300:200"), 2, "--pt"),
        (("ttbar", "--association", "near"), 2, "near"),
    ],
)
def test_what_the_user_got_wrong_is_one_line(tmp_path, words, code, says):
    jets = () if "--jets" in words else ("--jets", "5")
    done = run("generate", *words, *jets, "--out", str(tmp_path / "d"))
    assert done.exit_code == code
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("d/*"))


def test_help_fits_a_screen_and_ends_with_an_example():
    done = run("generate", "--help")
    assert done.exit_code == 0
    assert "Example: jettag generate" in done.stdout
    assert len(done.stdout.splitlines()) <= 48


def group_is_alive(group):
    """Whether any process but a zombie is in that group."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            return True
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed through /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_neither_half_a_file_nor_a_process(tmp_path, number, code):
    words = ["generate", "QCD", "--jets", "100000", "--out", str(tmp_path / "d"), "--workers", "2"]
    child = subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("d/.*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    child.send_signal(number)
    _, text = child.communicate(timeout=60)
    assert child.returncode == code, text
    assert list(tmp_path.glob("d/*")) == []
    assert list(tmp_path.glob("d/.*")) == []
    assert "Traceback" not in text
    # Python's own resource tracker leaves a moment after the last of us.
    deadline = time.monotonic() + 10
    while group_is_alive(child.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not group_is_alive(child.pid)
