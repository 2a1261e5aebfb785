"""What can be simulated: JetClass's ten classes, and samples for flavour tagging, as Pythia 8 processes.

Names, order and classes are JetClass's (H. Qu, C. Li, S. Qian, arXiv:2202.03772). JetClass took its hard processes from
MadGraph; here Pythia makes them itself, chosen so that most events give a jet: QCD from di-jets, Higgs bosons recoiling
against Z -> nu nu, W and Z from pairs of them, tops from pairs, so that the whole event is not lost on one side.

A flavour sample keeps every jet of its events, whatever its flavour; each jet has its own labels.
"""

from dataclasses import dataclass, field

from jettag.errors import UsageError, nearest

__all__ = ["BEAM_ENERGY", "FLAVOUR_PROCESSES", "LABELS", "PROCESSES", "TUNES", "Cuts", "Process", "find_process"]

BEAM_ENERGY = 13_000.0  # centre-of-mass energy [GeV]
# Of showers, hadronisation and what underlies an event: what stands in the files, and Pythia's settings beyond its own.
TUNES: dict[str, tuple[str, tuple[str, ...]]] = {
    "monash": ("Monash 2013 (Pythia 8 default), NNPDF2.3 QCD+QED LO, multi-parton interactions on", ()),
    "a14": ("A14 (ATLAS), NNPDF2.3 LO, multi-parton interactions on", ("Tune:pp = 21",)),
}

QUARKS = "1 2 3 4 5"
LEPTONS = "11 13"
INVISIBLE_Z = ("23:onMode = off", "23:onIfAny = 12 14 16")
HADRONIC_W = ("24:onMode = off", f"24:onIfAny = {QUARKS}")
HIGGS = ("HiggsSM:ffbar2HZ = on", "25:onMode = off", *INVISIBLE_Z)
TOPS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on")


@dataclass(frozen=True)
class Cuts:
    """Which jets are kept.

    Args:
        radius: of the anti-kT jets.
        pt_min, pt_max: accepted jet pT [GeV].
        eta_max: accepted |jet eta|.
    """

    radius: float
    pt_min: float
    pt_max: float
    eta_max: float


@dataclass(frozen=True)
class Process:
    """One class of jets, or one flavour sample.

    Args:
        name: the class, without JetClass's ``label_``.
        settings: lines for `Pythia.readString`.
        resonance: PDG id of what the jet must contain; 0 where any jet of the event counts.
        variants: further lines, one set for every second (third, ...) chunk of events, where one setting cannot say it.
        about: one line for people.
        cuts: which jets are kept where nothing else is asked for.
        flavour: every jet of the event is kept, with tracks and labels for flavour tagging.
    """

    name: str
    settings: tuple[str, ...]
    resonance: int
    about: str
    variants: tuple[tuple[str, ...], ...] = field(default=((),))
    cuts: Cuts = Cuts(0.8, 500.0, 1000.0, 2.0)
    flavour: bool = False

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

# Long-lived hadrons live until the tracker ends: V0 decays inside it are simulated, and those outside are not.
_TRACKER = ("ParticleDecays:limitCylinder = on", "ParticleDecays:xyMax = 300", "ParticleDecays:zMax = 1000")
# A Z' of mass m gives jets up to pT = m / 2, most of them near there, and radiates jets of any lower pT: closer steps
# at the top make the spectrum of all of them nearly flat above 2 TeV. Branching ratios are those of the Z's couplings.
_MASSES = (1000, 3000, 5000, 7000, 9000, 10_500, 11_500, 12_500)

_FLAVOUR = (
    Process(
        "ttbar",
        (*TOPS, *_TRACKER),
        0,
        "all jets of top pairs: b, c, tau and light",
        cuts=Cuts(0.4, 20.0, 250.0, 2.5),
        flavour=True,
    ),
    Process(
        "zprime",
        (
            "NewGaugeBoson:ffbar2gmZZprime = on",
            "Zprime:gmZmode = 3",
            "32:onMode = off",
            "32:onIfAny = 1 2 3 4 5 15",
            *_TRACKER,
        ),
        0,
        "jets of Z' -> qq, cc, bb, tau tau, nearly flat in pT",
        tuple((f"32:m0 = {m:g}", f"32:mMin = {0.9 * m:g}", f"32:mMax = {min(1.1 * m, 12_950):g}") for m in _MASSES),
        cuts=Cuts(0.4, 250.0, 6000.0, 2.5),
        flavour=True,
    ),
)

PROCESSES = {process.name: process for process in _ALL}
FLAVOUR_PROCESSES = {process.name: process for process in _FLAVOUR}
LABELS = tuple(process.label for process in _ALL)


def find_process(name: str) -> Process:
    """The process of that name, whatever its case.

    Raises:
        UsageError: there is none.
    """
    every = {**PROCESSES, **FLAVOUR_PROCESSES}
    exact = every.get(name)
    if exact is not None:
        return exact
    for known, process in every.items():
        if known.lower() == name.lower():
            return process
    raise UsageError(f"unknown process {name!r}", do=nearest(name, every))
