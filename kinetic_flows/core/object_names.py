"""Names of the objects in the store, and prefixes that several of them have in common.

Those that the runner writes are in `runner_image/runner/contract.py`.
"""

from __future__ import annotations

import hashlib
import re

from kinetic_flows.core.slug import slug

DATA_MANIFESTS, DATA_PACKS, DATA_PARTS = "data/manifests/", "data/packs/", "data/parts/"
"""What names of data's objects begin with."""

DATA_USES = "data/uses/"
"""Where it is noted on which days data was used."""

DATA_CLEANUP = "data/cleanup.json"
"""Says that data which nobody uses is being removed."""

RUNS = "runs"
"""Where runs have what is theirs alone in the store, and expires."""

METRICS = "metrics/"
BLACK_BOX = "black-box/"
"""Parts of names below a run's own: what its hosts used, and what they saw last."""

COMPILE_CACHE = "compile-cache/"
"""What names of compiled programs begin with."""

REHEARSALS = "rehearsals/"
"""What names of records of rehearsals begin with."""

DEPLOYMENTS = "deployments"
"""Where deployments have what their runs need."""

OUTPUTS = "outputs"
"""Where runs keep their outputs in the store."""

BUILD_SOURCES = "builds"
"""Where the sources of builds are."""

BUILD_LOGS = "logs"
"""Where the logs of builds are."""

_JOB_OWNER = "for-a-worker-"

BUILD_RESULTS = "results"
"""Where Prefect's records of builds are, in the jobs bucket."""


def pack_object(sha256: str) -> str:
    """Name of a code pack, by the digest of its uncompressed content."""
    return f"packs/{sha256}"


def manifest_object(sha256: str) -> str:
    """Name of a code manifest, by its digest."""
    return f"packs/{sha256}.json"


def data_manifest_object(sha256: str) -> str:
    """Name of what lists the files of some data, by the digest of its uncompressed content."""
    return f"{DATA_MANIFESTS}{sha256}"


def data_pack_object(digest: str) -> str:
    """Name of a pack of small files of data, by the digest of their digests."""
    return f"{DATA_PACKS}{digest}"


def data_part_object(sha256: str) -> str:
    """Name of a part of a large file of data, by the digest of its content."""
    return f"{DATA_PARTS}{sha256}"


def data_use_object(sha256: str, day: str) -> str:
    """Name of the note that data was used on a day, by the digest of its manifest.

    Args:
        sha256: The digest.
        day: The day, in UTC, as ISO 8601 writes it.
    """
    return f"{DATA_USES}{sha256}/{day}"


def lock_object(inputs_sha256: str) -> str:
    """Name of a resolved lock, by the digest of what it was resolved from."""
    return f"locks/{inputs_sha256}.txt"


def lock_signature_object(inputs_sha256: str, key: bytes) -> str:
    """Name of a lock's signature, by the key it was made with: teams may share a bucket."""
    return f"locks/{inputs_sha256}.{hashlib.sha256(key).hexdigest()[:16]}.sig"


def rehearsals_object(function: str, key: bytes) -> str:
    """Name of the records of a function's rehearsals, by the key that signs them.

    Args:
        function: The function, with its project and module.
        key: The key of a store's writers: teams may share a bucket.
    """
    digest, of_key = (hashlib.sha256(each).hexdigest() for each in (function.encode(), key))
    return f"{REHEARSALS}{digest}.{of_key[:16]}"


def wheel_object(sha256: str, filename: str) -> str:
    """Name of a wheel that ships with jobs."""
    return f"wheels/{sha256}/{filename}"


def runner_object(sha256: str) -> str:
    """Name of the runner's zipapp."""
    return f"runners/{sha256}.pyz"


def build_source_object(sha256: str) -> str:
    """Name of a build's source archive, by its digest."""
    return f"{BUILD_SOURCES}/{sha256}.tar.gz"


def lease_object(subject: str) -> str:
    """Name of the lease of the client that builds a subject: a dependency hash, or a base."""
    return f"leases/{subject}.json"


def output_lease_object(directory: str) -> str:
    """Name of the object that says which run writes to a directory or `gs://` URI.

    `runner_image/runner/output_leases.py` has the same.
    """
    return f"leases/outputs/{hashlib.sha256(directory.encode()).hexdigest()}.json"


def lease_followers_prefix(subject: str) -> str:
    """Common prefix of the marks of the clients that wait for a build."""
    return f"leases/{subject}/"


def requirements_object(sha256: str) -> str:
    """Name of a lock as a run installs it, by its digest."""
    return f"requirements/{sha256}.txt"


def run_objects(run_id: str) -> str:
    """Common prefix of what is one run's alone."""
    return f"{RUNS}/{run_id}/"


def job_object(run_id: str) -> str:
    """Name of a run's job specification."""
    return f"runs/{run_id}/job.json"


def payload_object(run_id: str) -> str:
    """Name of a run's pickled call."""
    return f"runs/{run_id}/payload.pkl"


def sealed_object(payload_name: str) -> str:
    """Name of what was sealed for the runs of a pickled call: it lies next to that."""
    return f"{payload_name.rpartition('/')[0]}/sealed"


def job_owner(token: str) -> str:
    """The stand-in for a run's id in the names of a job that is written before its run is made.

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


def candidates_object(owner: str) -> str:
    """Name of what lists the accelerators that a run may go on.

    Args:
        owner: The run, or the prefix of what its job is named after.
    """
    return f"runs/{owner}/candidates.json"


def candidate_job_object(owner: str, candidate: int) -> str:
    """Name of the job of one of a run's candidates."""
    return f"runs/{owner}/job-{candidate}.json"


def round_object(run_id: str, number: int) -> str:
    """Name of what says which candidates were launched at once."""
    return f"runs/{run_id}/rounds/{number}/round.json"


def claim_object(run_id: str, number: int) -> str:
    """Name of what says which candidate of a round calls the function."""
    return f"runs/{run_id}/rounds/{number}/claim.json"


def round_end_object(run_id: str, number: int) -> str:
    """Name of what says why the candidate that had a round's claim goes on elsewhere."""
    return f"runs/{run_id}/rounds/{number}/end.json"


def round_told_object(run_id: str, number: int) -> str:
    """Name of what says that people were told which candidate has a round's claim."""
    return f"runs/{run_id}/rounds/{number}/told.json"


def facts_object(run_id: str) -> str:
    """Name of what is kept of what a run's cluster said of its processes' end."""
    return f"{RUNS}/{run_id}/{BLACK_BOX}cluster.json"


def deployment_prefix(flow: str, name: str, token: str) -> str:
    """Prefix of what a deployment's runs need, which does not expire.

    The token keeps deployments of one name apart that are kept by different Prefect servers.
    """
    return f"{DEPLOYMENTS}/{slug(flow)}-{slug(name)}-{token}/"


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
