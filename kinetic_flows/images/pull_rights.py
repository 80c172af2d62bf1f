"""Whether a cluster's nodes may pull an image, as far as its name tells. Pure."""

from __future__ import annotations

from kinetic_flows.core.image_reference import ImageReference, artifact_registry_location


def node_access(image: ImageReference, project: str | None) -> str:
    """Say what nodes need to pull an image; see https://cloud.google.com/artifact-registry/docs.

    Args:
        image: The image.
        project: The cluster's Google Cloud project; None when it is not known.
    """
    location = artifact_registry_location(image.registry)
    if location is None:
        return "read it if it is public, else with image_pull_secrets in job_variables="
    owner, repository = _owner_and_repository(image)
    if owner == project:
        return "read it as their own project's, unless their service account was restricted"
    return (
        "read it once they are let in: gcloud artifacts repositories add-iam-policy-binding "
        f"{repository} --location={location} --project={owner} "
        "--member=serviceAccount:THE_NODES --role=roles/artifactregistry.reader"
    )


def _owner_and_repository(image: ImageReference) -> tuple[str, str]:
    """Return project and repository; an old project `example.com:name` is written in two parts."""
    parts = image.repository.split("/")
    if "." in parts[0] and len(parts) > 2:
        return f"{parts[0]}:{parts[1]}", parts[2]
    return parts[0], parts[1] if len(parts) > 1 else ""
