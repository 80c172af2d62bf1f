"""The settings of Google Cloud: what each may be, and which of its givers wins.

A value comes from the decorator's argument, else the environment, else the active profile,
else a default; where it came from is kept beside it. Nothing here reads anything: variables
and profiles are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.core.settings import values as check
from kinetic_flows.core.settings.pool_variables import check_job_variables

Dispatch = Literal["auto", "client", "worker"]

DEFAULT_RETENTION_DAYS = 30
DEFAULT_ZONE = "us-central1-a"
DEFAULT_CLUSTER = "kinetic-cluster"
DEFAULT_BASE_IMAGE_REPO = "kinetic"
MAX_BUILD_SECONDS = 86_400
"""A build runs for a day at most: https://cloud.google.com/build/quotas."""


@dataclass(frozen=True)
class Source:
    """Where a value came from.

    Attributes:
        kind: Who gave it.
        name: The argument, the variable or the profile; empty for a default.
    """

    kind: Literal["argument", "environment", "profile", "default"]
    name: str = ""

    def __str__(self) -> str:
        """Return it as `kinetic config` shows it."""
        return f"{self.kind} {self.name}".rstrip()


DEFAULT = Source("default")


class ProfileCredentials(Protocol):
    """Google credentials that a profile carries."""

    @property
    def name(self) -> str:
        """Name of the saved credentials."""
        ...

    @property
    def profile(self) -> str:
        """Name of the profile, for blocks that refer to it."""
        ...

    def load(self) -> Any:
        """Return them as `google.auth` credentials."""
        ...


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A saved cluster.

    Attributes:
        name: The name it is saved under.
        values: What it sets, by field of `CloudSettings`.
        credentials: The Google credentials it carries; None for none.
    """

    name: str
    values: Mapping[str, object]
    credentials: ProfileCredentials | None = field(default=None, repr=False)


class Profiles(Protocol):
    """Where profiles are saved."""

    def load(self, name: str) -> Profile | None:
        """Return a profile; None when there is none of that name."""
        ...

    def names(self) -> tuple[str, ...]:
        """Return the names of all profiles."""
        ...


@dataclass(frozen=True, kw_only=True)
class CloudSettings:
    """What decides where on Google Cloud things are, with the variable that sets each.

    Attributes:
        project: `KINETIC_PROJECT`: the project's id.
        zone: `KINETIC_ZONE`: the cluster's zone, or the region of a regional cluster.
        cluster: `KINETIC_CLUSTER`: the GKE cluster.
        namespace: `KINETIC_NAMESPACE`: the Kubernetes namespace of runs.
        work_pool: `KINETIC_WORK_POOL`: the Prefect work pool of runs.
        base_image_repo: `KINETIC_BASE_IMAGE_REPO`: repository of prebuilt base images.
        base_image_tag: `KINETIC_BASE_IMAGE_TAG`: version tag of those images; None for the version
            of kinetic-flows.
        jobs_bucket: `KINETIC_JOBS_BUCKET`: bucket of code, payloads and results.
        builds_bucket: `KINETIC_BUILDS_BUCKET`: bucket of build sources and logs.
        image_repo: `KINETIC_IMAGE_REPO`: Artifact Registry repository of the cluster's images.
        build_location: `KINETIC_BUILD_LOCATION`: `global`, or the region of builds.
        build_service_account: `KINETIC_BUILD_SERVICE_ACCOUNT`: who builds run as; None for the
            project's default.
        build_machine_type: `KINETIC_BUILD_MACHINE_TYPE`: such as `E2_HIGHCPU_8`; None for Cloud
            Build's default.
        build_timeout_seconds: `KINETIC_BUILD_TIMEOUT_SECONDS`: limit for a build.
        cloud_build_endpoint: `KINETIC_CLOUD_BUILD_ENDPOINT`: another Cloud Build, as `host:port`,
            or `http://host:port` for plain text; None for Google's.
        secret_manager_endpoint: `KINETIC_SECRET_MANAGER_ENDPOINT`: likewise for Secret Manager.
        artifact_registry_endpoint: `KINETIC_ARTIFACT_REGISTRY_ENDPOINT`: likewise for Artifact
            Registry's own API; its images are at `registry_endpoints`.
        storage_endpoint: `KINETIC_STORAGE_ENDPOINT`, else `STORAGE_EMULATOR_HOST`: URL of
            another Cloud Storage; None for Google's.
        registry_endpoints: `KINETIC_REGISTRY_ENDPOINTS`: URLs of registries by host, written as
            `host=url,host=url`.
        registry_logins: `KINETIC_REGISTRY_LOGINS`: how builds log in to registries that base
            images are pulled from, by host: the names of two secrets of Secret Manager, written
            as `host=user-secret:token-secret`.
        retention_days: `KINETIC_RETENTION_DAYS`: after how long a run's own objects expire.
        dispatch: `KINETIC_DISPATCH`: who creates the Kubernetes Job: this `client`, a `worker`,
            or `auto` for the client where it has the cluster's credentials.
        job_variables: `KINETIC_JOB_VARIABLES`: variables of the work pool's job template for
            every run, as a JSON object, such as `{"service_account_name": "trainer"}`.
        credentials: The profile's Google credentials; None for Application Default Credentials.
        sources: Where each value came from, by field.
    """

    project: str
    zone: str
    cluster: str
    namespace: str
    work_pool: str
    base_image_repo: str
    base_image_tag: str | None
    jobs_bucket: str
    builds_bucket: str
    image_repo: str
    build_location: str
    build_service_account: str | None
    build_machine_type: str | None
    build_timeout_seconds: int
    cloud_build_endpoint: str | None
    secret_manager_endpoint: str | None
    artifact_registry_endpoint: str | None
    storage_endpoint: str | None
    registry_endpoints: Mapping[str, str]
    retention_days: int
    dispatch: Dispatch
    registry_logins: Mapping[str, str] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    credentials: ProfileCredentials | None = field(default=None, repr=False)
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)

    @property
    def region(self) -> str:
        """The region that the cluster is in."""
        return cloud_names.region(self.zone)

    @property
    def names_cluster(self) -> bool:
        """Whether somebody named the cluster or its zone; else both are the defaults."""
        return any(self.sources.get(name, DEFAULT) != DEFAULT for name in ("cluster", "zone"))

    @property
    def base_repository(self) -> str | None:
        """The repository of base images that somebody configured; None for the default."""
        return None if self.sources.get("base_image_repo") == DEFAULT else self.base_image_repo


@dataclass(frozen=True)
class _Kind:
    """How one setting is read.

    Attributes:
        parse: Checks a value, given what to call it in an error.
        default: Its value when nobody gives one, from the values known by then.
    """

    parse: Callable[[object, str], Any]
    default: Callable[[Mapping[str, Any]], Any] = lambda _: None


KINDS: Mapping[str, _Kind] = {
    "project": _Kind(check.project),
    "zone": _Kind(check.zone, lambda _: DEFAULT_ZONE),
    "cluster": _Kind(check.cluster, lambda _: DEFAULT_CLUSTER),
    "namespace": _Kind(check.namespace, lambda _: "default"),
    "work_pool": _Kind(check.work_pool, lambda _: cloud_names.WORK_POOL),
    "base_image_repo": _Kind(check.image_repository, lambda _: DEFAULT_BASE_IMAGE_REPO),
    "base_image_tag": _Kind(check.image_tag),
    "jobs_bucket": _Kind(
        check.bucket, lambda it: cloud_names.jobs_bucket(it["project"], it["cluster"])
    ),
    "builds_bucket": _Kind(
        check.bucket, lambda it: cloud_names.builds_bucket(it["project"], it["cluster"])
    ),
    "image_repo": _Kind(
        check.image_repository,
        lambda it: cloud_names.cluster_repository(it["project"], it["zone"], it["cluster"]),
    ),
    "build_location": _Kind(check.build_location, lambda _: "global"),
    "build_service_account": _Kind(check.service_account),
    "build_machine_type": _Kind(check.machine_type),
    "build_timeout_seconds": _Kind(
        check.whole_number("seconds", maximum=MAX_BUILD_SECONDS), lambda _: 3600
    ),
    "cloud_build_endpoint": _Kind(check.endpoint),
    "secret_manager_endpoint": _Kind(check.endpoint),
    "artifact_registry_endpoint": _Kind(check.endpoint),
    "storage_endpoint": _Kind(check.url),
    "registry_endpoints": _Kind(check.endpoints, lambda _: {}),
    "registry_logins": _Kind(check.registry_logins, lambda _: {}),
    "retention_days": _Kind(check.whole_number("days"), lambda _: DEFAULT_RETENTION_DAYS),
    "dispatch": _Kind(check.choice("auto", "client", "worker"), lambda _: "auto"),
    "job_variables": _Kind(check_job_variables, lambda _: {}),
}
"""Every setting, in the order in which they are decided and shown."""

_PREFIX = "KINETIC_"
_ALSO = {"project": "GOOGLE_CLOUD_PROJECT", "storage_endpoint": "STORAGE_EMULATOR_HOST"}
"""Variables of Google's own that fill in what nobody else gives."""


