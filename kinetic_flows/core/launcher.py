"""The launcher, which starts, observes and stops the processes of runs, and the work pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from kinetic_flows.core.accelerators import Accelerator, NodePool
from kinetic_flows.core.accelerators.node_requests import NodeRequest
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.secret_sources import SecretSource
from kinetic_flows.core.settings.cloud import Prebuilt
from kinetic_flows.core.volumes import Volume

if TYPE_CHECKING:
    # Most calls name one accelerator, and plans alone ask what is free.
    from kinetic_flows.core.candidates import Launch
    from kinetic_flows.core.pool_rooms import PoolRoom
    from kinetic_flows.core.process_facts import ProcessFacts

STARTING = "starting"
"""Cause of a process that is Pending because it has just begun to start."""


class Phase(Enum):
    """The phase of a launched process: of a child process here, or of a pod."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.GONE)


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """A request to start one run of one job in one image.

    Attributes:
        run_id: The run's id.
        name: The function's name.
        image: The image it runs in.
        environment: Variables of its process.
        job_variables: What the work pool's job template is given.
        template: That template; None for the one that ships.
        launch: Which start of which of its candidates it is; None where a run has one start.
        slice: Which of its slices it is; None for all of them.
    """

    run_id: str
    name: str
    image: ResolvedImage
    environment: Mapping[str, str] = field(repr=False)
    job_variables: Mapping[str, Any]
    template: Mapping[str, Any] | None = None
    launch: Launch | None = None
    slice: int | None = None

    @property
    def key(self) -> str:
        """By what the launcher knows the process: the run's id, or that of its launch or slice."""
        key = self.launch.key(self.run_id) if self.launch else self.run_id
        return key if self.slice is None else f"{key}-s{self.slice}"


@dataclass(frozen=True, kw_only=True)
class PodRequests:
    """What is said of the CPUs and the memory that each pod of a run asks for.

    Attributes:
        cpu: CPUs; None where nobody says.
        memory: Memory; None where nobody says.
        memory_limit: How much memory it may use at most; None for all that the node has.
    """

    cpu: str | None = None
    memory: str | None = None
    memory_limit: str | None = None


@dataclass(frozen=True, kw_only=True)
class LaunchNeeds:
    """The needs of a launch, which a preflight holds against the cluster.

    Attributes:
        accelerator: What the run is to run on.
        service_account: Kubernetes service account of its pods; None for the default one.
        prefect_api_url: Where it is to report; None when that is not known.
        security_context: What its containers may do on their nodes; None when only the image
            will tell.
        packages: How packages are to come into a prebuilt image; `install` for other images,
            where the cluster is asked nothing.
        no_packages_volume: Why they cannot be mounted whatever the cluster can; empty if they can.
        volumes: What its pods are to have mounted, arguments among it.
        no_volumes: Why its pods cannot have volumes whatever the cluster can; empty if they can.
        secrets: Which keys of Kubernetes Secrets its pods are to have.
        no_secrets: Why they cannot have them whatever the cluster has; empty if they can.
        no_variables: What is set that the work pool's template has no place for; empty for none.
        requests: What is said of the CPUs and the memory that they ask for.
        no_slices: Why they cannot be placed as several slices are whatever the cluster has; empty
            if they can.
        no_room: Why no machine could ever hold one of them; empty if one may.
        nodes: What its pods ask of nodes besides the accelerator.
    """

    accelerator: Accelerator
    service_account: str | None = None
    prefect_api_url: str | None = None
    security_context: Mapping[str, Any] | None = None
    packages: Prebuilt = "install"
    no_packages_volume: str = ""
    volumes: tuple[Volume, ...] = ()
    no_volumes: str = ""
    secrets: tuple[SecretSource, ...] = ()
    no_secrets: str = ""
    no_variables: str = ""
    requests: PodRequests = field(default_factory=PodRequests)
    no_slices: str = ""
    no_room: str = ""
    nodes: NodeRequest = field(default_factory=NodeRequest)


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """The outcome of the checks before a launch.

    Attributes:
        problems: Why it cannot succeed; empty when nothing speaks against it.
        warnings: What may not be as the person wants it.
        node_pools: The cluster's node pools; None when they could not be read.
        no_image_volumes: Why the cluster's pods cannot have an image mounted as a volume; empty
            where they can, None where that was not asked.
        notices: What cannot be looked up, and has to be so; plans show it.
        seen_pools: The node pools that its pods may be on, of which there may be more.
        limited: Resources of which the namespace itself says what containers ask for, or may.
        makes_pools: Whether the cluster is known to make node pools by itself.
    """

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    node_pools: tuple[NodePool, ...] | None = None
    no_image_volumes: str | None = None
    notices: tuple[str, ...] = ()
    seen_pools: tuple[NodePool, ...] = field(default=(), compare=False)
    limited: frozenset[str] = frozenset()
    makes_pools: bool = False

    def raise_for_problems(self) -> None:
        """Raise one error that lists every problem.

        Raises:
            LaunchError: There are problems.
        """
        if self.problems:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            count = "a problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
            raise LaunchError(
                f"the cluster is not ready for this run: {count}{listed}",
                value=self.problems,
                hint="nothing was built or uploaded; see docs/gke.md for what a cluster needs",
            )


