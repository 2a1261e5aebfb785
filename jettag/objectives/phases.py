"""When the backbone of a run is frozen, and what learning rates follow from that."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ALL_AT_ONCE", "FROZEN", "Phases"]


@dataclass(frozen=True)
class Phases:
    """A run whose backbone is frozen for its first share; everything is a share of the run's progress from 0 to 1.

    Attributes:
        frozen: share with the backbone frozen; 0 never, 1 always.
        ramp: share after that over which the backbone's learning rate climbs from 0 to the head's.
        restart: the schedule runs over each phase of its own, instead of over the whole run.
        first_rate: learning rate of the first phase, relative to the recipe's.
        backbone_rate: learning rate of the free backbone, relative to the head's.
    """

    frozen: float = 0.0
    ramp: float = 0.0
    restart: bool = False
    first_rate: float = 1.0
    backbone_rate: float = 1.0

    def is_frozen(self, progress: float) -> bool:
        """Whether the backbone is frozen at ``progress``; at the very end only where it is always."""
        return progress < self.frozen or self.frozen >= 1

    def rates(self, progress: float, factor: Callable[[float], float]) -> tuple[float, float]:
        """Learning rates of the head and of the backbone at ``progress``, relative to the recipe's.

        Args:
            progress: of the run.
            factor: the schedule.
        """
        if self.frozen >= 1:
            return factor(progress) * self.first_rate, 0.0
        if self.is_frozen(progress):
            return factor(progress / self.frozen if self.restart else progress) * self.first_rate, 0.0
        rate = factor((progress - self.frozen) / (1 - self.frozen) if self.restart else progress)
        climbed = min((progress - self.frozen) / self.ramp, 1.0) if self.ramp else 1.0
        return rate, rate * climbed * self.backbone_rate


ALL_AT_ONCE = Phases()
FROZEN = Phases(frozen=1.0)
