"""How long the phases before the function take, which the run's labels tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

LABEL = "kinetic.seconds."
"""Beginning of the labels that tell it, as in `kinetic_flows/clients/prefect/labels.py`."""

WORTH_TELLING_SECONDS = 1.0
"""What takes less is not told, so that a short run makes no request for it."""


class Phases:
    """Measures phases: `fetch` of code and call, `install` of requirements, `data`."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Measure a phase, whose block this is."""
        begun = time.monotonic()
        yield
        self.add(phase, time.monotonic() - begun)

    def add(self, phase: str, seconds: float) -> None:
        """Add to how long a phase took."""
        self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    def labels(self) -> dict[str, float]:
        """Return the labels that tell what is worth it; empty when nothing is."""
        if sum(self._seconds.values()) < WORTH_TELLING_SECONDS:
            return {}
        return {f"{LABEL}{phase}": round(seconds, 3) for phase, seconds in self._seconds.items()}
