"""What can be asked about a run besides its state, its output and its result."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from kinetic_flows.core.api_boundary import at_api_boundary
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.runs.insight import stacks as run_stacks
    from kinetic_flows.runs.insight.stacks import RunStacks
    from kinetic_flows.runs.kept_session import KeptSession
else:
    run_stacks = LazyModule("kinetic_flows.runs.insight.stacks")


class RunInsight:
    """Looks into a run, which the class that inherits this one is the handle of."""

    if TYPE_CHECKING:

        @property
        def id(self) -> str:
            """The run's id."""

        @cached_property
        def _sessions(self) -> KeptSession: ...

    @at_api_boundary
    def stacks(self, host: int | None = None) -> RunStacks:
        """Return what every thread of the run does now, while native code of it hangs, too.

        As text it is what `kinetic runs stacks` prints: a sentence that names the host that does
        something else than most, and each stack once.

        Args:
            host: The only host to look at, by its number counted over all slices; None for all.

        Raises:
            UsageError: The run is over, has not come to its function, or has no such host.
            LaunchError: Its pods cannot be reached.
        """
        with self._sessions.session() as session:
            record = session.api.read_run(self.id)
            return run_stacks.read_stacks(session, record, host)
