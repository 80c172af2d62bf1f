"""Every name of something that outlives a process: objects, environments, flows, tags.

No other module spells one of these patterns.
"""

from __future__ import annotations

import hashlib
import re

PARENT_FLOW = "kinetic-run"
GROUP_FLOW = "kinetic-map"
DEPLOY_FLOW = "kinetic-deploy"
RECONCILE_FLOW = "kinetic-reconcile"

TASK_PREFLIGHT = "preflight"
TASK_LOCK_DEPENDENCIES = "lock-dependencies"
TASK_RESOLVE_IMAGE = "resolve-image"
TASK_BUILD_IMAGE = "build-image"
TASK_UPLOAD_DEPENDENCIES = "upload-dependencies"
TASK_UPLOAD_CODE = "upload-code"
TASK_LAUNCH_ACCELERATOR = "launch-accelerator"
TASK_AWAIT_RUN = "await-run"
STEP_RUN_INPUTS = "run-inputs"
"""What is shown of a group while its inputs run; no task, as each input is a flow run."""

INPUTS_ARTIFACT = "inputs"
"""Key of the table of a group's inputs, states and durations."""
TASK_PIN_OBJECTS = "pin-objects"
TASK_CREATE_DEPLOYMENT = "create-deployment"

BUILD_IMAGE_FLOW = "kinetic-build-image"
OUR_FLOWS = frozenset({PARENT_FLOW, GROUP_FLOW, DEPLOY_FLOW, BUILD_IMAGE_FLOW})
TASK_BUILD_BASE_IMAGE = "build-base-image"
BASE_IMAGES_ARTIFACT = "base-images"
"""Key of the Prefect artifact that shows what a run of that flow made."""

DOCKER_HUB_USERNAME_SECRET = "kinetic-docker-hub-username"  # noqa: S105 - a name
DOCKER_HUB_TOKEN_SECRET = "kinetic-docker-hub-token"  # noqa: S105 - a name
"""The secrets of Secret Manager that builds log in to Docker Hub with."""

_JOB_OWNER = "for-a-worker-"

JOB_VARIABLE = "KINETIC_JOB"
"""Environment variable by which a run's process is told where its job is."""

RUN_KEY_VARIABLE = "KINETIC_RUN_KEY"
"""Environment variable by which a run's process is handed its HMAC key."""

RUN_TAG = "kinetic"
"""Tag of every flow run that this library makes."""

RUN_ARTIFACT = "run"
"""Key of the artifact that says what a run is."""

STORE_LABEL = "kinetic.store"
"""Label that tells which store a run's objects are in."""

PLACE_LABEL = "kinetic.place"
"""Label that tells where a run's process is: who does not see that place does not judge it."""

PLATFORM_LABEL = "kinetic.platform"
"""Label that tells where a run was launched."""

OUTPUTS_LABEL = "kinetic.outputs"
"""Label that tells below which directory or URI a run keeps its outputs."""

JOB_LABEL = "kinetic.job"
"""Label that holds the digest of a run's job, so that it can be launched again unforged."""

PARENT_LABEL = "kinetic.group"
"""Label of the runs of a group: the id of the flow run above them."""

INDEX_LABEL = "kinetic.index"
"""Label of the runs of a group: the place of the run's input, from 0."""

RETRY_LABEL = "kinetic.retry-of"
"""Label that names the run that a run repeats."""

FUNCTION_LABEL = "kinetic.function"
"""Label that names the function of runs that Prefect names by itself."""

DISPATCH_LABEL = "kinetic.dispatch"
"""Label that tells who starts a run's process: `client`, or `worker`."""

DEPLOYMENT_VERSION_LABEL = "kinetic.deployment-version"
"""Label of a deployment that identifies everything that was deployed."""

IMAGE_LABEL = "kinetic.image"
"""Label of a deployment that tells its image, by digest."""

RUN_LOGGER = "kinetic"
"""Logger under which a run's own output is in Prefect's logs."""

CLIENT_LOGGER = "kinetic.client"
"""Logger of what those who follow a run add to its log."""

