"""The settings of Google Cloud: the table of what decides where on it things are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.core.settings import values as check
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.core.settings.price_values import check_prices
from kinetic_flows.core.settings.table import (
    DEFAULT,
    Givers,
    Profile,
    ProfileCredentials,
    ProfileLogin,
    ProjectSettings,
    Source,
    row,
    rows,
)

Dispatch = Literal["auto", "client", "worker"]
Builder = Literal["auto", "direct", "cloud-build"]
Prebuilt = Literal["auto", "install", "volume"]

DEFAULT_RETENTION_DAYS = 30
DEFAULT_ZONE = "us-central1-a"
DEFAULT_BASE_IMAGE_REPO = "kinetic"
MAX_BUILD_SECONDS = 86_400
"""A build runs for a day at most: https://cloud.google.com/build/quotas."""


def _jobs_bucket(known: Mapping[str, Any]) -> str:
    return cloud_names.jobs_bucket(known["project"], known["cluster"])


def _builds_bucket(known: Mapping[str, Any]) -> str:
    return cloud_names.builds_bucket(known["project"], known["cluster"])


def _image_repo(known: Mapping[str, Any]) -> str:
    return cloud_names.cluster_repository(known["project"], known["zone"], known["cluster"])


@dataclass(frozen=True, kw_only=True)
class CloudSettings:
    """What decides where on Google Cloud things are: each setting with the variable that sets it.

    A profile can set each of them, a project's `pyproject.toml` most, and so can an option of
    `kinetic.run` where there is one of that name.
    """

    project: str = field(
        metadata=row(check.project, googles="GOOGLE_CLOUD_PROJECT", is_option=True)
    )
    """`KINETIC_PROJECT`: the project's id."""

    zone: str = field(metadata=row(check.zone, DEFAULT_ZONE, is_option=True))
    """`KINETIC_ZONE`: the cluster's zone, or the region of a regional cluster."""

    cluster: str = field(metadata=row(check.cluster, "kinetic-cluster", is_option=True))
    """`KINETIC_CLUSTER`: the GKE cluster."""

    namespace: str = field(metadata=row(check.namespace, "default"))
    """`KINETIC_NAMESPACE`: the Kubernetes namespace of runs."""

    work_pool: str = field(metadata=row(check.work_pool, cloud_names.WORK_POOL))
    """`KINETIC_WORK_POOL`: the Prefect work pool of runs."""

    pods_api_url: str | None = field(metadata=row(check.url))
    """`KINETIC_PODS_API_URL`: the Prefect API as pods of the cluster reach it, where this machine
    reaches it by a port of its own (`kinetic server connect`); None for the same URL."""

    base_image_repo: str = field(
        metadata=row(check.image_repository, DEFAULT_BASE_IMAGE_REPO, is_option=True)
    )
    """`KINETIC_BASE_IMAGE_REPO`: repository of prebuilt base images."""

    base_image_tag: str | None = field(metadata=row(check.image_tag))
    """`KINETIC_BASE_IMAGE_TAG`: version tag of those images; None for the version of
    kinetic-flows."""

    jobs_bucket: str = field(metadata=row(check.bucket, _jobs_bucket))
    """`KINETIC_JOBS_BUCKET`: bucket of code, payloads and results."""

    builds_bucket: str = field(metadata=row(check.bucket, _builds_bucket))
    """`KINETIC_BUILDS_BUCKET`: bucket of build sources and logs."""

    image_repo: str = field(metadata=row(check.image_repository, _image_repo))
    """`KINETIC_IMAGE_REPO`: Artifact Registry repository of the cluster's images."""

    builder: Builder = field(metadata=row(check.choice(*get_args(Builder)), "auto"))
    """`KINETIC_BUILDER`: who assembles images from layers: this client (`direct`), `cloud-build`,
    or `auto` for the client where it has little to send and may push."""

    build_location: str = field(metadata=row(check.build_location, "global"))
    """`KINETIC_BUILD_LOCATION`: `global`, or the region of builds."""

    build_service_account: str | None = field(metadata=row(check.service_account))
    """`KINETIC_BUILD_SERVICE_ACCOUNT`: who builds run as; None for the project's default."""

    build_machine_type: str | None = field(metadata=row(check.machine_type))
    """`KINETIC_BUILD_MACHINE_TYPE`: such as `E2_HIGHCPU_8`; None for Cloud Build's default."""

    build_timeout_seconds: int = field(
        metadata=row(check.whole_number("seconds", maximum=MAX_BUILD_SECONDS), 3600)
    )
    """`KINETIC_BUILD_TIMEOUT_SECONDS`: limit for a build."""

    cloud_build_endpoint: str | None = field(metadata=row(check.endpoint, is_of_projects=False))
    """`KINETIC_CLOUD_BUILD_ENDPOINT`: another Cloud Build, as `host:port`, or `http://host:port`
    for plain text; None for Google's."""

    secret_manager_endpoint: str | None = field(metadata=row(check.endpoint, is_of_projects=False))
    """`KINETIC_SECRET_MANAGER_ENDPOINT`: likewise for Secret Manager."""

    artifact_registry_endpoint: str | None = field(
        metadata=row(check.endpoint, is_of_projects=False)
    )
    """`KINETIC_ARTIFACT_REGISTRY_ENDPOINT`: likewise for Artifact Registry's own API; its images
    are at `registry_endpoints`."""

    api_endpoints: Mapping[str, str] = field(
        metadata=row(check.api_endpoints, lambda _: {}, is_of_projects=False)
    )
    """`KINETIC_API_ENDPOINTS`: other endpoints of the Google APIs that setting up and looking
    after a cluster ask, by the API's name (`container`, `iam`, `compute`, `serviceusage`,
    `cloudresourcemanager`, `cloudbilling`, `oauth2`), written as `name=host:port,name=host:port`;
    with `http://` in front one is asked in plain text."""

    storage_endpoint: str | None = field(
        metadata=row(check.url, googles="STORAGE_EMULATOR_HOST", is_of_projects=False)
    )
    """`KINETIC_STORAGE_ENDPOINT`, else `STORAGE_EMULATOR_HOST`: URL of another Cloud Storage; None
    for Google's."""

    registry_endpoints: Mapping[str, str] = field(
        metadata=row(check.endpoints, lambda _: {}, is_of_projects=False)
    )
    """`KINETIC_REGISTRY_ENDPOINTS`: URLs of registries by host, written as `host=url,host=url`."""

    retention_days: int = field(metadata=row(check.whole_number("days"), DEFAULT_RETENTION_DAYS))
    """`KINETIC_RETENTION_DAYS`: after how long a run's own objects expire."""

    dispatch: Dispatch = field(
        metadata=row(check.choice("auto", "client", "worker"), "auto", is_option=True)
    )
    """`KINETIC_DISPATCH`: who creates the Kubernetes Job: this `client`, a `worker`, or `auto` for
    the client where it has the cluster's credentials."""

    reservation: str | None = field(metadata=row(check.reservation))
    """`KINETIC_RESERVATION`: the reservation whose machines runs use, or `any`; None for none."""

    compute_class: str | None = field(metadata=row(check.compute_class))
    """`KINETIC_COMPUTE_CLASS`: the GKE compute class that runs ask for; None for none."""

    node_pool: str | None = field(metadata=row(check.node_pool))
    """`KINETIC_NODE_POOL`: the node pool that runs are on; None for any that fits."""

    zones: tuple[str, ...] = field(metadata=row(check.zones, lambda _: ()))
    """`KINETIC_ZONES`: zones in which nodes of runs may be, with commas between; none for all of
    the cluster's."""

    prebuilt: Prebuilt = field(metadata=row(check.choice(*get_args(Prebuilt)), "auto"))
    """`KINETIC_PREBUILT`: how packages come into a prebuilt image: `install` when a run starts,
    mounted as a `volume`, or `auto` for the volume where the cluster has image volumes."""

    registry_logins: Mapping[str, str] = field(metadata=row(check.registry_logins, lambda _: {}))
    """`KINETIC_REGISTRY_LOGINS`: how builds log in to registries that base images are pulled from,
    by host: the names of two secrets of Secret Manager, written as
    `host=user-secret:token-secret`."""

    job_variables: Mapping[str, Any] = field(metadata=row(check_job_variables, lambda _: {}))
    """`KINETIC_JOB_VARIABLES`: variables of the work pool's job template for every run, as a JSON
    object, such as `{"service_account_name": "trainer"}`."""

    prices: Mapping[str, float] = field(metadata=row(check_prices, lambda _: {}))
    """`KINETIC_PRICES`: what an hour of a chip costs, in US dollars by the accelerator's family, as
    a JSON object such as `{"tpu-v6e": 2.1, "h100:spot": 4.5}` or a file with one."""

    credentials: ProfileCredentials | None = field(default=None, repr=False)
    """The profile's Google credentials; None for Application Default Credentials."""

    logins: Mapping[str, ProfileLogin] = field(default_factory=dict, repr=False)
    """The profile's logins to registries, by host."""

    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)
    """Where each value came from, by field."""

    @property
    def region(self) -> str:
        """The region that the cluster is in."""
        return cloud_names.region(self.zone)

    def api_url(self, api: str) -> str:
        """Return the URL of a Google API that is asked by REST.

        Args:
            api: First word of its host.
        """
        return cloud_names.api_url(api, self.api_endpoints)

    @property
    def names_cluster(self) -> bool:
        """Whether somebody named the cluster or its zone; else both are the defaults."""
        return any(self.sources.get(name, DEFAULT) != DEFAULT for name in ("cluster", "zone"))

    @property
    def base_repository(self) -> str | None:
        """The repository of base images that somebody configured; None for the default."""
        return None if self.sources.get("base_image_repo") == DEFAULT else self.base_image_repo


