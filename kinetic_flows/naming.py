"""Every name of something that outlives a process: objects, environments, flows, tags.

No other module spells one of these patterns.
"""

from __future__ import annotations

import re

PARENT_FLOW = "kinetic-run"
BUILD_IMAGE_FLOW = "kinetic-build-image"
RECONCILE_FLOW = "kinetic-reconcile"

TASK_LOCK_DEPENDENCIES = "lock-dependencies"
TASK_RESOLVE_IMAGE = "resolve-image"
TASK_BUILD_IMAGE = "build-image"
TASK_UPLOAD_CODE = "upload-code"
TASK_LAUNCH_ACCELERATOR = "launch-accelerator"
TASK_AWAIT_RUN = "await-run"

RUN_KEY_VARIABLE = "KINETIC_RUN_KEY"
"""Environment variable by which a run's process is handed its HMAC key."""

RUN_TAG = "kinetic"
"""Tag of every flow run that this library makes."""

STORE_LABEL = "kinetic.store"
"""Label that tells which store a run's objects are in."""

PLATFORM_LABEL = "kinetic.platform"
"""Label that tells where a run was launched."""

HASH_CHARACTERS_IN_TAG = 12


def pack_object(sha256: str) -> str:
    """Name of a code pack, by the digest of its uncompressed content."""
    return f"packs/{sha256}"


def manifest_object(sha256: str) -> str:
    """Name of a code manifest, by its digest."""
    return f"packs/{sha256}.json"


def lock_object(inputs_sha256: str) -> str:
    """Name of a resolved lock, by the digest of what it was resolved from."""
    return f"locks/{inputs_sha256}.txt"


def wheel_object(sha256: str, filename: str) -> str:
    """Name of a wheel that ships with jobs."""
    return f"wheels/{sha256}/{filename}"


def runner_object(sha256: str) -> str:
    """Name of the runner's zipapp."""
    return f"runners/{sha256}.pyz"


def run_prefix(run_id: str) -> str:
    """Common prefix of all of a run's own objects."""
    return f"runs/{run_id}/"


def job_object(run_id: str) -> str:
    """Name of a run's job specification."""
    return f"runs/{run_id}/job.json"


def payload_object(run_id: str) -> str:
    """Name of a run's pickled call."""
    return f"runs/{run_id}/payload.pkl"


def result_object(run_id: str) -> str:
    """Name of a run's result envelope."""
    return f"runs/{run_id}/result.pkl"


def output_prefix(run_id: str) -> str:
    """Prefix of the files a run keeps for its user."""
    return f"outputs/{run_id}/"


def image_tag(category: str, dependency_hash: str) -> str:
    """Tag of the image (locally: name of the environment) of one dependency hash."""
    return f"{category}-{dependency_hash[:HASH_CHARACTERS_IN_TAG]}"


def local_image_reference(category: str, dependency_hash: str) -> str:
    """Reference of an environment on this machine."""
    return f"local/{image_tag(category, dependency_hash)}"


def build_cache_key(reference: str, dependency_hash: str) -> str:
    """Key under which Prefect caches a build: what is in the image, and where it goes."""
    return f"kinetic-build-{slug(reference)}-{dependency_hash}"


def run_name(text: str) -> str:
    """Reduce a function's name to what Prefect accepts as a flow's: `<lambda>` is `lambda`."""
    return re.sub(r"[/%&<>\s]+", " ", text).strip() or "function"


def slug(text: str) -> str:
    """Reduce a text to lower-case letters, digits and dashes, for names and tags."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"


HEADLESS_SERVICE = "kinetic-hosts"
"""Service under which the hosts of a slice find one another; one per namespace."""

RUN_ID_POD_LABEL = "prefect.io/flow-run-id"
"""Label by which Prefect marks a run's Job and pods."""

MAX_JOB_NAME_CHARACTERS = 57
"""Leaves room for `-` and a host's number within the 63 characters of a host name."""


def kubernetes_job_name(name: str, run_id: str) -> str:
    """Name of a run's Job; the run's id in it makes a repeated creation find the first."""
    room = MAX_JOB_NAME_CHARACTERS - len(run_id) - 1
    return f"{slug(name)[:room].rstrip('-') or 'run'}-{run_id}"


def run_secret_name(job_name: str) -> str:
    """Name of the Secret that holds a run's key and API key."""
    return f"{job_name}-keys"
