"""The numbers of two detectors, taken from the public Delphes cards.

`cms` is the card that JetClass was made with (github.com/jet-universe/jetclass_generation, `delphes_card.tcl`: the
Delphes 3.5 CMS card with the impact-parameter resolutions of `trackResolutionCMS.tcl`, digitised from
arXiv:1405.6569 fig. 15). `atlas` is `delphes_card_ATLAS.tcl` with the impact parameters of `trackResolutionATLAS.tcl`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from jettag.simulate.events import Floats, Ints

__all__ = ["DETECTORS", "FLAVOUR_DETECTORS", "Calorimeter", "Detector", "ImpactTable"]


@dataclass(frozen=True)
class ImpactTable:
    """Resolution of the impact parameters in steps of |eta| and pT.

    Args:
        eta: (K,) upper edges of |eta|.
        pt: (L,) upper edges of pT [GeV], the last one open.
        d0, dz: (K, L) resolutions [mm].
    """

    eta: Floats
    pt: Floats
    d0: Floats
    dz: Floats

    def resolutions(self, pt: Floats, eta: Floats) -> tuple[Floats, Floats]:
        """Sigma of d0 and dz [mm], (P,) each. Below the first step its value holds: a track never has error zero."""
        row = np.minimum(np.searchsorted(self.eta, np.abs(eta)), len(self.eta) - 1)
        column = np.minimum(np.searchsorted(self.pt, pt), len(self.pt) - 1)
        return self.d0[row, column], self.dz[row, column]


@dataclass(frozen=True)
class Calorimeter:
    """One calorimeter: towers, resolution, thresholds.

    Args:
        eta_edges: (T + 1,) edges of the towers.
        phi_bins: (T,) towers in azimuth at each step of eta.
        resolution: sigma [GeV] from |eta| and energy [GeV].
        energy_min: [GeV], and `significance_min` in units of the resolution: weaker towers are noise.
    """

    eta_edges: Floats
    phi_bins: Ints
    resolution: Callable[[Floats, Floats], Floats]
    energy_min: float
    significance_min: float


@dataclass(frozen=True)
class Detector:
    """A detector.

    Args:
        name: of the card.
        field: solenoid field along +z [T], `radius` and `half_length` of its volume [mm].
        hadron_efficiency, electron_efficiency, muon_efficiency: probability of a track from pT [GeV] and |eta|.
        hadron_resolution, electron_resolution, muon_resolution: relative sigma of pT from pT [GeV] and |eta|.
        impact: d0 and dz.
        ecal, hcal: the calorimeters.
        exact_tracks: tracks keep the true momentum and count as having no error of their own, see `detector.respond`.
    """

    name: str
    field: float
    radius: float
    half_length: float
    hadron_efficiency: Callable[[Floats, Floats], Floats]
    electron_efficiency: Callable[[Floats, Floats], Floats]
    muon_efficiency: Callable[[Floats, Floats], Floats]
    hadron_resolution: Callable[[Floats, Floats], Floats]
    electron_resolution: Callable[[Floats, Floats], Floats]
    muon_resolution: Callable[[Floats, Floats], Floats]
    impact: ImpactTable
    ecal: Calorimeter
    hcal: Calorimeter
    exact_tracks: bool


def _steps(
    eta_edges: tuple[float, ...], pt_edges: tuple[float, ...], values: tuple[tuple[float, ...], ...]
) -> Callable[[Floats, Floats], Floats]:
    """A table in |eta| (upper edges) and pT (lower edges); zero beyond the last |eta| and below the first pT."""
    table = np.zeros((len(eta_edges) + 1, len(pt_edges) + 1))
    table[:-1, 1:] = values

    def look_up(pt: Floats, eta: Floats) -> Floats:
        found: Floats = table[np.searchsorted(eta_edges, eta), np.searchsorted(pt_edges, pt)]
        return found

    return look_up


def _pt_resolution(*terms: tuple[float, float]) -> Callable[[Floats, Floats], Floats]:
    """Relative sigma a (+) b pT in |eta| up to 0.5, 1.5, 2.5."""
    constant, slope = np.array([*terms, terms[-1]]).T

    def relative(pt: Floats, eta: Floats) -> Floats:
        at = np.searchsorted((0.5, 1.5, 2.5), eta)
        found: Floats = np.hypot(constant[at], slope[at] * pt)
        return found

    return relative


def _muon_efficiency(pt: Floats, eta: Floats) -> Floats:
    flat = _steps((1.5, 2.5), (0.1, 1.0), ((0.75, 0.99), (0.70, 0.98)))(pt, eta)
    return np.where(pt > 1000.0, flat * np.exp(0.5 - np.maximum(pt, 1000.0) * 5e-4), flat)


_HADRON_EFFICIENCY = _steps((1.5, 2.5), (0.1, 1.0), ((0.70, 0.95), (0.60, 0.85)))
_ELECTRON_EFFICIENCY = _steps((1.5, 2.5), (0.1, 1.0, 100.0), ((0.73, 0.95, 0.99), (0.50, 0.83, 0.90)))
_HADRON_RESOLUTION = _pt_resolution((0.06, 1.3e-3), (0.10, 1.7e-3), (0.25, 3.1e-3))
_ELECTRON_RESOLUTION = _pt_resolution((0.03, 1.3e-3), (0.05, 1.7e-3), (0.15, 3.1e-3))
_MUON_RESOLUTION = _pt_resolution((0.01, 1.0e-4), (0.015, 1.5e-4), (0.025, 3.5e-4))


def _grid(*bands: tuple[tuple[float, ...], int]) -> tuple[Floats, Ints]:
    """Towers from the cards' lists: each eta edge closes a row of towers with that many steps in azimuth."""
    edges = sorted((round(edge, 6), bins) for values, bins in bands for edge in values)
    return np.array([edge for edge, _ in edges]), np.array([bins for _, bins in edges[1:]], dtype=np.int64)


