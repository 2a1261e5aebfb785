"""When a run ends."""

import math
from dataclasses import dataclass, replace

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """When a run ends: after ``max_steps`` updates, or when ``max_seconds`` of training are used up.

    The learning rate falls with whichever limit is nearer, so that a run ended by time is a finished run.
    """

    max_steps: int
    max_seconds: float = math.inf

    def sooner(self, seconds: float) -> "Limits":
        """The limits of training alone, when what comes after the last step takes so many ``seconds``."""
        return replace(self, max_seconds=max(self.max_seconds - seconds, 1e-3))

    def progress(self, step: int, seconds: float) -> float:
        """Fraction of the run that is done."""
        return min(max(step / self.max_steps, seconds / self.max_seconds), 1.0)

    def reached(self, step: int, seconds: float) -> str | None:
        """The name of the limit that is reached, if one is."""
        if step >= self.max_steps:
            return "max_steps"
        return "max_time" if seconds >= self.max_seconds else None
