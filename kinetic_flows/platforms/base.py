"""Somewhere to run: one protocol, and the values that it takes and gives.

A platform is a folder beside this module, and a line in `choose`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.artifact_store import ArtifactStore, StoreTrust
from kinetic_flows.core.data import Data
from kinetic_flows.core.data_copies import DataCopies
from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.image_builder import ImageBuilder
from kinetic_flows.core.image_reference import mode_of
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.core.job import DispatchedBy, JobTemplate, RunTicket
from kinetic_flows.core.job_parts import DataSpec, PackagesSpec, SecretSpec, VolumeSpec
from kinetic_flows.core.launcher import Launcher, LaunchNeeds, Processes, WorkerPool
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.output_files import OutputSource
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.core.volumes import Volume

if TYPE_CHECKING:
    from kinetic_flows.core.process_access import ProcessAccess

    # What a source is made of imports all that locks.
    from kinetic_flows.platforms.image_sources import ImageSource


@dataclass(frozen=True, kw_only=True)
class Notices:
    """What to tell the person before anything happens."""

    notices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which image is asked for.

    Attributes:
        container_image: `bundled` (also None), `prebuilt`, or an image reference.
        ship_wheels: Whether prebuilt mode sends every package along.
        framework: `jax` or `none`, for the base; None to let the packages decide.
    """

    container_image: str | None = None
    ship_wheels: bool = False
    framework: str | None = None

    @property
    def mode(self) -> ImageMode:
        """The mode it means."""
        return mode_of(self.container_image)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One run, as far as what it is started with depends on it.

    Attributes:
        run_id: The run's id; empty for runs whose ids a Prefect worker will know.
        name: The function's name.
        image: The image it runs in.
        accelerator: What it runs on.
        mode: How its image comes to be.
        options: How it is to run.
        packages: The project's packages where they are mounted; None where they are not.
        data: The job's data.
        volumes: What it finds at paths of its file system.
        secrets: Its variables whose values are secret.
        template: The work pool's base job template; None where it is not known, or the one that
            ships.
    """

    run_id: str
    name: str
    image: ResolvedImage
    accelerator: Accelerator
    mode: ImageMode
    options: RunOptions
    packages: PackagesSpec | None = None
    data: tuple[DataSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()
    secrets: tuple[SecretSpec, ...] = ()
    template: Mapping[str, Any] | None = None

    def of_job(self, job: JobTemplate) -> JobRequest:
        """Return it with what a job says that its process has to find."""
        return replace(self, data=job.data, volumes=job.volumes, secrets=job.secrets)


class Platform(Protocol):
    """Somewhere to run: what a plan has to know of it, and its seams.

    What only decides (down to `has_preflight`) asks nothing beyond what the registry and the
    store are read for.
    """

    title: ClassVar[str]
    """What people call it."""
    worker_type: ClassVar[str]
    """The type of its Prefect workers, as `prefect worker start --type` takes it."""

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> Self:
        """Return it as settings and this process's variables describe it.

        Raises:
            ConfigurationError: The settings lack something.
        """
        ...

    @property
    def name(self) -> str:
        """What `KINETIC_PLATFORM` calls it."""
        ...

    @property
    def fetched_secrets(self) -> frozenset[str]:
        """Kinds of secrets that runs get from where these are; others are sealed by the client."""
        ...

    def image_source(self, asked: ImageOptions, accelerator: Accelerator) -> ImageSource:
        """Return where the image comes from.

        Raises:
            KineticError: The accelerator, or an image of that kind, is not to be had here.
        """
        ...

    def accelerator_image(self, asked: ImageOptions, accelerator: Accelerator) -> ImageSource:
        """Return where the image comes from that runs on an accelerator have on a cluster.

        It is asked where nothing is to run on the accelerator itself.

        Raises:
            KineticError: An image of that kind, or for the accelerator, is not to be had here.
        """
        ...

    def notices(self, accelerator: Accelerator, mode: ImageMode) -> Notices:
        """Return what the person should know about running this here."""
        ...

    def hosts(self, accelerator: Accelerator) -> int:
        """Return how many hosts a run has, each with a runner of its own."""
        ...

    def worker_obstacle(self, accelerator: Accelerator) -> str:
        """Say what a Prefect worker starts one of, where a run needs several; else empty."""
        ...

    def runner_environment(self) -> Mapping[str, str]:
        """Return the variables by which the runner finds what is not where it usually is."""
        ...

    def check_volumes(self, volumes: Mapping[str, Volume]) -> None:
        """Refuse volumes that no run here can have; no cluster is asked.

        Raises:
            UsageError: One of them is such.
        """
        ...

    def data_places(
        self, data: tuple[DataSpec, ...], volumes: tuple[VolumeSpec, ...]
    ) -> tuple[DataSpec, ...]:
        """Return a job's data with the paths at which this platform has it mounted.

        Args:
            data: The data, as it was resolved.
            volumes: The volumes of the job, which name some of it.

        Raises:
            KineticError: Something of it cannot be here.
        """
        ...

    def job_variables(self, request: JobRequest) -> Mapping[str, Any]:
        """Return what the work pool's job template is given for a run."""
        ...

    def chosen_variables(self, options: RunOptions) -> Mapping[str, Any]:
        """Return what people set of the job template's variables."""
        ...

    def launch_needs(
        self,
        accelerator: Accelerator,
        mode: ImageMode,
        options: RunOptions,
        template: Mapping[str, Any] | None = None,
        prefect_api_url: str | None = None,
        data: tuple[Data, ...] = (),
    ) -> LaunchNeeds:
        """Return what launching a run is going to need here.

        Args:
            accelerator: What it runs on.
            mode: How its image comes to be.
            options: How it is to run.
            template: The work pool's base job template; None for the one that ships.
            prefect_api_url: Where it is to report; None when that is not known.
            data: The data among its arguments.
        """
        ...

    def api_for_runs(self, api_url: str) -> str:
        """Return the Prefect API as the processes of runs are to ask it.

        Args:
            api_url: The API as this process asks it.
        """
        ...

    def where(self) -> Mapping[str, str]:
        """Return where a run's parts are: its process, its objects, its images, by a word each."""
        ...

    def asks_for(
        self,
        accelerator: Accelerator,
        options: RunOptions,
        template: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Mapping[str, str]:
        """Return what each host's process asks of its node, by the name of the resource.

        Args:
            accelerator: What it runs on.
            options: How it is to run.
            template: The work pool's base job template; None for the one that ships.
            variables: What that is given for the run; None for what people set of it.
        """
        ...

    def image_page(self, reference: str) -> str | None:
        """Return where a browser shows an image; None where it has no page."""
        ...

    def require_login(self) -> None:
        """Go on where there may be credentials for what everything here needs; asks nobody.

        Raises:
            ConfigurationError: There are none.
        """
        ...

    def outputs(self, directory: str) -> OutputSource:
        """Return where the files of a run's output directory are read.

        Args:
            directory: The directory or `gs://` URI.

        Raises:
            UsageError: They cannot be read from here.
        """
        ...

    def run_pages(self, run: RunTicket) -> Mapping[str, str]:
        """Return where a browser shows what a run has there, by what is shown."""
        ...

    def bucket(self, name: str) -> ArtifactStore:
        """Return a bucket of Cloud Storage that data is in, which is read and never written to."""
        ...

    @property
    def sees_files(self) -> bool:
        """Whether runs see the files of this machine, under the same paths."""
        ...

    @property
    def has_preflight(self) -> bool:
        """Whether to find out what speaks against a launch before anything is built for it."""
        ...

    @property
    def tries_lists(self) -> bool:
        """Whether a run of several accelerators is tried on them; else it takes the first here."""
        ...

    @property
    def store(self) -> ArtifactStore:
        """Where objects are kept."""
        ...

    def store_trust(self) -> StoreTrust:
        """Return whose objects in the store are believed; Prefect may have to be asked."""
        ...

    @property
    def registry(self) -> ImageRegistry:
        """Where images are found."""
        ...

    @property
    def builder(self) -> ImageBuilder:
        """What makes images."""
        ...

    @property
    def launcher(self) -> Launcher:
        """What starts runs."""
        ...

    @property
    def access(self) -> ProcessAccess:
        """The way to the live processes of runs."""
        ...

    @property
    def dispatch(self) -> DispatchedBy:
        """Who starts runs that are called from here."""
        ...

    @property
    def worker_pool(self) -> WorkerPool:
        """Where runs go that workers start."""
        ...

    @property
    def launch_pool(self) -> WorkerPool | None:
        """The work pool that runs launched from here are shown on; None where there is none."""
        ...

    def result_storage(self, prefect_api_url: str) -> Any:
        """Return the Prefect block in which a team shares what builds come to.

        Args:
            prefect_api_url: The Prefect API that keeps it, which is the current one.

        Returns:
            The saved block; None where that stays in `KINETIC_HOME`.
        """
        ...

    @property
    def may_see_processes(self) -> bool:
        """Whether the launcher answers this user."""
        ...

    @property
    def place(self) -> str:
        """Where the processes of runs are that are launched here; empty where that is nowhere else.

        A client that waits for a run asks `sees` about the place that its launcher named.
        """
        ...

    def sees(self, place: str) -> bool:
        """Whether a process that is in a place would be seen from here.

        Args:
            place: As the platform named it that launched the run, or its namespace alone; empty
                for where this platform launches.
        """
        ...

    @property
    def worker_processes(self) -> Processes | None:
        """What sees the processes that workers start; None where nothing here does."""
        ...

    @property
    def data_copies(self) -> DataCopies | None:
        """Where runs keep copies of data for one another; None where this client sees none."""
        ...

    def expire_runs(self, days: int) -> bool | None:
        """Have what runs have alone removed by its age, without anybody's further doing.

        Returns:
            True when that is new or was changed, False when it was so; None where nothing
            removes anything by itself.
        """
        ...