_CRYSTAL = 0.0174
_FORWARD = (3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0)
_ECAL_GRID = _grid(
    (tuple(i * _CRYSTAL for i in range(-85, 87)), 360),
    (tuple(-2.958 + i * _CRYSTAL for i in range(1, 85)), 360),
    (tuple(1.4964 + i * _CRYSTAL for i in range(1, 85)), 360),
    ((-2.958, *_FORWARD, *(-edge for edge in _FORWARD)), 36),
)
_CMS_HCAL_GRID = _grid(
    (tuple(i * 0.087 for i in range(-18, 20)), 72),
    (
        (-4.35, -4.175, -4.0, -3.825, -3.65, -3.475, -3.3, -3.125, -2.95, -2.868, -2.65, -2.5, -2.322, -2.172, -2.043),
        36,
    ),
    ((-1.93, -1.83, -1.74, -1.653, 1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95), 36),
    ((3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525), 36),
    ((-5.0, -4.7, -4.525, 4.7, 5.0), 18),
)
_ATLAS_HCAL_GRID = _grid(
    ((-3.2, *(i * 0.1 for i in range(-25, 27)), 3.3), 36),
    ((-4.9, -4.7, -4.5, -4.3, -4.1, -3.9, -3.7, -3.5, -3.3, -3.0, -2.8, -2.6), 18),
    ((2.8, 3.0, 3.2, 3.5, 3.7, 3.9, 4.1, 4.3, 4.5, 4.7, 4.9), 18),
)


def _cms_ecal(eta: Floats, energy: Floats) -> Floats:
    """arXiv:1306.2016 (eta shape) and 1502.02701 (energy shape)."""
    core = np.sqrt((0.008 * energy) ** 2 + 0.11**2 * energy + 0.40**2)
    forward = np.sqrt((0.107 * energy) ** 2 + 2.08**2 * energy)
    endcap = (2.16 + 5.6 * (eta - 2.0) ** 2) * core
    sigma: Floats = np.where(eta <= 1.5, (1.0 + 0.64 * eta**2) * core, np.where(eta <= 2.5, endcap, forward))
    return sigma


