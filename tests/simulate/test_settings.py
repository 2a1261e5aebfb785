import math

import pytest

from jettag.errors import UsageError
from jettag.simulate.chunk import pythia_lines
from jettag.simulate.dijets import DijetSettings
from jettag.simulate.events import make_pythia
from jettag.simulate.processes import LABELS, PROCESSES, find_process
from jettag.simulate.settings import GenerateSettings, parse_range


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"processes": ()}, "no process"),
        ({"processes": ("QCD", "QCD")}, "twice"),
        ({"jets": 0}, "--jets"),
        ({"jets": -5}, "--jets"),
        ({"jets_per_file": 0}, "--jets-per-file"),
        ({"seed": -1}, "--seed"),
        ({"seed": 10**12}, "--seed"),
        ({"radius": 0.0}, "--radius"),
        ({"radius": -0.4}, "--radius"),
        ({"radius": math.nan}, "--radius"),
        ({"pt_min": 1000.0, "pt_max": 500.0}, "--pt"),
        ({"pt_min": 500.0, "pt_max": 500.0}, "--pt"),
        ({"pt_min": math.nan}, "--pt"),
        ({"pt_min": 5.0}, "--pt"),
        ({"pt_min": 7000.0, "pt_max": 8000.0}, "--pt"),
        ({"eta_max": 0.0}, "--eta"),
        ({"eta_max": 9.0}, "--eta"),
        ({"pileup": -1.0}, "--pileup"),
        ({"pileup": 1e6}, "--pileup"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(change, word):
    with pytest.raises(UsageError, match=word) as caught:
        GenerateSettings(**{"processes": ("QCD",), "jets": 10, **change})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_ranges():
    assert parse_range("500:1000") == (500.0, 1000.0)
    assert parse_range("1000:500") == (1000.0, 500.0)  # read as it stands; the settings refuse it
    assert parse_range("500:") == (500.0, 6500.0)
    for text in ("500", "", ":", "a:b", "500-1000", ":1000", "1:2:3", "nan:5"):
        with pytest.raises(UsageError, match="--pt"):
            parse_range(text)


def test_processes_are_jetclass_s_in_its_order():
    assert " ".join(PROCESSES) == "QCD Hbb Hcc Hgg H4q Hqql Zqq Wqq Tbqq Tbl"
    assert tuple(f"label_{name}" for name in PROCESSES) == LABELS


def test_a_name_is_found_in_any_case_and_a_wrong_one_gets_the_nearest():
    assert find_process("tbQQ").name == "Tbqq"
    with pytest.raises(UsageError, match="did you mean Tbqq"):
        find_process("Tbqqq")
    with pytest.raises(UsageError, match="QCD"):
        find_process("zzzzzz")


def test_a_tune_is_pythias_and_the_default_changes_nothing():
    process = find_process("QCD")
    plain, a14 = (pythia_lines(process, GenerateSettings(("QCD",), 1, tune=tune)) for tune in ("monash", "a14"))
    assert a14 == ("Tune:pp = 21", *plain)
    lines = [DijetSettings(("dijet_qcd",), 1, tune=tune).lines("dijet_qcd") for tune in ("monash", "a14")]
    assert lines[1] == ("Tune:pp = 21", *lines[0])
    pythia = make_pythia(a14, "QCD")
    assert pythia.settings.mode("Tune:pp") == 21
    # ATL-PHYS-PUB-2014-021, NNPDF2.3: a weaker coupling in the final-state shower than Monash's 0.1365.
    assert pythia.settings.parm("TimeShower:alphaSvalue") == pytest.approx(0.127)
