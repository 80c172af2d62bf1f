"""Output directories of runs on a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetic_flows.clients.google.outputs import BucketOutputs, OutputBucket
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.settings.cloud import CloudSettings

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


def cluster_outputs(
    directory: str, cloud: CloudSettings, credentials: Credentials | None
) -> BucketOutputs:
    """Return the files of an output directory.

    Args:
        directory: A `gs://` URI.
        cloud: The settings in force.
        credentials: Those to ask Google with; None for Application Default Credentials.

    Raises:
        UsageError: It is on a volume of the run's pod.
    """
    scheme, _, place = directory.partition("://")
    if scheme != "gs":
        raise UsageError(
            f"{directory} is on a volume of the run's pod, which is not read from here",
            value=directory,
            hint="read it in a run that has the same volume, or give output_dir a name or a "
            "gs:// URI",
        )
    bucket, _, prefix = place.partition("/")
    return BucketOutputs(
        OutputBucket(
            bucket,
            prefix=prefix,
            project=cloud.project,
            endpoint=cloud.storage_endpoint,
            credentials=credentials,
        )
    )