def _cms_hcal(eta: Floats, energy: Floats) -> Floats:
    constant, stochastic = np.where(eta <= 3.0, 0.050, 0.130), np.where(eta <= 3.0, 1.50, 2.70)
    return np.sqrt((constant * energy) ** 2 + stochastic**2 * energy)


def _atlas_ecal(eta: Floats, energy: Floats) -> Floats:
    constant, stochastic = np.where(eta <= 3.2, 0.0017, 0.0350), np.where(eta <= 3.2, 0.101, 0.285)
    return np.sqrt((constant * energy) ** 2 + stochastic**2 * energy)


def _atlas_hcal(eta: Floats, energy: Floats) -> Floats:
    at = np.searchsorted((1.7, 3.2), eta)
    constant, stochastic = np.array((0.0302, 0.0500, 0.09420))[at], np.array((0.5205, 0.706, 1.00))[at]
    noise = np.array((1.59, 0.0, 0.0))[at]
    sigma: Floats = np.sqrt((constant * energy) ** 2 + stochastic**2 * energy + noise**2)
    return sigma


# Upper pT edges [GeV] of the digitised curves, and the curves [mm] for |eta| up to 0.9, 1.4, 2.5.
_CMS_PT = (
    0.2227, 0.2720, 0.3323, 0.4060, 0.4959, 0.6058, 0.7401, 0.9041, 1.1044, 1.3492, 1.6481, 2.0134, 2.4595, 3.0045,
    3.6703, 4.4837, 5.4772, 6.6910, 8.1737, 9.9849, 12.1976, 14.9005, 18.2024, 22.2360, 27.1635, 33.1828, 40.5360,
    49.5187, 60.4919, 73.8967, 90.2720, 110.2760, 134.7130, np.inf,
)  # fmt: skip
_CMS_D0 = (
    (0.3543, 0.2809, 0.2304, 0.1917, 0.1737, 0.1434, 0.1060, 0.0893, 0.0753, 0.0670, 0.0577, 0.0524, 0.0452, 0.0376,
     0.0350, 0.0324, 0.0283, 0.0258, 0.0237, 0.0211, 0.0191, 0.0164, 0.0150, 0.0143, 0.0130, 0.0130, 0.0116,
     0.0116, 0.0110, 0.0110, 0.0110, 0.0104, 0.0109, 0.0110),
    (0.4564, 0.3580, 0.3010, 0.2353, 0.2026, 0.1595, 0.1383, 0.1119, 0.0926, 0.0816, 0.0663, 0.0553, 0.0488, 0.0431,
     0.0399, 0.0357, 0.0313, 0.0277, 0.0233, 0.0221, 0.0214, 0.0180, 0.0155, 0.0141, 0.0128, 0.0134, 0.0121,
     0.0108, 0.0101, 0.0101, 0.0101, 0.0102, 0.0088, 0.0095),
    (0.6970, 0.6046, 0.5315, 0.4306, 0.3398, 0.2788, 0.2387, 0.1814, 0.1557, 0.1230, 0.1009, 0.0914, 0.0767, 0.0638,
     0.0544, 0.0468, 0.0425, 0.0385, 0.0331, 0.0278, 0.0256, 0.0236, 0.0217, 0.0196, 0.0176, 0.0165, 0.0157,
     0.0150, 0.0144, 0.0144, 0.0137, 0.0130, 0.0137, 0.0137),
)  # fmt: skip
_CMS_DZ = (
    (0.3693, 0.3135, 0.3125, 0.2578, 0.2221, 0.1936, 0.1686, 0.1351, 0.1113, 0.0983, 0.0882, 0.0786, 0.0684, 0.0615,
     0.0551, 0.0516, 0.0484, 0.0450, 0.0416, 0.0416, 0.0382, 0.0350, 0.0317, 0.0316, 0.0316, 0.0316, 0.0348,
     0.0316, 0.0316, 0.0316, 0.0284, 0.0283, 0.0315, 0.0318),
    (0.7062, 0.6010, 0.5992, 0.4959, 0.3877, 0.3199, 0.2649, 0.2518, 0.1982, 0.1587, 0.1399, 0.1199, 0.1031, 0.0967,
     0.0805, 0.0736, 0.0707, 0.0603, 0.0609, 0.0541, 0.0511, 0.0443, 0.0409, 0.0408, 0.0409, 0.0377, 0.0375,
     0.0377, 0.0342, 0.0342, 0.0343, 0.0343, 0.0309, 0.0310),
    (2.1717, 2.0715, 2.0679, 1.7679, 1.4393, 1.1997, 0.9800, 0.8251, 0.6695, 0.5545, 0.4366, 0.3711, 0.3319, 0.2721,
     0.2443, 0.2085, 0.1816, 0.1641, 0.1451, 0.1317, 0.1117, 0.1020, 0.1017, 0.0983, 0.0882, 0.0847, 0.0814,
     0.0784, 0.0817, 0.0750, 0.0816, 0.0820, 0.0814, 0.0850),
)  # fmt: skip