@dataclass(frozen=True, kw_only=True)
class Observation:
    """A launched process as it was at one moment.

    Attributes:
        phase: Where it is in its life.
        exit_code: The process's exit code; negative for a signal; None while it lives or
            when its end was not seen.
        reason: Why it is in this phase, in plain words; empty when there is nothing to say.
        cause: The reason in one word, for programs; empty where it has none.
        restarts: How often it was started again after something outside had ended it.
        is_lasting: Whether its cause lasts, so that waiting is of no use, and another start would
            end alike.
        message: What `reason` says, without what to do about it; empty where that is not known.
        waited_seconds: How long a process that is Pending has waited; 0 where it is not, or where
            that is not known.
        is_placed: Whether it has all the nodes it needs, so that it only starts there.
        told: What has happened to the run since it was last looked at, in sentences.
        runs_on: Which of the accelerators that it may go on has begun; empty before, and where
            there is one.
        output: What it printed since the position asked about.
        position: Where to continue reading its output.
        is_outdated: Whether the cluster answers no more: the process may have ended.
        waits: How many seconds its pod waited, by phase; empty where that is not known.
    """

    phase: Phase
    exit_code: int | None = None
    reason: str = ""
    cause: str = ""
    restarts: int = 0
    is_lasting: bool = False
    output: bytes = b""
    position: int = 0
    is_outdated: bool = False
    message: str = ""
    waited_seconds: float = 0.0
    is_placed: bool = False
    told: tuple[str, ...] = ()
    runs_on: str = ""
    waits: Mapping[str, float] = field(default_factory=dict)


class Processes(Protocol):
    """The processes of runs, which outlive the client that started them.

    A process is known by the `key` of its launch request, which is the run's id where the run has
    no candidates.
    """

    def observe(self, run_id: str, position: int | None = 0) -> Observation:
        """Look at the run's process, reading its output from a position on; None: not at all."""
        ...

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Ask the run's process to end, and end it when the grace period is over."""
        ...

    def discard(self, run_id: str) -> None:
        """Remove what a run that has ended left behind in the place it ran in."""
        ...


class Launcher(Processes, Protocol):
    """Starts, watches and stops processes where they run, and knows what is there."""

    def start(self, request: LaunchRequest) -> None:
        """Start the run's process; a repeated call for the same run starts nothing more."""
        ...

    def preflight(self, needs: LaunchNeeds) -> Preflight:
        """Find out what speaks against a launch, before anything is built for it."""
        ...

    def reaches(self, url: str) -> bool | None:
        """Whether processes that it starts can reach a URL that this process can; None: perhaps."""
        ...

    def kept(self) -> Mapping[str, datetime]:
        """Return the runs of which something is kept that does not go by itself, and its age."""
        ...

    def forget(self, run_id: str) -> None:
        """Remove what is kept of a run; nothing happens while its process lives."""
        ...

    def launches(self, run_id: str = "") -> tuple[str, ...]:
        """Return the keys of the launches there are of a run that has several candidates.

        Args:
            run_id: The run; empty for those of every run that have not ended.
        """
        ...

    def place(self) -> str:
        """Return where its processes are, which others may not see; empty for this machine."""
        ...

    def node_pools(self) -> tuple[NodePool, ...] | None:
        """Return the node pools that runs can be launched on; None when they are not known."""
        ...

    def rooms(self) -> tuple[PoolRoom, ...] | None:
        """Return the node pools with what is free in them; None when that is not known."""
        ...

    def facts(self, key: str) -> ProcessFacts:
        """Return what is known of how the processes of a launch ended, and of their nodes.

        What cannot be found out is named in it.

        Args:
            key: The key of its launch request.
        """
        ...


class WorkerPool(Protocol):
    """The Prefect work pool whose workers start what the client does not: deployments' runs."""

    @property
    def name(self) -> str:
        """The work pool's name."""
        ...

    @property
    def type(self) -> str:
        """The type of its workers, as `prefect worker start --type` takes it."""
        ...

    def template(self) -> dict[str, Any]:
        """Return the base job template to make it with."""
        ...

    def variables(
        self,
        image: ResolvedImage,
        environment: Mapping[str, str],
        job_variables: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return what a worker is told of a run.

        Args:
            image: What it runs in.
            environment: Variables of its process; they stand in Prefect's database.
            job_variables: What else it asks of where it runs.
        """
        ...
