"""Tags, labels and loggers by which flow runs and deployments are known in Prefect."""

from __future__ import annotations

_KEY_CHARACTERS_IN_TAG = 12

RUN_TAG = "kinetic"
"""Tag of every flow run that this library makes."""

STORE_LABEL = "kinetic.store"
"""Label that tells which store a run's objects are in."""

LAUNCHED_LABEL = "kinetic.launched"
"""Label that tells when a run's client began to start its process."""

PLACE_LABEL = "kinetic.place"
"""Label with where a run's process is: a client that cannot see that leaves its state alone."""

PLATFORM_LABEL = "kinetic.platform"
"""Label that tells where a run was launched."""

OUTPUTS_LABEL = "kinetic.outputs"
"""Label that tells below which directory or URI runs have one each for their outputs."""

OUTPUT_DIR_LABEL = "kinetic.output-dir"
"""Label with the directory or URI of a run's outputs, where that is not named by its id alone."""

JOB_LABEL = "kinetic.job"
"""Label that holds the digest of a run's job, so that it can be launched again unforged."""

CANDIDATES_LABEL = "kinetic.candidates"
"""Label of a run that may go on several accelerators: the digest of what lists them."""

SLICES_LABEL = "kinetic.slices"
"""Label of a run on several TPU slices: how many."""

PARENT_LABEL = "kinetic.group"
"""Label of the runs of a group: the id of the flow run above them."""

INDEX_LABEL = "kinetic.index"
"""Label of the runs of a group: the place of the run's input, from 0."""

RETRY_LABEL = "kinetic.retry-of"
"""Label that names the run that a run repeats."""

BISECT_LABEL = "kinetic.bisect"
"""Label of a run that was made of parts of two others: the digest of what it was started with."""

FUNCTION_LABEL = "kinetic.function"
"""Label that names the function of a run."""

DISPATCH_LABEL = "kinetic.dispatch"
"""Label that tells who starts a run's process: `client`, or `worker`."""

DEPLOYMENT_VERSION_LABEL = "kinetic.deployment-version"
"""Label of a deployment that identifies everything that was deployed."""

IMAGE_LABEL = "kinetic.image"
"""Label of a run or deployment that tells its image, by digest."""

PACKAGES_LABEL = "kinetic.packages"
"""Label of a run or deployment whose packages are mounted: the image that has them, by digest."""

SECRETS_LABEL = "kinetic.secrets"
"""Label of a run or deployment that names its secret variables and where they come from."""

ACCELERATOR_LABEL = "kinetic.accelerator"
"""Label that tells what a run runs on."""

ORIGIN_LABELS = {
    "commit": "kinetic.git-commit",
    "branch": "kinetic.git-branch",
    "is_dirty": "kinetic.git-dirty",
    "user": "kinetic.user",
    "host": "kinetic.host",
    "entry": "kinetic.entry-file",
    "client": "kinetic.client-version",
}
"""Labels that tell where a run's call came from, by what each tells."""

SECONDS_LABEL = "kinetic.seconds."
"""Beginning of the labels that tell how long a phase of a run took."""

USED_LABEL = f"{SECONDS_LABEL}used."
"""Beginning of the labels with for how long a run that started again had its chips before, by the
round of its list and the accelerator: `runner_image/runner/starts.py`."""

SINCE_LABEL = f"{SECONDS_LABEL}since"
"""Label of such a run: since when its last start has them, in seconds since 1970."""

HOSTS_LABEL = "kinetic.hosts"
"""Label of a run on several nodes with CPUs or GPUs: how many."""

CLIENT_LOGGER = "kinetic.client"
"""Logger of what clients add to a run's log."""

STEPS_LOGGER = "prefect.task_runs.kinetic"
"""Logger of what the steps before a run's launch come to, which is no output of the run."""

PREFECT_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
"""Loggers of `get_run_logger()`: the others of Prefect tell of a run from outside."""

CACHE_LABEL = "kinetic.cache-key"
"""Label of runs whose results may answer further calls: what such a call has to have."""

CACHED_FROM_LABEL = "kinetic.cached-from"
"""Label that names the run whose result another one's is."""

CACHED_KEY_LABEL = "kinetic.cached-key"
"""Label of a run whose result another one's is: that one's key, masked by this run's own."""

PREPARING = "Preparing"
"""Name of the state, Pending by its type, of a run whose image and code are being made."""


def cache_tag(key: str) -> str:
    """Tag by which runs with a cache key are found."""
    return f"cache:{key[:_KEY_CHARACTERS_IN_TAG]}"


def user_tag(user: str) -> str:
    """Tag by which the runs that a person started are found."""
    return f"user:{user}"


def retry_tag(run_id: str) -> str:
    """Tag of a run that repeats another."""
    return f"retry-of:{run_id}"


def bisect_tag(key: str) -> str:
    """Tag of the runs that were made of parts of the same two others."""
    return f"bisect:{key[:_KEY_CHARACTERS_IN_TAG]}"
