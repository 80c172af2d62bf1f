"""This machine as a platform: nothing to configure, nothing in the cloud."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.data import Data
from kinetic_flows.core.environment import EnvironmentSpec, ImageMode
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.image_reference import CUSTOM, PREBUILT
from kinetic_flows.core.job import DispatchedBy, RunTicket
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.core.launcher import LaunchNeeds
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.core.volumes import CLAIM, Volume
from kinetic_flows.dependencies.locking import Locker
from kinetic_flows.dependencies.targets import local_target
from kinetic_flows.images.bases import project_recipe
from kinetic_flows.images.tags import local_image_reference
from kinetic_flows.platforms.accelerator_targets import accelerator_target, base_inputs
from kinetic_flows.platforms.base import ImageOptions, JobRequest, Notices
from kinetic_flows.platforms.image_sources import ImageSource, ProjectImage
from kinetic_flows.platforms.local.client_side import DATA_CACHE_VARIABLE
from kinetic_flows.platforms.local.data_copies import LocalDataCopies
from kinetic_flows.platforms.local.environments import LocalEnvironments
from kinetic_flows.platforms.local.outputs import DirectoryOutputs
from kinetic_flows.platforms.local.processes import HOSTS, LocalProcesses, kept_bootstrap
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.platforms.local.volumes import VOLUMES_VARIABLE, check_volumes
from kinetic_flows.platforms.local.worker_pool import ProcessWorkerPool

if TYPE_CHECKING:
    from kinetic_flows.clients.google.storage import GoogleStore
    from kinetic_flows.core.process_access import ProcessAccess
    from kinetic_flows.platforms.local import access
else:
    # Calls do not look into runs.
    access = LazyModule("kinetic_flows.platforms.local.access")

NOTHING_CONFIGURED = "no cluster is configured: running on this machine"
MAX_HOSTS = 64
"""How many processes a run may have here, each with its own copy of the function's memory."""

PREBUILT_HERE = "container_image='prebuilt' uses the same environment as bundled on this machine"


