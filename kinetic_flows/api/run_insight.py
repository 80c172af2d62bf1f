"""What can be asked about a run besides its state, its output and its result."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.timings import timings_of
from kinetic_flows.core.api_boundary import at_api_boundary
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.runs.settle import synced_record, ticket_of

if TYPE_CHECKING:
    from kinetic_flows.api.run import Run
    from kinetic_flows.core.run_metrics import RunMetrics
    from kinetic_flows.runs.compare import diff, named
    from kinetic_flows.runs.compare.difference import RunDiff
    from kinetic_flows.runs.insight import metrics as run_metrics
    from kinetic_flows.runs.insight import profile as run_profile
    from kinetic_flows.runs.insight import stacks as run_stacks
    from kinetic_flows.runs.insight import why as run_why
    from kinetic_flows.runs.insight.profile import RunProfile
    from kinetic_flows.runs.insight.stacks import RunStacks
    from kinetic_flows.runs.insight.why import Explanation
    from kinetic_flows.runs.kept_session import KeptSession
else:
    diff = LazyModule("kinetic_flows.runs.compare.diff")
    named = LazyModule("kinetic_flows.runs.compare.named")
    run_metrics = LazyModule("kinetic_flows.runs.insight.metrics")
    run_profile = LazyModule("kinetic_flows.runs.insight.profile")
    run_stacks = LazyModule("kinetic_flows.runs.insight.stacks")
    run_why = LazyModule("kinetic_flows.runs.insight.why")


class RunInsight:
    """Looks into a run, which the class that inherits this one is the handle of."""

    if TYPE_CHECKING:

        @property
        def id(self) -> str:
            """The run's id."""

        @cached_property
        def _sessions(self) -> KeptSession: ...

    @at_api_boundary
    def profile(self, seconds: float = 10.0, host: int | None = None) -> RunProfile:
        """Profile the run's next seconds with the profiler of jax or torch, as its function uses.

        The trace is put among the run's outputs. As text it is what `kinetic runs profile`
        prints: where it is, and how to look at it.

        Args:
            seconds: How long. Up to 10 seconds, Python's own calls are in a trace of jax, too.
            host: The only host to profile, by its number counted over all slices; None for all,
                at the same time.

        Raises:
            UsageError: The run is over, has not come to its function, has no such host, or uses
                neither jax nor torch.
            LaunchError: Its pods cannot be reached.
        """
        with self._sessions.session() as session:
            record = session.api.read_run(self.id)
            return run_profile.take_profile(session, record, seconds, host)

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

    @at_api_boundary
    def why(self) -> Explanation:
        """Return why the run ended: the likely cause in one sentence, and what says so.

        As text it is what `kinetic runs why` prints; `cause` is for programs. Its hosts' black
        boxes are read from the store, and the cluster is asked where nobody has kept yet what it
        says. A run that goes on, that returned or was cancelled has no more to say than that.

        Raises:
            StoreError: What the run left cannot be read.
        """
        with self._sessions.session() as session:
            record = session.api.read_run(self.id)
            record = synced_record(record, ticket_of(record), session.platform, session.api)
            return run_why.why(session, record)

    @at_api_boundary
    def timings(self) -> dict[str, float]:
        """Return how many seconds each phase of the run took, in their order, as far as known.

        `plan`, `lock`, `build` and `upload` are its client's; `wait` is until its process began,
        of which on Kubernetes `node` and `pull` are parts where they took some time; `fetch`,
        `install` and `data` are what comes before the function, and `run` is the function.
        """
        with self._sessions.session() as session:
            return timings_of(session.api.read_run(self.id))

    @at_api_boundary
    def diff(self, other: Run[object] | str) -> RunDiff:
        """Return what differs between this run and a later one; `print(run.diff(other))` says it.

        Nothing is unpickled: of arguments and of what was returned their short texts are compared.
        What has expired, or cannot be read from here, is in the `unknown` of what is returned.

        Args:
            other: The other run, or its id, which may be short.

        Raises:
            RunNotFoundError: There is no such run.
            UsageError: It is this run.
        """
        text = other if isinstance(other, str) else other.id
        with self._sessions.session() as session:
            later = named.named_run(text, session)
            return diff.diff_runs(session.api.read_run(self.id), later, session)

    @at_api_boundary
    def metrics(self) -> RunMetrics:
        """Return what the run's hosts have used: chips, CPUs, memory, disk and network.

        While the run goes on they are asked; afterwards it is what they have stored. In a notebook
        it is shown with a picture; `pandas.DataFrame(run.metrics().rows())` has every reading.

        Raises:
            StoreError: What was stored cannot be read.
        """
        with self._sessions.session() as session:
            return run_metrics.run_metrics(session, session.api.read_run(self.id))
