"""Google Cloud as a platform: buckets, Artifact Registry, Cloud Build and a GKE cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from kinetic_flows.clients.google.buckets import open_data_bucket
from kinetic_flows.clients.google.login import require_login
from kinetic_flows.clients.kubernetes.access import ClusterAccess, GkeCluster, find_access
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.build_cache import shared_build_cache
from kinetic_flows.clients.prefect.store_key import load_store_key
from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.compile_cache import EXPIRE_AFTER_DAYS
from kinetic_flows.core.data import Data
from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.errors import ConfigurationError, LaunchError
from kinetic_flows.core.image_reference import image_page
from kinetic_flows.core.job import DispatchedBy, RunTicket
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.core.launcher import LaunchNeeds
from kinetic_flows.core.object_names import COMPILE_CACHE, RUNS
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.output_files import OutputSource
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.core.volumes import Volume
from kinetic_flows.dependencies.locking import Locker
from kinetic_flows.images.bases import BaseInputs
from kinetic_flows.platforms.accelerator_targets import base_inputs
from kinetic_flows.platforms.base import ImageOptions, JobRequest, Notices
from kinetic_flows.platforms.gke.buckets import open_bucket
from kinetic_flows.platforms.gke.console import run_pages
from kinetic_flows.platforms.gke.images import ClusterImages
from kinetic_flows.platforms.gke.job_variables import (
    asked_of_node,
    chosen_variables,
    job_variables_of,
)
from kinetic_flows.platforms.gke.launch_needs import launch_needs_of
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher, LauncherSettings
from kinetic_flows.platforms.gke.names import first_job_name
from kinetic_flows.platforms.gke.outputs import cluster_outputs
from kinetic_flows.platforms.gke.placement import placement_of
from kinetic_flows.platforms.gke.reach import for_pods
from kinetic_flows.platforms.gke.registries import image_registry
from kinetic_flows.platforms.gke.volumes import check_volumes, mounted_places
from kinetic_flows.platforms.gke.worker_pool import KubernetesWorkerPool
from kinetic_flows.platforms.image_sources import ImageSource

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from kinetic_flows.clients.google.storage import GoogleStore
    from kinetic_flows.core.process_access import ProcessAccess
    from kinetic_flows.core.settings.cloud import CloudSettings
    from kinetic_flows.platforms.gke.builds.builder import ClusterBuilder


SECRET_MANAGER_VARIABLE = "KINETIC_SECRET_MANAGER_ENDPOINT"  # noqa: S105 - a variable's name

_sharing = threading.Lock()


class GoogleCloudPlatform:
    """One cluster with its buckets and its image repository.

    Nothing is asked, and no SDK is imported, before the first use of each part.

    Args:
        cloud: The settings of Google Cloud.
        environ: This process's variables: Kubernetes' and Docker's own configuration count.
        home: `KINETIC_HOME`, for what was learnt of images.
    """

    name = "gke"
    title: ClassVar[str] = "Google Kubernetes Engine"
    worker_type: ClassVar[str] = KubernetesWorkerPool.type
    fetched_secrets: frozenset[str] = frozenset({"secret-manager", "k8s"})
    sees_files, tries_lists = False, True
    data_copies = None
    """They are where the pods are."""

    def __init__(self, cloud: CloudSettings, environ: Mapping[str, str], home: Path) -> None:
        self._credentials: Credentials | None = (
            cloud.credentials.load() if cloud.credentials else None
        )
        self.store = open_bucket(cloud.jobs_bucket, cloud, self._credentials)
        self.registry = image_registry(environ, home, cloud)
        self.worker_pool = KubernetesWorkerPool(cloud.work_pool)
        self._cloud = cloud
        self._environ = environ
        self._home = home
        self._may_launch: bool | None = None
        self._launcher: KubernetesLauncher | None = None

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> Self:
        """Return the cluster that the settings describe.

        Raises:
            ConfigurationError: They name no project.
        """
        return cls(settings.required_cloud(), environ, settings.home)

    @cached_property
    def builder(self) -> ClusterBuilder:
        """What makes images: of no concern where every image is there, and not imported then."""
        from kinetic_flows.platforms.gke.builds.cluster_builder import cloud_build, cluster_builder
        from kinetic_flows.platforms.gke.registries import registry_writer

        cloud = self._cloud
        return cluster_builder(
            cloud,
            builds=cloud_build(cloud, self._credentials),
            store=self.store,
            build_store=open_bucket(cloud.builds_bucket, cloud, self._credentials),
            registry=self.registry,
            writer=registry_writer(self._environ, self._home, cloud),
            home=self._home,
            environ=self._environ,
        )

    def outputs(self, directory: str) -> OutputSource:
        """Return the files of a directory in Cloud Storage."""
        return cluster_outputs(directory, self._cloud, self._credentials)

    def image_source(self, asked: ImageOptions, accelerator: Accelerator) -> ImageSource:
        """Return an image for the nodes, with this Python minor version."""
        images = ClusterImages(cloud=self._cloud, registry=self.registry, bases=self._base_inputs)
        return images.source(asked, accelerator)

    accelerator_image = image_source

    def _base_inputs(self, category: Category, python: str) -> BaseInputs:
        """Return the inputs of a base image, made here for a Python that none come for."""
        locker = Locker(
            store=self.store, home=self._home, environ=self._environ, trust=self.store_trust
        )
        return base_inputs(category, python, locker)

    def notices(
        self,
        accelerator: Accelerator,  # noqa: ARG002 - what was asked for is what is used
        mode: ImageMode,  # noqa: ARG002
    ) -> Notices:
        """Say nothing: it is as the person asked."""
        return Notices()

    def hosts(self, accelerator: Accelerator) -> int:
        """Return the hosts of the accelerator's slice."""
        return accelerator.hosts

    def worker_obstacle(self, accelerator: Accelerator) -> str:
        """Say that a worker makes one Job, where a run has several slices."""
        slices = accelerator.slices
        return f"Job for each run, and slices={slices} is a Job for each" if slices > 1 else ""

    def runner_environment(self) -> Mapping[str, str]:
        """Return where Cloud Storage and Secret Manager are, when they are not Google's."""
        endpoints = {
            "STORAGE_EMULATOR_HOST": self._cloud.storage_endpoint,
            SECRET_MANAGER_VARIABLE: self._cloud.secret_manager_endpoint,
        }
        return {name: endpoint for name, endpoint in endpoints.items() if endpoint}

    def bucket(self, name: str) -> GoogleStore:
        """Return a bucket, opened with the credentials for the cluster's own."""
        return open_data_bucket(
            name,
            project=self._cloud.project,
            endpoint=self._cloud.storage_endpoint,
            credentials=self._credentials,
        )

    def check_volumes(self, volumes: Mapping[str, Volume]) -> None:
        """Refuse more volumes than pods have places for."""
        check_volumes(volumes)

    def data_places(
        self, data: tuple[DataSpec, ...], volumes: tuple[VolumeSpec, ...]
    ) -> tuple[DataSpec, ...]:
        """Return the job's data with the paths at which Cloud Storage is mounted."""
        return mounted_places(data, volumes)

    def job_variables(self, request: JobRequest) -> Mapping[str, Any]:
        """Return the variables of the work pool `kinetic-gke`."""
        known = self._launcher.surroundings if self._launcher else {}
        return job_variables_of(request, self._cloud, known.get(request.accelerator))

    def chosen_variables(self, options: RunOptions) -> Mapping[str, Any]:
        """Return what the cluster's settings and the function's options say, which wins."""
        return chosen_variables(options, self._cloud)

    def launch_needs(
        self,
        accelerator: Accelerator,
        mode: ImageMode,
        options: RunOptions,
        template: Mapping[str, Any] | None = None,
        prefect_api_url: str | None = None,
        data: tuple[Data, ...] = (),
    ) -> LaunchNeeds:
        """Return what the run's pods are going to need of the cluster."""
        return launch_needs_of(
            accelerator, mode, options, self._cloud, template, prefect_api_url, data
        )

    def api_for_runs(self, api_url: str) -> str:
        """Return it as pods reach it, where it is behind a port of this machine."""
        return for_pods(api_url, self._cloud.pods_api_url)

    def where(self) -> Mapping[str, str]:
        """Return the cluster, the bucket, the image repository and the work pool."""
        cloud = self._cloud
        return {
            "project": cloud.project,
            "cluster": cloud.cluster,
            "location": cloud.zone,
            "namespace": cloud.namespace,
            "bucket": self.store.uri,
            "image_repository": cloud.image_repo,
            "work_pool": cloud.work_pool,
        }

    def asks_for(
        self,
        accelerator: Accelerator,
        options: RunOptions,
        template: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Mapping[str, str]:
        """Return the requests of each pod, as the variables make them, and where it may be."""
        given = self.chosen_variables(options) if variables is None else variables
        where = placement_of(options, self._cloud, accelerator).in_words
        return {**asked_of_node(accelerator, given, template), **where}

    def image_page(self, reference: str) -> str | None:
        """Return where a browser shows an image; None where it has no page."""
        return image_page(reference)

    def require_login(self) -> None:
        """Go on where there are Google credentials, or may be; an emulated bucket needs none."""
        is_emulated = (self._cloud.storage_endpoint or "").startswith("http://")
        if self._credentials is None and not is_emulated:
            require_login(self._cloud.project, self._environ)

    def run_pages(self, run: RunTicket) -> Mapping[str, str]:
        """Return the pages of Google Cloud's console for a run's Job, output and objects."""
        is_named = run.dispatch == "client" and run.function and not run.has_candidates
        name = first_job_name(run.function, run.run_id, run.slices) if is_named else None
        namespace = run.place.rpartition("/")[2] or self._cloud.namespace
        return run_pages(self._cloud, run.run_id, namespace, name)

    @property
    def has_preflight(self) -> bool:
        """Yes, unless only a worker has to do with the cluster."""
        return self._cloud.dispatch != "worker"

    @property
    def launch_pool(self) -> KubernetesWorkerPool:
        """The work pool from whose template Jobs are made."""
        return self.worker_pool

    def result_storage(self, prefect_api_url: str) -> Any:
        """Return the saved Prefect block of the cluster's bucket."""
        return shared_build_cache(self._cloud, prefect_api_url)

    def store_trust(self) -> StoreTrust:
        """Return the key that the users of one Prefect API share; none where there is no such API.

        The background server of one person is not asked: what that person wrote is known here.
        """
        api_url = known_api_url(self._environ)
        if not api_url:
            return StoreTrust()
        return StoreTrust(key=load_store_key(self._cloud.jobs_bucket, api_url, self._home))

    @property
    def launcher(self) -> KubernetesLauncher:
        """What starts runs: Jobs of the cluster.

        Raises:
            ConfigurationError: Nothing says how to reach the cluster.
        """
        if self._launcher is None:
            cluster = gke_cluster(self._cloud, self._credentials)
            saved = self._cloud.credentials
            with _sharing:
                self._launcher = _shared_launcher(
                    find_access(self._environ, cluster),
                    namespace=self._cloud.namespace,
                    identity=saved.name if saved else None,
                    process=os.getpid(),
                )
        return self._launcher

    @property
    def access(self) -> ProcessAccess:
        """The way to the pods of runs.

        Raises:
            ConfigurationError: Nothing says how to reach the cluster.
        """
        return self.launcher.access

    @property
    def dispatch(self) -> DispatchedBy:
        """Who starts runs, by `KINETIC_DISPATCH`: this client wherever it may, else a worker.

        Never decided by whether a worker is online: Prefect shows one as online for a minute
        and a half after it has gone.

        Raises:
            LaunchError: The cluster cannot be reached.
        """
        if self._cloud.dispatch != "auto":
            return self._cloud.dispatch
        return "client" if self._has_access() else "worker"

    @property
    def may_see_processes(self) -> bool:
        """Whether this user has access to the cluster, and it answers."""
        try:
            return self._has_access()
        except LaunchError:
            return False

    @property
    def place(self) -> str:
        """The namespace, with what tells it from one of the same name in another cluster."""
        return self.launcher.place() if self.may_see_processes else self._cloud.namespace

    def sees(self, place: str) -> bool:
        """Whether a run's Job would be seen: whether it is in this namespace of this cluster."""
        namespace, _, uid = place.partition("/")
        if place and namespace != self._cloud.namespace:
            return False
        # The cluster is asked only where that can tell anything.
        own = self.place.partition("/")[2] if uid else ""
        return not own or own == uid

    @property
    def worker_processes(self) -> KubernetesLauncher | None:
        """The cluster, for those who have access to it."""
        return self.launcher if self.may_see_processes else None

    def _has_access(self) -> bool:
        if self._may_launch is None:
            try:
                self._may_launch = self.launcher.may_launch()
            except ConfigurationError:
                self._may_launch = False
        return self._may_launch

    def expire_runs(self, days: int) -> bool | None:
        """Give the bucket of runs lifecycle rules, for compiled programs, too."""
        rules = ((f"{RUNS}/", days), (COMPILE_CACHE, EXPIRE_AFTER_DAYS))
        return True in [self.store.expire(*rule) for rule in rules]


@lru_cache(maxsize=8)
def _shared_launcher(
    access: ClusterAccess,
    *,
    namespace: str,
    identity: str | None,  # noqa: ARG001 - tells credentials apart, which do not compare
    process: int,  # noqa: ARG001 - a forked process has none of the threads of its parent
) -> KubernetesLauncher:
    """Return the one launcher that all calls of a process have for a namespace.

    So however many runs a process follows, from however many threads, each kind of object is
    listed and watched once.
    """
    return KubernetesLauncher(KubernetesClient(access), LauncherSettings(namespace=namespace))


def gke_cluster(cloud: CloudSettings, credentials: Credentials | None) -> GkeCluster:
    """Return the GKE cluster that the settings name.

    Args:
        cloud: The settings.
        credentials: Those to ask Google with; None for Application Default Credentials.
    """
    return GkeCluster(
        project=cloud.project,
        location=cloud.zone,
        name=cloud.cluster,
        is_chosen=cloud.names_cluster,
        endpoint=cloud.api_url("container"),
        credentials=credentials,
    )
