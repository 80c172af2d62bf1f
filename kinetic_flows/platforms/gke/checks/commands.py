"""Commands that give somebody a role, as a shell takes them.

https://cloud.google.com/sdk/gcloud/reference
"""

from __future__ import annotations

from kinetic_flows.platforms.gke.builds.artifact_registry import ArtifactRepository


def grant_on_project(project: str, member: str, role: str) -> str:
    """Return what gives a role on a project."""
    return f'gcloud projects add-iam-policy-binding {project} --member="{member}" --role={role}'


def grant_on_bucket(bucket: str, member: str, role: str) -> str:
    """Return what gives a role on a bucket."""
    return (
        f"gcloud storage buckets add-iam-policy-binding gs://{bucket} "
        f'--member="{member}" --role={role}'
    )


def grant_on_repository(repository: ArtifactRepository, member: str, role: str) -> str:
    """Return what gives a role on a repository of Artifact Registry."""
    return (
        f"gcloud artifacts repositories add-iam-policy-binding {repository.name} "
        f"--location={repository.location} --project={repository.project} "
        f'--member="{member}" --role={role}'
    )


def grant_on_account(email: str, project: str, member: str, role: str) -> str:
    """Return what gives a role on a service account."""
    return (
        f"gcloud iam service-accounts add-iam-policy-binding {email} --project={project} "
        f'--member="{member}" --role={role}'
    )