_CMS_IMPACT = ImpactTable(np.array((0.9, 1.4, 2.5)), np.array(_CMS_PT), np.array(_CMS_D0), np.array(_CMS_DZ))
# The ATLAS table steps d0 at 10 and dz at 15 GeV: both edges are kept.
_ATLAS_IMPACT = ImpactTable(
    np.array((2.5,)),
    np.array((1.0, 2.0, 4.0, 6.0, 10.0, 15.0, 30.0, np.inf)),
    np.array(((0.080, 0.045, 0.028, 0.020, 0.016, 0.014, 0.014, 0.0115),)),
    np.array(((0.140, 0.096, 0.075, 0.058, 0.055, 0.055, 0.050, 0.047),)),
)


def _detector(
    name: str,
    *,
    field: float,
    radius: float,
    half_length: float,
    impact: ImpactTable,
    ecal: Calorimeter,
    hcal: Calorimeter,
    exact_tracks: bool,
) -> Detector:
    """Both cards share efficiencies and momentum resolutions."""
    return Detector(
        name,
        field,
        radius,
        half_length,
        _HADRON_EFFICIENCY,
        _ELECTRON_EFFICIENCY,
        _muon_efficiency,
        _HADRON_RESOLUTION,
        _ELECTRON_RESOLUTION,
        _MUON_RESOLUTION,
        impact,
        ecal,
        hcal,
        exact_tracks,
    )


DETECTORS = {
    "cms": _detector(
        "cms",
        field=3.8,
        radius=1290.0,
        half_length=3000.0,
        impact=_CMS_IMPACT,
        ecal=Calorimeter(*_ECAL_GRID, _cms_ecal, 0.5, 2.0),
        hcal=Calorimeter(*_CMS_HCAL_GRID, _cms_hcal, 1.0, 1.0),
        exact_tracks=True,
    ),
    "atlas": _detector(
        "atlas",
        field=2.0,
        radius=1150.0,
        half_length=3510.0,
        impact=_ATLAS_IMPACT,
        ecal=Calorimeter(*_ECAL_GRID, _atlas_ecal, 0.5, 2.0),
        hcal=Calorimeter(*_ATLAS_HCAL_GRID, _atlas_hcal, 1.0, 2.0),
        exact_tracks=False,
    ),
}

# The cards' momentum errors of charged hadrons are those of particles in calorimeter jets; trackers measure a few GeV
# to one or two per cent, a fifth of them. Flavour samples use that, and keep the tracks' own momenta.
_TRACKER_RESOLUTION = _pt_resolution((0.012, 2.6e-4), (0.02, 3.4e-4), (0.05, 6.2e-4))
FLAVOUR_DETECTORS = {
    name: replace(card, hadron_resolution=_TRACKER_RESOLUTION, exact_tracks=False) for name, card in DETECTORS.items()
}
