"""What `kinetic init`, `up`, `status` and `down` are about: which project, which cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kinetic_flows.cli.setup.options import NOTHING_SAID, SetupOptions
from kinetic_flows.cli.setup.report import warned
from kinetic_flows.clients.google.apis import Endpoints, GoogleApis
from kinetic_flows.clients.google.identity import default_project
from kinetic_flows.clients.google.login import require_login
from kinetic_flows.clients.prefect.access import known_api_url
from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import (
    CloudError,
    ConfigurationError,
    LaunchError,
    PrefectServerError,
)
from kinetic_flows.core.progress import Progress
from kinetic_flows.core.settings.cloud import CloudSettings, resolve_cloud
from kinetic_flows.core.settings.settings import Settings, process_environment
from kinetic_flows.core.settings.table import Profile
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.platforms.gke.setup import survey
from kinetic_flows.platforms.gke.setup.clusters.cluster import FoundCluster
from kinetic_flows.platforms.gke.setup.model import Wanted
from kinetic_flows.platforms.gke.setup.request import (
    DEFAULT_MACHINE_TYPE,
    DEFAULT_MAX_NODES,
    SetupRequest,
)
from kinetic_flows.runs.session import prefect_api_url

UNKNOWN_PROJECT = "project-not-known"
"""Stands for the project in settings while none is known, of which the endpoints are wanted."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is known before anything is asked.

    Attributes:
        environ: This process's variables.
        settings: What they and the project's file decide.
        profile: The active profile; None for none.
        progress: Who watches.
    """

    environ: Mapping[str, str]
    settings: Settings
    profile: Profile | None
    progress: Progress

    def cloud(self, said: Mapping[str, object]) -> CloudSettings:
        """Return the settings of Google Cloud, as far as the active profile is of the same place.

        Args:
            said: What the command line says, by setting.

        Raises:
            ConfigurationError: A value cannot be, or no project is known.
        """
        values = self.profile.values if self.profile else {}
        is_elsewhere = any(
            name in said and name in values and said[name] != values[name]
            for name in ("project", "cluster", "zone")
        )
        return resolve_cloud(
            arguments=said,
            environ=self.environ,
            profile=None if is_elsewhere else self.profile,
            project_file=self.settings.project_file,
        )

    def known_project(self, options: SetupOptions) -> str | None:
        """Return the project that is meant where nothing else is said; None for none."""
        of_profile = self.profile.values.get("project") if self.profile else None
        found = options.project or self.settings.project or of_profile
        return str(found) if found else default_project(self.environ)

    def apis(self, project: str | None) -> GoogleApis:
        """Return Google's APIs; nothing is asked."""
        cloud = self.cloud({"project": project or UNKNOWN_PROJECT})
        credentials = cloud.credentials.load() if cloud.credentials else None
        return GoogleApis(project, endpoints=Endpoints.of(cloud), credentials=credentials)

    def prefect_api(self) -> str:
        """Return the Prefect API, starting the background server where none is configured."""
        return prefect_api_url(self.settings, self.environ, self.progress)


def look_around(options: SetupOptions = NOTHING_SAID) -> Surroundings:
    """Read what this process's variables, the project's file and the active profile say.

    A profile may be in the very server that is to be mended or removed: where the command line says
    which cluster is meant, it goes on without.

    Args:
        options: What the command line says.

    Raises:
        ConfigurationError: A value cannot be.
        KineticError: A profile is active, and Prefect cannot be asked for it.
    """
    environ = process_environment()
    settings = local_settings(environ)
    progress = terminal_progress(settings.progress, environ)

    def ask() -> str | None:
        server = BackgroundServer(settings.home, environ)
        is_needed = server.has_run or known_api_url(environ)
        return prefect_api_url(settings, environ, progress) if is_needed else None

    profile = _load(SavedProfiles(ask), settings.profile, options) if settings.profile else None
    return Surroundings(environ=environ, settings=settings, profile=profile, progress=progress)


def _load(saved: SavedProfiles, name: str, options: SetupOptions) -> Profile | None:
    try:
        return saved.load(name)
    except (PrefectServerError, CloudError, LaunchError) as error:
        if options.project and options.cluster:
            warned(f"profile {name} is not heeded: {error.message}")
            return None
        go_on = f"give --project, --zone and --cluster to go on without profile {name}"
        error.hint = f"{error.hint}; {go_on}" if error.hint else go_on
        raise


def request_of(
    options: SetupOptions, cloud: CloudSettings, found: FoundCluster | None
) -> SetupRequest:
    """Return what is wanted: what is said, then what is there, then the defaults.

    Args:
        options: What is said.
        cloud: Settings in which that has been heeded.
        found: The cluster, if it is there.
    """
    mode = options.mode or (found.mode if found else "standard")
    pools = options.pools()
    most = found.max_nodes if found else DEFAULT_MAX_NODES
    return SetupRequest(
        project=cloud.project,
        location=cloud.zone,
        cluster=cloud.cluster,
        mode=mode,
        joins=options.join or bool(found and not found.is_made_here),
        machine_type=options.machine_type
        or (found.machine_type if found else DEFAULT_MACHINE_TYPE),
        max_nodes=most if pools else options.max_nodes or most,
        pools=pools,
        private_nodes=_said(options.private_nodes, bool(found and found.private_nodes)),
        namespace=cloud.namespace,
        work_pool=cloud.work_pool,
        members=options.member,
        jobset=options.jobset or options.jobset_manifest is not None,
        kueue=options.kueue or options.kueue_manifest is not None,
        jobset_manifest=options.jobset_manifest,
        kueue_manifest=options.kueue_manifest,
        prefect=options.prefect or "machine",
        worker=options.worker,
        retention_days=cloud.retention_days,
    )


def _said(said: bool | None, otherwise: bool) -> bool:
    return otherwise if said is None else said


def found_setup(around: Surroundings, options: SetupOptions) -> Wanted:
    """Return what there may be of an earlier setup, for `status` and `down`.

    Raises:
        ConfigurationError: No project is known, or there are no credentials.
        KineticError: Its clusters cannot be listed.
    """
    require_login(environ=around.environ)
    project = around.known_project(options)
    if project is None:
        raise ConfigurationError(
            "no project is known, and so no cluster",
            hint="give --project, or set one up: `kinetic init`",
        )
    said = replace(options, project=project)
    cloud = around.cloud(said.values())
    apis = around.apis(project)
    found = _located(survey.find_clusters(apis), cloud, said, around.profile)
    if found is not None:
        cloud = replace(cloud, zone=found.location)
    return Wanted(request=request_of(said, cloud, found), apis=apis)


def _located(
    clusters: Sequence[FoundCluster],
    cloud: CloudSettings,
    options: SetupOptions,
    profile: Profile | None,
) -> FoundCluster | None:
    """Return the cluster that is meant, wherever it is unless that is said; None for none."""
    named = [each for each in clusters if each.name == cloud.cluster]
    here = next((each for each in named if each.location == cloud.zone), None)
    if here or options.zone:
        return here
    is_of_profile = profile is not None and profile.values.get("cluster") == cloud.cluster
    meant = (each for each in named if each.is_made_here or not is_of_profile)
    return next(meant, None)