CACHE_LABEL = "kinetic.cache-key"
"""Label of runs whose results may answer further calls: what such a call has to have."""

CACHED_FROM_LABEL = "kinetic.cached-from"
"""Label that names the run whose result another one's is."""

RUNS = "runs"
"""Where runs have what is theirs alone in the store, and expires."""

OUTPUTS = "outputs"
"""Where runs keep their outputs in the store."""

HASH_CHARACTERS_IN_TAG = 12

LABEL_CATEGORY = "kinetic.category"
LABEL_VARIANT = "kinetic.variant"
LABEL_PYTHON = "kinetic.python"
LABEL_DEPENDENCY_HASH = "kinetic.dependency-hash"
LABEL_LOCK_DIGEST = "kinetic.lock-digest"
LABEL_BASE_IDENTITY = "kinetic.base-identity"
LABEL_VERSION = "kinetic.version"
LABEL_KIND = "kinetic.kind"
LABEL_INPUTS = "kinetic.inputs"
LABEL_BASE_NAME = "org.opencontainers.image.base.name"
LABEL_TITLE = "org.opencontainers.image.title"


def pack_object(sha256: str) -> str:
    """Name of a code pack, by the digest of its uncompressed content."""
    return f"packs/{sha256}"


def manifest_object(sha256: str) -> str:
    """Name of a code manifest, by its digest."""
    return f"packs/{sha256}.json"


def lock_object(inputs_sha256: str) -> str:
    """Name of a resolved lock, by the digest of what it was resolved from."""
    return f"locks/{inputs_sha256}.txt"


def lock_signature_object(inputs_sha256: str, key: bytes) -> str:
    """Name of a lock's signature, by the key it was made with: teams may share a bucket."""
    return f"locks/{inputs_sha256}.{hashlib.sha256(key).hexdigest()[:16]}.sig"


def store_key_block(bucket: str) -> str:
    """Name of the Prefect block with the key of those who write to a bucket."""
    return f"kinetic-store-key-{hashlib.sha256(bucket.encode()).hexdigest()[:12]}"


def wheel_object(sha256: str, filename: str) -> str:
    """Name of a wheel that ships with jobs."""
    return f"wheels/{sha256}/{filename}"


def runner_object(sha256: str) -> str:
    """Name of the runner's zipapp."""
    return f"runners/{sha256}.pyz"


def build_source_object(sha256: str) -> str:
    """Name of a build's source archive, by its digest."""
    return f"builds/{sha256}.tar.gz"


BUILD_LOGS = "logs"
"""Where the logs of builds are."""


def lease_object(subject: str) -> str:
    """Name of the lease of whoever builds a subject: a dependency hash, or a base."""
    return f"leases/{subject}.json"


def lease_followers_prefix(subject: str) -> str:
    """Common prefix of the marks of those who wait for a build."""
    return f"leases/{subject}/"


DOCKER_HUB_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


def base_image(repository: str, category: str, variant: str = "jax") -> str:
    """Name of one of a category's base images in a repository, without a tag."""
    return _image_in(repository, f"base-{base_kind(category, variant)}")


def base_kind(category: str, variant: str) -> str:
    """What a base is called: `gpu`, or `gpu-lean`."""
    return category if variant == "jax" else f"{category}-{variant}"


def controller_image(repository: str) -> str:
    """Name of the image that our flows run in, without a tag."""
    return _image_in(repository, "controller")


def _image_in(repository: str, name: str) -> str:
    """Name an image in a repository.

    Docker Hub's names have exactly two parts, so `user/name` becomes `user/name-base-cpu`,
    while `user` becomes `user/base-cpu`; a registry of one's own takes paths.
    """
    first, _, rest = repository.strip("/").partition("/")
    is_host = bool(set(first) & set(".:")) or first == "localhost"
    on_docker_hub = not is_host or first in DOCKER_HUB_HOSTS
    path = rest if first in DOCKER_HUB_HOSTS else f"{first}/{rest}".rstrip("/")
    joint = "-" if on_docker_hub and "/" in path else "/"
    return f"{repository.strip('/')}{joint}{name}"