def resolve_cloud(
    *, arguments: Mapping[str, object], environ: Mapping[str, str], profile: Profile | None
) -> CloudSettings:
    """Decide every setting of Google Cloud.

    Args:
        arguments: What the decorator says, by field; None counts as not said.
        environ: Variables.
        profile: The active profile; None for none.

    Raises:
        ConfigurationError: A value cannot be, or there is no project.
    """
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for name, kind in KINDS.items():
        given = _given(name, arguments, environ, profile)
        if given is None:
            if name == "project":
                raise _missing_project(profile)
            values[name], sources[name] = kind.default(values), DEFAULT
            continue
        value, sources[name] = given
        values[name] = kind.parse(value, _label(name, sources[name]))
    credentials = profile.credentials if profile else None
    return CloudSettings(**values, credentials=credentials, sources=sources)


def variable(name: str) -> str:
    """Return the variable that sets a field."""
    return _PREFIX + name.upper()


def check_value(name: str, value: object) -> Any:
    """Check one value of a profile, and return it as it is used.

    Args:
        name: The field of `CloudSettings`.
        value: What it is to be.

    Raises:
        ConfigurationError: It cannot be.
    """
    return KINDS[name].parse(value, name)


def _given(
    name: str,
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    profile: Profile | None,
) -> tuple[object, Source] | None:
    """Return the value that wins, and who gave it; None when nobody did."""
    if arguments.get(name) is not None:
        return arguments[name], Source("argument", f"{name}=")
    own, also = variable(name), _ALSO.get(name)
    if environ.get(own, "").strip():
        return environ[own].strip(), Source("environment", own)
    if profile and profile.values.get(name) is not None:
        return profile.values[name], Source("profile", profile.name)
    if also and environ.get(also, "").strip():
        return _googles(also, environ[also].strip()), Source("environment", also)
    return None


def _googles(name: str, value: str) -> str:
    """Return the value of one of Google's variables; emulators are named without a scheme."""
    if name == "STORAGE_EMULATOR_HOST" and "://" not in value:
        return f"http://{value}"
    return value


def _label(name: str, source: Source) -> str:
    """Return what to call a setting in an error."""
    if source.kind == "profile":
        return f"{name} of profile {source.name!r}"
    return source.name


def _missing_project(profile: Profile | None) -> ConfigurationError:
    where = f", and profile {profile.name!r} names none" if profile else ""
    return ConfigurationError(
        f"no Google Cloud project is configured{where}",
        hint="set KINETIC_PROJECT (GOOGLE_CLOUD_PROJECT will do), write "
        "@kinetic.run(project=...), or name a saved KineticCluster block with KINETIC_PROFILE or "
        "cluster=; or set KINETIC_PLATFORM=local to run on this machine",
    )