def resolve_cloud(
    *,
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    profile: Profile | None,
    project_file: ProjectSettings | None = None,
    is_profile_last: bool = False,
) -> CloudSettings:
    """Decide every setting of Google Cloud.

    Args:
        arguments: What the decorator says, by field; None counts as not said.
        environ: Variables.
        profile: The active profile; None for none.
        project_file: What the project's `pyproject.toml` says; None for nothing.
        is_profile_last: Whether that file's values come before the profile's.

    Raises:
        ConfigurationError: A value cannot be, or there is no project.
    """
    givers = Givers(
        environ=environ,
        arguments=arguments,
        profile=profile,
        project=project_file,
        is_profile_last=is_profile_last,
    )
    if givers.given(rows(CloudSettings)["project"]) is None:
        raise _missing_project(profile)
    values, sources = givers.resolve(CloudSettings)
    return CloudSettings(
        **values,
        credentials=profile.credentials if profile else None,
        logins=profile.logins if profile else {},
        sources=sources,
    )


def check_value(name: str, value: object) -> Any:
    """Check one value of a profile, and return it as it is used.

    Args:
        name: The field of `CloudSettings`.
        value: What it is to be.

    Raises:
        ConfigurationError: It cannot be.
    """
    return rows(CloudSettings)[name].parse(value, name)


def _missing_project(profile: Profile | None) -> ConfigurationError:
    where = f", and profile {profile.name!r} names none" if profile else ""
    return ConfigurationError(
        f"no Google Cloud project is configured{where}",
        hint="set one up with `kinetic init`, set KINETIC_PROJECT (GOOGLE_CLOUD_PROJECT will do), "
        "write @kinetic.run(project=...), or name a saved profile with KINETIC_PROFILE or "
        "cluster=; or set KINETIC_PLATFORM=local to run on this machine",
    )
