"""How a pod's account comes to read a bucket: Workload Identity, in words and as a command.

https://cloud.google.com/kubernetes-engine/docs/how-to/cloud-storage-fuse-csi-driver-setup#authentication
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

ACCOUNT_ANNOTATION = "iam.gke.io/gcp-service-account"
"""Annotation of a Kubernetes service account that names the Google one that it acts as."""

READER_ROLE = "roles/storage.objectViewer"
WRITER_ROLE = "roles/storage.objectUser"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a pod is to Google Cloud.

    Attributes:
        namespace: Namespace of its Kubernetes service account.
        name: That account's name.
        google_account: The Google service account that it acts as; empty where it acts as itself.
        project: The cluster's project; empty where that is not known.
    """

    namespace: str
    name: str
    google_account: str = ""
    project: str = ""

    @classmethod
    def of(
        cls, account: Mapping[str, Any], *, namespace: str, name: str, project: str = ""
    ) -> Self:
        """Return who the pods of a Kubernetes service account are.

        Args:
            account: The `ServiceAccount`; empty where it cannot be looked up.
            namespace: Its namespace.
            name: Its name.
            project: The cluster's project; empty where that is not known.
        """
        annotations = (account.get("metadata") or {}).get("annotations") or {}
        google = str(annotations.get(ACCOUNT_ANNOTATION) or "")
        return cls(namespace=namespace, name=name, google_account=google, project=project)

    def __str__(self) -> str:
        if self.google_account:
            return f"the service account {self.google_account}"
        return f"the Kubernetes service account {self.namespace}/{self.name}"

    @property
    def member(self) -> str:
        """Who it is in a policy of IAM, as a shell takes it in double quotes."""
        if self.google_account:
            return f"serviceAccount:{self.google_account}"
        project = self.project or "PROJECT"
        number = f"$(gcloud projects describe {project} --format='value(projectNumber)')"
        pool = f"projects/{number}/locations/global/workloadIdentityPools/{project}.svc.id.goog"
        account = f"ns/{self.namespace}/sa/{self.name}"
        return f"principal://iam.googleapis.com/{pool}/subject/{account}"


def grant_command(identity: Identity, bucket: str, *, is_written: bool) -> str:
    """Return the command that lets a pod's account read a bucket, or write to it, too."""
    role = WRITER_ROLE if is_written else READER_ROLE
    return (
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --role={role} "
        f'--member="{identity.member}"'
    )


def access_notice(identity: Identity, bucket: str, *, is_written: bool) -> str:
    """Say which role a pod's account needs on a bucket that is mounted, and how to give it."""
    role = WRITER_ROLE if is_written else READER_ROLE
    command = grant_command(identity, bucket, is_written=is_written)
    return (
        f"pods mount gs://{bucket} as {identity}, which needs {role} on it (that is not looked "
        f"up); this grants it: {command}"
    )
