"""What Google's roles allow, as far as anything here asks for it.

https://cloud.google.com/iam/docs/roles-permissions
"""

from __future__ import annotations

_READ = ("*.get", "*.list", "*.getIamPolicy")

_ROLES: dict[str, tuple[str, ...]] = {
    "roles/owner": ("*",),
    "roles/editor": (
        *("artifactregistry.*", "cloudbuild.*", "compute.*", "container.*", "storage.buckets.*"),
        *("iam.serviceAccounts.create", "iam.serviceAccounts.get", "iam.serviceAccounts.list"),
        *("iam.serviceAccounts.actAs", "resourcemanager.projects.get", "serviceusage.*"),
    ),
    "roles/viewer": _READ,
    "roles/browser": ("resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy"),
    "roles/artifactregistry.admin": ("artifactregistry.*",),
    "roles/artifactregistry.reader": (
        *("artifactregistry.repositories.get", "artifactregistry.repositories.list"),
        "artifactregistry.repositories.downloadArtifacts",
    ),
    "roles/artifactregistry.writer": (
        *("artifactregistry.repositories.get", "artifactregistry.repositories.list"),
        "artifactregistry.repositories.downloadArtifacts",
        "artifactregistry.repositories.uploadArtifacts",
    ),
    "roles/cloudbuild.builds.editor": ("cloudbuild.builds.*", "resourcemanager.projects.get"),
    "roles/compute.networkAdmin": (
        *("compute.routers.*", "compute.networks.*", "compute.subnetworks.*"),
        *("compute.regions.get", "compute.globalOperations.get", "compute.regionOperations.get"),
    ),
    "roles/compute.viewer": tuple(f"compute.*.{verb}" for verb in ("get", "list")),
    "roles/container.admin": ("container.*", "resourcemanager.projects.get"),
    "roles/container.clusterViewer": (
        *("container.clusters.get", "container.clusters.list", "container.clusters.connect"),
        "resourcemanager.projects.get",
    ),
    "roles/container.developer": (
        *("container.clusters.get", "container.clusters.list", "container.pods.*"),
        *("container.jobs.*", "container.services.*", "container.secrets.*"),
    ),
    "roles/container.defaultNodeServiceAccount": (
        *("logging.logEntries.create", "monitoring.timeSeries.create", "autoscaling.sites.*"),
    ),
    "roles/iam.serviceAccountAdmin": (
        "iam.serviceAccounts.*Policy",
        *(f"iam.serviceAccounts.{verb}" for verb in ("create", "delete", "get", "list", "update")),
    ),
    "roles/iam.serviceAccountUser": ("iam.serviceAccounts.actAs", "iam.serviceAccounts.get"),
    "roles/iam.workloadIdentityUser": ("iam.serviceAccounts.getAccessToken",),
    "roles/logging.logWriter": ("logging.logEntries.create",),
    "roles/resourcemanager.projectIamAdmin": (
        *("resourcemanager.projects.get", "resourcemanager.projects.getIamPolicy"),
        "resourcemanager.projects.setIamPolicy",
    ),
    "roles/serviceusage.serviceUsageAdmin": ("serviceusage.services.*",),
    "roles/serviceusage.serviceUsageConsumer": (
        *("serviceusage.services.get", "serviceusage.services.list", "serviceusage.services.use"),
    ),
    "roles/storage.admin": ("storage.*",),
    "roles/storage.objectUser": ("storage.objects.*", "storage.multipartUploads.*"),
    "roles/storage.objectViewer": ("storage.objects.get", "storage.objects.list"),
    "roles/storage.bucketViewer": ("storage.buckets.get", "storage.buckets.list"),
}


def permissions_of(role: str) -> tuple[str, ...]:
    """Return the permissions of a role, as patterns; none for one that is not known here."""
    return _ROLES.get(role, ())
