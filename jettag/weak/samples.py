"""Events with a mass, and what a search in one signal region may learn from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jettag.weak.windows import Window

__all__ = ["Region", "Sample"]


@dataclass(frozen=True)
class Sample:
    """Events: features (n, F) and mass (n,)."""

    features: npt.NDArray[np.float32]
    mass: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mass)

    def select(self, rows: npt.NDArray) -> "Sample":
        """The events at ``rows``: positions, or (n,) bool."""
        return Sample(self.features[rows], self.mass[rows])

    def join(self, other: "Sample") -> "Sample":
        """These events and others."""
        features = np.concatenate([self.features, other.features])
        return Sample(features, np.concatenate([self.mass, other.mass]))

    def with_mass(self) -> npt.NDArray[np.float64]:
        """(n, F + 1): the mass as one more feature."""
        return np.column_stack([self.features, self.mass])


@dataclass(frozen=True)
class Region:
    """What there is to learn from.

    Attributes:
        window: signal region and side-bands.
        data: unlabelled events; those of the window are used.
        background: true background of the signal region, of the two bounds alone.
        signal: true signal of the signal region, of the ceiling alone.
        simulation: events of a simulation without signal, of SALAD and FETA alone.
    """

    window: Window
    data: Sample
    background: Sample | None = None
    signal: Sample | None = None
    simulation: Sample | None = None

    @property
    def inside(self) -> Sample:
        """Data of the signal region."""
        return self.data.select(self.window.inside(self.data.mass))

    @property
    def beside(self) -> Sample:
        """Data of the side-bands."""
        return self.data.select(self.window.beside(self.data.mass))