def python_tag(tag: str, python: str) -> str:
    """Tag of a base image's variant for one Python version."""
    return f"{tag}-py{python}"


def base_tag(python: str, identity: str) -> str:
    """Tag of a base image that was built for one Python version from known inputs."""
    return f"py{python}-{identity[:HASH_CHARACTERS_IN_TAG]}"


def requirements_object(sha256: str) -> str:
    """Name of a lock as a run installs it, by its digest."""
    return f"requirements/{sha256}.txt"


def build_tag(reference: str, subject: str) -> str:
    """Tag by which the builds of one image in one repository are found (128 characters fit)."""
    return f"kinetic-{subject[:HASH_CHARACTERS_IN_TAG]}-{slug(reference)}"[:128].rstrip("-")


def job_object(run_id: str) -> str:
    """Name of a run's job specification."""
    return f"runs/{run_id}/job.json"


def payload_object(run_id: str) -> str:
    """Name of a run's pickled call."""
    return f"runs/{run_id}/payload.pkl"


def job_owner(token: str) -> str:
    """What stands for a run's id in the names of a job that is written before its run is made.

    Flow runs have UUIDs, so it is no flow run's.

    Args:
        token: What tells it from others.
    """
    return f"{_JOB_OWNER}{token}"


def is_job_owner(owner: str) -> bool:
    """Whether what has objects among those of runs is such a job, and no run."""
    return owner.startswith(_JOB_OWNER)


def piece_object(owner: str, sha256: str) -> str:
    """Name of a part that several runs' calls have in common, with the flow run above them."""
    return f"runs/{owner}/pieces/{sha256}"


def result_object(run_id: str) -> str:
    """Name of a run's result envelope."""
    return f"runs/{run_id}/result.pkl"


def deployment_prefix(flow: str, name: str, token: str) -> str:
    """Prefix of what a deployment's runs need, which does not expire.

    The token keeps deployments of one name apart that are kept by different Prefect servers.
    """
    return f"deployments/{slug(flow)}-{slug(name)}-{token}/"


def deployment_version_prefix(prefix: str, sha256: str) -> str:
    """Prefix of what runs of one version of a deployment need."""
    return f"{prefix}{sha256}/"


def deployment_job_object(version_prefix: str) -> str:
    """Name of the job of a deployment's runs."""
    return f"{version_prefix}job.json"


def deployment_prefix_of(job_object: str) -> str | None:
    """Return the prefix of a deployment's objects, from its job's name; None for other jobs."""
    found = re.fullmatch(r"(deployments/[^/]+/)[^/]+/job\.json", job_object)
    return found[1] if found else None


def member_name(function: str, index: int | None) -> str:
    """Name of a run: its function's, with the place of its input when it is one of a group."""
    return function if index is None else f"{function}[{index}]"


def cache_tag(key: str) -> str:
    """Tag by which runs with a cache key are found."""
    return f"cache:{key[:HASH_CHARACTERS_IN_TAG]}"


def retry_tag(run_id: str) -> str:
    """Tag of a run that repeats another."""
    return f"retry-of:{run_id}"


def image_tag(category: str, dependency_hash: str) -> str:
    """Tag of the image (locally: name of the environment) of one dependency hash."""
    return f"{category}-{dependency_hash[:HASH_CHARACTERS_IN_TAG]}"


def local_image_reference(category: str, dependency_hash: str) -> str:
    """Reference of an environment on this machine."""
    return f"local/{image_tag(category, dependency_hash)}"


CACHE_PREFIX = "kinetic-"
"""What every key begins with under which Prefect caches something of ours."""


def build_cache_key(reference: str, dependency_hash: str) -> str:
    """Key under which Prefect caches a build: what is in the image, and where it goes."""
    return f"{CACHE_PREFIX}build-{slug(reference)}-{dependency_hash}"


