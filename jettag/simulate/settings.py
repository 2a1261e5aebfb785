"""What a run of the generator is asked for, checked before anything heavy is imported."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from jettag.errors import UsageError
from jettag.simulate.processes import BEAM_ENERGY, Cuts, Process, find_process

__all__ = ["MAX_SEED", "Association", "DetectorName", "FileKind", "GenerateSettings", "TuneName", "parse_range"]

DetectorName = Literal["cms", "atlas", "none"]
TuneName = Literal["monash", "a14"]
FileKind = Literal["ttree", "rntuple", "parquet"]
Association = Literal["cone", "ghost"]

MAX_SEED = 899_999_999  # one below Pythia's own limit of Random:seed
MAX_RADIUS = 3.0  # half the azimuth: no jet is wider
MAX_ETA = 4.0  # calorimeters end at 5
MAX_PILEUP = 300.0


@dataclass(frozen=True)
class GenerateSettings:
    """The jets that are wanted. Everything here, and nothing else, decides the content of the files.

    Args:
        processes: names from `jettag.simulate.processes.PROCESSES`, one file (or set of files) each.
        jets: jets of each process.
        seed: any integer from 0 to 899,999,999.
        radius: of the anti-kT jets; None, here and for the other cuts, is what the process has itself.
        pt_min, pt_max: accepted jet pT [GeV].
        eta_max: accepted |jet eta|.
        pileup: mean number of overlaid inelastic collisions, Poisson distributed.
        detector: `cms` (the card of JetClass), `atlas`, or `none` for the particle level.
        kind: file format.
        jets_per_file: a process with more jets is split into numbered files.
        association: of tracks and jets in flavour samples: a cone that shrinks with pT, or ghosts in the clustering.
        tune: of Pythia, from `jettag.simulate.processes.TUNES`; pile-up keeps Pythia's own.
        material: photon conversions and nuclear interactions in the tracker, in flavour samples.

    Raises:
        UsageError: a value that cannot be used.
    """

    processes: tuple[str, ...]
    jets: int
    seed: int = 0
    radius: float | None = None
    pt_min: float | None = None
    pt_max: float | None = None
    eta_max: float | None = None
    pileup: float = 0.0
    detector: DetectorName = "cms"
    kind: FileKind = "ttree"
    jets_per_file: int = 100_000
    association: Association = "cone"
    material: bool = False
    tune: TuneName = "monash"

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if not self.processes:
            raise UsageError("no process named", do="name one or more, as in `jettag generate QCD,Tbqq`")
        repeated = sorted({name for name in self.processes if self.processes.count(name) > 1})
        if repeated:
            raise UsageError(f"process named twice ({', '.join(repeated)})", do="name each process once")
        if self.jets < 1:
            raise UsageError(f"expected at least one jet, got {self.jets}", where="--jets")
        if self.jets_per_file < 1:
            raise UsageError(f"expected at least one jet a file, got {self.jets_per_file}", where="--jets-per-file")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"expected a seed from 0 to {MAX_SEED}, got {self.seed}", where="--seed")
        if not 0 <= self.pileup <= MAX_PILEUP:
            raise UsageError(f"expected pile-up from 0 to {MAX_PILEUP:g}, got {self.pileup:g}", where="--pileup")
        for name in self.processes:
            _check_cuts(self.cuts(find_process(name)))

    def cuts(self, process: Process) -> Cuts:
        """What is asked for, and where nothing is, the cuts of the process."""
        asked = {name: getattr(self, name) for name in ("radius", "pt_min", "pt_max", "eta_max")}
        return replace(process.cuts, **{name: value for name, value in asked.items() if value is not None})


def _check_cuts(cuts: Cuts) -> None:
    if not 0 < cuts.radius <= MAX_RADIUS:
        raise UsageError(f"expected a radius above 0 and up to {MAX_RADIUS:g}, got {cuts.radius:g}", where="--radius")
    if not 0 < cuts.eta_max <= MAX_ETA:
        raise UsageError(f"expected |eta| above 0 and up to {MAX_ETA:g}, got {cuts.eta_max:g}", where="--eta")
    if not (math.isfinite(cuts.pt_min) and math.isfinite(cuts.pt_max) and 0 < cuts.pt_min < cuts.pt_max):
        raise UsageError(
            f"expected LOW:HIGH with 0 < LOW < HIGH (GeV), got {cuts.pt_min:g}:{cuts.pt_max:g}",
            where="--pt",
            do="give the lower edge first, as in --pt 500:1000",
        )
    if cuts.pt_min < 20:
        raise UsageError(
            f"jets below 20 GeV are not simulated, got {cuts.pt_min:g}",
            where="--pt",
            do="raise the lower edge; the hard process has no meaning there",
        )
    if cuts.pt_min >= BEAM_ENERGY / 2:
        raise UsageError(
            f"no jet can have pT above {BEAM_ENERGY / 2:g} GeV at {BEAM_ENERGY:g} GeV, got {cuts.pt_min:g}",
            where="--pt",
            do="lower the edges",
        )


def parse_range(text: str) -> tuple[float, float]:
    """Read `LOW:HIGH` in GeV; `LOW:` goes up to the kinematic limit.

    Raises:
        UsageError: no two numbers.
    """
    low, separator, high = text.partition(":")
    try:
        edges = float(low), float(high) if high.strip() else BEAM_ENERGY / 2
    except ValueError:
        edges = (math.nan, math.nan)
    if not separator or any(math.isnan(edge) for edge in edges):
        raise UsageError(f"expected LOW:HIGH (GeV), got {text!r}", where="--pt", do="write, say, --pt 500:1000")
    return edges
