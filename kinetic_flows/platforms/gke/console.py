"""Where Google Cloud's console shows what belongs to a run.

The addresses are those that the console itself links to: of Kubernetes Engine's workloads, the Logs
Explorer (https://cloud.google.com/logging/docs/view/building-queries) and buckets. In the logs'
labels of pods a dot is an underscore.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from kinetic_flows.core.object_names import RUNS
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL

CONSOLE = "https://console.cloud.google.com"


def job_page(cloud: CloudSettings, namespace: str, job_name: str) -> str:
    """Return the page of a Job."""
    where = "/".join((cloud.zone, cloud.cluster, namespace, job_name))
    return f"{CONSOLE}/kubernetes/job/{where}/details?{urlencode({'project': cloud.project})}"


def logs_page(cloud: CloudSettings, run_id: str) -> str:
    """Return the page of what the pods of a run have printed."""
    label = RUN_ID_POD_LABEL.replace(".", "_")
    query = f'resource.type="k8s_container"\nlabels."k8s-pod/{label}"="{run_id}"'
    project = urlencode({"project": cloud.project})
    return f"{CONSOLE}/logs/query;query={quote(query, safe='')}?{project}"


def bucket_page(bucket: str, run_id: str) -> str:
    """Return the page of a run's objects in its bucket."""
    return f"{CONSOLE}/storage/browser/{bucket}/{RUNS}/{run_id}"


def run_pages(
    cloud: CloudSettings, run_id: str, namespace: str, job_name: str | None
) -> Mapping[str, str]:
    """Return the pages of a run by what they show.

    Args:
        cloud: The settings of Google Cloud.
        run_id: The run.
        namespace: The namespace of its Job.
        job_name: Its Job's name; None where a worker has named it.
    """
    job = {"Job": job_page(cloud, namespace, job_name)} if job_name else {}
    return {
        **job,
        "pod logs": logs_page(cloud, run_id),
        "bucket": bucket_page(cloud.jobs_bucket, run_id),
    }