def upload_cache_key(store_uri: str, dependency_hash: str, *, all_wheels: bool) -> str:
    """Key under which Prefect caches an upload: what is installed, from where, and how much."""
    wheels = "all-wheels" if all_wheels else "own-wheels"
    return f"{CACHE_PREFIX}dependencies-{slug(store_uri)}-{dependency_hash}-{wheels}"


BUILD_RESULTS = "results"
"""Where Prefect's records of builds are, in the jobs bucket."""


def build_cache_block(bucket: str, fingerprint: str) -> str:
    """Name of the saved block of a bucket's build cache, reached in a certain way."""
    return f"kinetic-{slug(bucket)}-{fingerprint[:8]}"


def run_name(function: object, given: str | None) -> str:
    """Name of a function's runs: the one given, else its own, as far as Prefect accepts it.

    A flow's name has none of `/%&<>`: the runs of a `<lambda>` are named `lambda`.
    """
    text: str = given or getattr(function, "__name__", None) or type(function).__name__
    return re.sub(r"[/%&<>\s]+", " ", text).strip() or "function"


def slug(text: str) -> str:
    """Reduce a text to lower-case letters, digits and dashes, for names and tags."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"


HEADLESS_SERVICE = "kinetic-hosts"
"""Service under which the hosts of a slice find one another; one per namespace."""

RUN_ID_POD_LABEL = "prefect.io/flow-run-id"
"""Label by which Prefect marks a run's Job and pods."""

SCHEDULE_TIMEOUT_ANNOTATION = "kinetic-flows/schedule-timeout-seconds"
"""Annotation of a Job that says how long it may wait for its pods; `none` for ever."""

MAX_JOB_NAME_CHARACTERS = 57
"""Leaves room for `-` and a host's number within the 63 characters of a host name."""


def kubernetes_job_name(name: str, run_id: str) -> str:
    """Name of a run's Job; the run's id in it makes a repeated creation find the first."""
    room = MAX_JOB_NAME_CHARACTERS - len(run_id) - 1
    return f"{slug(name)[:room].rstrip('-') or 'run'}-{run_id}"


def run_secret_name(job_name: str) -> str:
    """Name of the Secret that holds a run's key and API key."""
    return f"{job_name}-keys"


WORK_POOL = "kinetic-gke"
"""The Kubernetes work pool that runs are launched on."""

LOCAL_WORK_POOL = "kinetic-local"
"""The process work pool that runs of deployments on this machine go to."""

MAX_BUCKET_CHARACTERS = 63


def region(zone: str) -> str:
    """Region of a zone, such as `us-central1` of `us-central1-a`; a region is its own."""
    parts = zone.split("-")
    return zone if parts[-1][-1:].isdigit() else "-".join(parts[:-1])


def jobs_bucket(project: str, cluster: str) -> str:
    """Bucket of a cluster's runs: code, payloads, results."""
    return _bucket(project, cluster, "jobs")


def builds_bucket(project: str, cluster: str) -> str:
    """Bucket of a cluster's builds: their sources and logs."""
    return _bucket(project, cluster, "builds")


def cluster_repository(project: str, zone: str, cluster: str) -> str:
    """Artifact Registry repository of a cluster's images.

    An organisation's old project, `example.com:name`, is written there with a slash.
    """
    return f"{region(zone)}-docker.pkg.dev/{project.replace(':', '/')}/kn-{cluster}"


def project_image(repository: str, category: str, dependency_hash: str) -> str:
    """Reference, with its tag, of the image of one dependency hash in a cluster's repository."""
    return f"{repository}/app:{image_tag(category, dependency_hash)}"


def _bucket(project: str, cluster: str, purpose: str) -> str:
    """Name a bucket: names are shared by all the world, so the project is part of it."""
    name = f"{slug(project)}-kn-{cluster}-{purpose}"
    if len(name) <= MAX_BUCKET_CHARACTERS:
        return name
    digest = hashlib.sha256(f"{project}/{cluster}".encode()).hexdigest()[:8]
    ending = f"-{digest}-{purpose}"
    return name[: MAX_BUCKET_CHARACTERS - len(ending)].rstrip("-") + ending
