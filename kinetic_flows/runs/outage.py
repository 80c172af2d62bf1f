"""A Prefect API that does not answer: runs go on, and whoever watches is told once."""

from __future__ import annotations

from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.progress import Progress


class Outage:
    """Whether the Prefect API of a session is out of reach.

    Args:
        progress: Told of the first outage.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._has_told = False
        self.is_on = False

    def note(self, error: KineticError) -> None:
        """Take note that the API could not be told or asked something."""
        self.is_on = True
        if not self._has_told:
            self._has_told = True
            self._progress.warning(
                f"{error.message}; runs go on without it, their results are kept in the store, and "
                "their states are set when somebody looks again (`kinetic runs ls`)"
            )

    def end(self) -> None:
        """Take note that the API has answered."""
        self.is_on = False