class LocalPlatform:
    """Directories under `KINETIC_HOME` stand in for a bucket, a registry and a cluster.

    Args:
        home: `KINETIC_HOME`.
        environ: This process's variables.
        is_explicit: Whether `KINETIC_PLATFORM` chose it; else no cluster is configured.
    """

    name = "local"
    title: ClassVar[str] = "this machine"
    dispatch: DispatchedBy = "client"
    may_see_processes = True
    sees_files = True
    place = ""
    has_preflight = False
    tries_lists = False
    """A process on this machine waits for nothing."""
    launch_pool = None
    """A child process is made from no work pool's template."""
    worker_type: ClassVar[str] = ProcessWorkerPool.type
    fetched_secrets: frozenset[str] = frozenset()
    """A run here has no identity but its caller's, and no library to ask a cloud with."""
    worker_processes = None
    """A worker tells the end of the processes it starts; nobody else here sees them."""

    def __init__(
        self, home: Path, environ: Mapping[str, str], *, is_explicit: bool = False
    ) -> None:
        self._home = home
        self._environ = environ
        self._data_directory = Path(environ.get(DATA_CACHE_VARIABLE) or home / "data").absolute()
        self.store = LocalStore(home / "store")
        self.registry = LocalEnvironments(home / "environments", self.store, environ)
        self.builder = self.registry
        self.launcher = LocalProcesses(home / "runs", self.registry.python, environ)
        self.worker_pool = ProcessWorkerPool(
            self.registry.python, lambda: kept_bootstrap(home / "bootstraps")
        )
        self._is_explicit = is_explicit

    @property
    def access(self) -> ProcessAccess:
        """The way to the processes of runs, which are on this machine."""
        return access.LocalAccess(self.launcher, self._environ)

    def require_login(self) -> None:
        """Go on: nothing here needs any."""

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> Self:
        """Return it as the settings describe it."""
        return cls(settings.home, environ, is_explicit=settings.platform_is_explicit)

    def outputs(self, directory: str) -> DirectoryOutputs:
        """Return the files of a directory of this machine.

        Raises:
            UsageError: It is in Cloud Storage or on a claim: the run was launched elsewhere.
        """
        if "://" in directory or directory.startswith(CLAIM):
            raise UsageError(
                f"{directory} is not on this machine, and no cluster is configured",
                value=directory,
                hint="set KINETIC_PROJECT and KINETIC_CLUSTER as where the run was launched",
            )
        return DirectoryOutputs(Path(directory))

    def image_source(self, asked: ImageOptions, accelerator: Accelerator) -> ImageSource:
        """Return a virtual environment of the running interpreter; an image cannot be run."""
        self._check(accelerator)
        _require_no_image(asked)
        return ProjectImage(
            target=local_target(accelerator.category),
            name_of=_local_name,
            built_by="uv",
            mode=asked.mode,
        )

    def accelerator_image(self, asked: ImageOptions, accelerator: Accelerator) -> ImageSource:
        """Return a virtual environment with what the accelerator's image has on a cluster."""
        _require_no_image(asked)
        locker = Locker(store=self.store, home=self._home, environ=self._environ)
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        inputs = base_inputs(accelerator.category, python, locker)
        target = accelerator_target(inputs, accelerator, asked.framework, project_recipe())
        return ProjectImage(target=target, name_of=_local_name, built_by="uv", mode=asked.mode)

    def _check(self, accelerator: Accelerator) -> None:
        """Refuse to pretend that this machine is an accelerator, unless told to, or many."""
        if self.hosts(accelerator) > MAX_HOSTS:
            raise UsageError(
                f"hosts={accelerator.hosts} would start as many processes on this machine",
                value=accelerator.hosts,
                hint=f"give {MAX_HOSTS} at most here; a cluster takes more",
            )
        if accelerator.category != "cpu" and not self._is_explicit:
            raise ConfigurationError(
                f"accelerator {str(accelerator)!r} needs a cluster, and none is configured",
                value=str(accelerator),
                hint="set KINETIC_PROJECT (and KINETIC_CLUSTER, KINETIC_ZONE) to run on GKE; or "
                "set KINETIC_PLATFORM=local to run on this machine's CPU all the same",
            )

    def notices(self, accelerator: Accelerator, mode: ImageMode) -> Notices:
        """Say that it runs here, and how that differs from what was asked for."""
        notices = [] if self._is_explicit else [NOTHING_CONFIGURED]
        notices += [PREBUILT_HERE] if mode == PREBUILT else []
        is_cpu = accelerator.category == "cpu"
        warning = f"{accelerator} was asked for; KINETIC_PLATFORM=local runs on the CPU here"
        return Notices(notices=tuple(notices), warnings=() if is_cpu else (warning,))

    def hosts(self, accelerator: Accelerator) -> int:
        """Return how many processes stand in for hosts; one for TPUs, whatever the slice."""
        return 1 if accelerator.category == "tpu" else accelerator.hosts

    def worker_obstacle(self, accelerator: Accelerator) -> str:
        """Say that a worker starts one process, where a run has several hosts."""
        hosts = self.hosts(accelerator)
        return f"process for each run, and hosts={hosts} is a process for each" if hosts > 1 else ""

    def runner_environment(self) -> Mapping[str, str]:
        """Return where runs keep copies of data, which they share, and note what they link."""
        return {
            DATA_CACHE_VARIABLE: str(self._data_directory),
            VOLUMES_VARIABLE: str(self._home / "volumes"),
        }

    @property
    def data_copies(self) -> LocalDataCopies:
        """Return the directory of copies of data."""
        return LocalDataCopies(self._data_directory)

    def bucket(self, name: str) -> GoogleStore:
        """Return a bucket, opened as this user, or as nobody where there is no login."""
        from kinetic_flows.clients.google.buckets import open_data_bucket

        return open_data_bucket(name, endpoint=self._environ.get("STORAGE_EMULATOR_HOST"))

    def check_volumes(self, volumes: Mapping[str, Volume]) -> None:
        """Refuse what only a cluster has, and what can be neither mounted nor linked."""
        check_volumes(volumes)

    def data_places(
        self,
        data: tuple[DataSpec, ...],
        volumes: tuple[VolumeSpec, ...],  # noqa: ARG002 - the runner puts data at their paths
    ) -> tuple[DataSpec, ...]:
        """Return the job's data as it is: what is mounted elsewhere, the runner copies here."""
        return data

    def job_variables(self, request: JobRequest) -> Mapping[str, Any]:
        """Return how many child processes there are, if several; they are no Job."""
        hosts = self.hosts(request.accelerator)
        return {HOSTS: hosts} if hosts > 1 else {}

    def chosen_variables(self, options: RunOptions) -> Mapping[str, Any]:  # noqa: ARG002
        """Return nothing: a child process is no Job."""
        return {}

    def launch_needs(
        self,
        accelerator: Accelerator,
        mode: ImageMode,  # noqa: ARG002
        options: RunOptions,  # noqa: ARG002
        template: Mapping[str, Any] | None = None,  # noqa: ARG002
        prefect_api_url: str | None = None,
        data: tuple[Data, ...] = (),  # noqa: ARG002
    ) -> LaunchNeeds:
        """Return what it runs on: a child process needs nothing that this machine may lack."""
        return LaunchNeeds(accelerator=accelerator, prefect_api_url=prefect_api_url)

    def api_for_runs(self, api_url: str) -> str:
        """Return the same: they are on this machine, too."""
        return api_url

    def where(self) -> Mapping[str, str]:
        """Return the one directory that has all of it."""
        return {"home": str(self._home)}

    def asks_for(
        self,
        accelerator: Accelerator,  # noqa: ARG002
        options: RunOptions,  # noqa: ARG002
        template: Mapping[str, Any] | None = None,  # noqa: ARG002
        variables: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Return nothing: a child process takes what there is."""
        return {}

    def image_page(self, reference: str) -> None:
        """Return nothing: an environment here only looks like an image of Docker Hub."""

    def run_pages(self, run: RunTicket) -> Mapping[str, str]:  # noqa: ARG002
        """Return nothing: no page shows what is on this machine."""
        return {}

    def result_storage(self, prefect_api_url: str) -> None:
        """Return nothing: results stay in `KINETIC_HOME`."""

    def store_trust(self) -> StoreTrust:
        """Return that nobody else can write to the store: it is a directory of this user's."""
        return StoreTrust(is_private=True)

    def sees(self, place: str) -> bool:
        """Whether a run's process would be here: whether no cluster's namespace is named."""
        return not place

    def expire_runs(self, days: int) -> bool | None:  # noqa: ARG002
        """Do nothing: nothing here removes files by their age."""
        return None


def _require_no_image(asked: ImageOptions) -> None:
    """Refuse an image of the person's own."""
    if asked.mode == CUSTOM:
        raise UsageError(
            f"container_image {asked.container_image!r} is an image, and this machine runs none",
            value=asked.container_image,
            hint="configure a cluster (KINETIC_PROJECT) to use images, or drop container_image",
        )


def _local_name(environment: EnvironmentSpec) -> str:
    return local_image_reference(environment.category, environment.dependency_hash)
