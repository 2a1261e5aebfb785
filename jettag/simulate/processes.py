"""The ten classes of JetClass as Pythia 8 processes: what is made, what decays how, what a jet must contain.

Names, order and classes are JetClass's (H. Qu, C. Li, S. Qian, arXiv:2202.03772). JetClass took its hard processes from
MadGraph; here Pythia makes them itself, chosen so that most events give a jet: QCD from di-jets, Higgs bosons recoiling
against Z -> nu nu, W and Z from pairs of them, tops from pairs, so that the whole event is not lost on one side.
"""

from dataclasses import dataclass, field

from jettag.errors import UsageError, nearest

__all__ = ["BEAM_ENERGY", "LABELS", "PROCESSES", "TUNE", "Process", "find_process"]

BEAM_ENERGY = 13_000.0  # centre-of-mass energy [GeV]
TUNE = "Monash 2013 (Pythia 8 default), NNPDF2.3 QCD+QED LO, multi-parton interactions on"

QUARKS = "1 2 3 4 5"
LEPTONS = "11 13"
INVISIBLE_Z = ("23:onMode = off", "23:onIfAny = 12 14 16")
HADRONIC_W = ("24:onMode = off", f"24:onIfAny = {QUARKS}")
HIGGS = ("HiggsSM:ffbar2HZ = on", "25:onMode = off", *INVISIBLE_Z)
TOPS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")


@dataclass(frozen=True)
class Process:
    """One class of jets.

    Args:
        name: the class, without JetClass's ``label_``.
        settings: lines for `Pythia.readString`.
        resonance: PDG id of what the jet must contain; 0 where any jet of the event counts.
        variants: further lines, one set for every second (third, ...) chunk of events, where one setting cannot say it.
        about: one line for people.
    """

    name: str
    settings: tuple[str, ...]
    resonance: int
    about: str
    variants: tuple[tuple[str, ...], ...] = field(default=((),))

    @property
    def label(self) -> str:
        """Name of the one-hot branch."""
        return f"label_{self.name}"


def _higgs(name: str, *settings: str, about: str, variants: tuple[tuple[str, ...], ...] = ((),)) -> Process:
    return Process(name, (*HIGGS, *settings), 25, about, variants)


_ALL = (
    Process("QCD", ("HardQCD:all = on",), 0, "quark and gluon jets of all flavours"),
    _higgs("Hbb", "25:onIfMatch = 5 -5", about="H -> b bbar"),
    _higgs("Hcc", "25:onIfMatch = 4 -4", about="H -> c cbar"),
    _higgs("Hgg", "25:onIfMatch = 21 21", about="H -> g g"),
    _higgs("H4q", "25:onIfMatch = 24 -24", *HADRONIC_W, about="H -> W W* -> q q q q"),
    _higgs(
        "Hqql",
        "25:onIfMatch = 24 -24",
        "24:onMode = off",
        about="H -> W W* -> q q l nu with l = e, mu",
        # Either W is the hadronic one; no single setting can say that without wasting five events of eight.
        variants=(
            (f"24:onPosIfAny = {QUARKS}", f"24:onNegIfAny = {LEPTONS}"),
            (f"24:onPosIfAny = {LEPTONS}", f"24:onNegIfAny = {QUARKS}"),
        ),
    ),
    Process(
        "Zqq",
        ("WeakDoubleBoson:ffbar2gmZgmZ = on", "WeakZ0:gmZmode = 2", "23:onMode = off", f"23:onIfAny = {QUARKS}"),
        23,
        "Z -> q qbar, b and c included",
    ),
    Process("Wqq", ("WeakDoubleBoson:ffbar2WW = on", *HADRONIC_W), 24, "W -> q q'"),
    Process("Tbqq", (*TOPS, *HADRONIC_W), 6, "t -> b q q'"),
    Process("Tbl", (*TOPS, "24:onMode = off", f"24:onIfAny = {LEPTONS}"), 6, "t -> b l nu with l = e, mu"),
)

PROCESSES = {process.name: process for process in _ALL}
LABELS = tuple(process.label for process in _ALL)


def find_process(name: str) -> Process:
    """The process of that name, whatever its case.

    Raises:
        UsageError: there is none.
    """
    exact = PROCESSES.get(name)
    if exact is not None:
        return exact
    for known, process in PROCESSES.items():
        if known.lower() == name.lower():
            return process
    raise UsageError(f"unknown process {name!r}", do=nearest(name, PROCESSES))
