"""The block that saves where functions run."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from prefect.blocks.core import Block
from prefect_gcp.credentials import GcpCredentials
from pydantic import Field, HttpUrl, ValidationInfo, field_validator, model_validator

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings.cloud import CloudSettings, check_value
from kinetic_flows.core.settings.table import rows

from .image_repository import ImageRepository
from .kept_schema import KeptSchema


class KineticCluster(KeptSchema, Block):
    """A GKE cluster to run Python functions on, and everything that belongs to it.

    Saved under a name, it is a profile: `KINETIC_PROFILE=NAME`, or
    `@kinetic.run(cluster="NAME")`. What it leaves out is a default; what an argument of
    `@kinetic.run` or a `KINETIC_*` variable says wins over it.

    Example:
        Save a cluster, and load it again:
        ```python
        from kinetic_flows.blocks import KineticCluster

        KineticCluster(project="my-project", zone="us-central1-a").save("BLOCK_NAME")
        cluster = KineticCluster.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Kinetic Cluster"
    _block_type_slug: ClassVar[str | None] = "kinetic-cluster"
    _description: ClassVar[str | None] = (
        "A GKE cluster on which `@kinetic.run` runs Python functions, with its buckets, its "
        "images and the way they are built."
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://kinetic-flows.readthedocs.io/configuration/"
    )
    _logo_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://cdn.sanity.io/images/3ugk85nk/production/"
        "10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"
    )

    project: str = Field(
        description="The Google Cloud project's id.",
        examples=["my-project-123"],
    )
    zone: str | None = Field(
        default=None,
        description="The cluster's zone, or the region of a regional cluster; empty for "
        "us-central1-a.",
        examples=["us-central1-a"],
    )
    cluster: str | None = Field(
        default=None,
        description="The name of the GKE cluster; empty for kinetic-cluster.",
        examples=["kinetic-cluster"],
    )
    namespace: str | None = Field(
        default=None,
        description="The Kubernetes namespace of runs; empty for default.",
        examples=["training"],
    )
    work_pool: str | None = Field(
        default=None,
        description="The Prefect work pool of runs, of type kubernetes; empty for kinetic-gke.",
        examples=["kinetic-gke"],
    )
    pods_api_url: str | None = Field(
        default=None,
        description="The Prefect API as pods of the cluster reach it, where machines reach it by a "
        "port of their own (`kinetic server connect`); empty for the same URL.",
        examples=["http://prefect-server.prefect.svc/api"],
    )
    base_image_repo: str | None = Field(
        default=None,
        description="The repository of prebuilt base images; empty for kinetic on Docker Hub.",
        examples=["us-docker.pkg.dev/my-project-123/kinetic"],
    )
    base_image_tag: str | None = Field(
        default=None,
        description="The version tag of those base images, as `kinetic build-image --tag` gave it; "
        "empty for the version of kinetic-flows.",
        examples=["v2.0.0"],
    )
    jobs_bucket: str | None = Field(
        default=None,
        description="The bucket of code, payloads and results; empty for "
        "{project}-kn-{cluster}-jobs.",
        examples=["my-project-123-kn-kinetic-cluster-jobs"],
    )
    builds_bucket: str | None = Field(
        default=None,
        description="The bucket of build sources and logs; empty for "
        "{project}-kn-{cluster}-builds.",
        examples=["my-project-123-kn-kinetic-cluster-builds"],
    )
    image_repo: str | None = Field(
        default=None,
        description="The Artifact Registry repository of built images; empty for "
        "{region}-docker.pkg.dev/{project}/kn-{cluster}.",
        examples=["us-central1-docker.pkg.dev/my-project-123/kn-kinetic-cluster"],
    )
    builder: Literal["auto", "direct", "cloud-build"] | None = Field(
        default=None,
        description="Who assembles images from layers: the client itself (direct), cloud-build, or "
        "auto for the client where it has little to send and may push.",
        examples=["cloud-build"],
    )
    build_location: str | None = Field(
        default=None,
        description="Where Cloud Build runs builds: a region; empty for global.",
        examples=["us-central1"],
    )
    build_service_account: str | None = Field(
        default=None,
        description="The service account that builds run as; empty for the project's default.",
        examples=["builder@my-project-123.iam.gserviceaccount.com"],
    )
    build_machine_type: str | None = Field(
        default=None,
        description="Cloud Build's machine type for builds; empty for its default.",
        examples=["E2_HIGHCPU_8"],
    )
    build_timeout_seconds: int | None = Field(
        default=None,
        description="The limit for a build, in seconds; empty for 3600.",
        examples=[3600],
    )
    cloud_build_endpoint: str | None = Field(
        default=None,
        description="Another Cloud Build endpoint, as host:port; empty for Google's.",
        examples=["cloudbuild.internal.example.com:443"],
    )
    secret_manager_endpoint: str | None = Field(
        default=None,
        description="Another Secret Manager endpoint, as host:port; empty for Google's.",
        examples=["secretmanager.internal.example.com:443"],
    )
    artifact_registry_endpoint: str | None = Field(
        default=None,
        description="Another endpoint of Artifact Registry's own API, as host:port; empty for "
        "Google's.",
        examples=["artifactregistry.internal.example.com:443"],
    )
    api_endpoints: dict[str, str] | None = Field(
        default=None,
        description="Other endpoints of the Google APIs that setting up and looking after a "
        "cluster ask, as host:port by the API's name; empty for Google's.",
        examples=[{"container": "container.internal.example.com:443"}],
    )
    storage_endpoint: str | None = Field(
        default=None,
        description="The URL of another Cloud Storage endpoint; empty for Google's.",
        examples=["https://storage.internal.example.com"],
    )
    registry_endpoints: dict[str, str] | None = Field(
        default=None,
        description="The URLs of registries that are reached elsewhere than at their host, by "
        "host.",
        examples=[{"us-docker.pkg.dev": "https://registry.internal.example.com"}],
    )
    registry_logins: dict[str, str] | None = Field(
        default=None,
        description="How builds log in to registries that base images are pulled from, by host: "
        "two secrets of Secret Manager, the user name's and the password's, with a colon between.",
        examples=[{"registry.example.com": "registry-user:registry-token"}],
    )
    retention_days: int | None = Field(
        default=None,
        description="After how many days a finished run's own objects expire; empty for 30.",
        examples=[30],
    )
    dispatch: Literal["auto", "client", "worker"] | None = Field(
        default=None,
        description="Who creates the Kubernetes Job: the client, a Prefect worker, or auto for "
        "the client where it has the cluster's credentials.",
        examples=["worker"],
    )
    reservation: str | None = Field(
        default=None,
        description="The Google Cloud reservation whose machines runs use: its name, "
        "projects/PROJECT/reservations/NAME, or any for whichever fits; empty for none.",
        examples=["training-2026"],
    )
    compute_class: str | None = Field(
        default=None,
        description="The GKE compute class that runs ask for; empty for none.",
        examples=["gpus-spot-first"],
    )
    node_pool: str | None = Field(
        default=None,
        description="The GKE node pool that runs are on; empty for any that fits.",
        examples=["l4-pool"],
    )
    zones: list[str] | None = Field(
        default=None,
        description="The zones in which nodes of runs may be; empty for all of the cluster's.",
        examples=[["us-central1-a", "us-central1-b"]],
    )
    prebuilt: Literal["auto", "install", "volume"] | None = Field(
        default=None,
        description="How packages come into a prebuilt image: installed when a run starts, mounted "
        "as a volume, or auto for the volume where the cluster has image volumes.",
        examples=["volume"],
    )
    job_variables: dict[str, Any] | None = Field(
        default=None,
        description="Variables of the work pool's job template for every run on this cluster; "
        "what a function sets in job_variables= wins.",
        examples=[{"service_account_name": "trainer", "queue_name": "tpus"}],
    )
    prices: dict[str, float] | None = Field(
        default=None,
        description="What an hour of a chip costs, in US dollars by the accelerator's family; "
        "empty for Google's list prices.",
        examples=[{"tpu-v6e": 2.1, "h100:spot": 4.5}],
    )
    base_images: ImageRepository | None = Field(
        default=None,
        description="The repository of prebuilt base images with its login, in place of "
        "base_image_repo.",
        examples=[{"repository": "registry.example.com/ml/kinetic"}],
    )
    images: ImageRepository | None = Field(
        default=None,
        description="The Artifact Registry repository of built images with its login, in place of "
        "image_repo.",
        examples=[{"repository": "us-central1-docker.pkg.dev/my-project-123/images"}],
    )
    gcp_credentials: GcpCredentials | None = Field(
        default=None,
        description="Google credentials to use; empty for Application Default Credentials.",
        examples=[{"service_account_file": "~/keys/kinetic.json"}],
    )

    @field_validator(*rows(CloudSettings), mode="before")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what could not be used later; an empty form field is one left out."""
        if value is None or value in ("", {}):
            return None
        try:
            return check_value(str(info.field_name), value)
        except ConfigurationError as error:
            raise ValueError(f"{error.message} ({error.hint})") from error

    @model_validator(mode="after")
    def _check_repositories(self) -> KineticCluster:
        """Refuse two that could not both count."""
        pairs = {"base_image_repo": self.base_images, "image_repo": self.images}
        for name, block in pairs.items():
            said = getattr(self, name)
            if block is not None and said not in (None, block.repository):
                raise ValueError(
                    f"{name} is {said}, and the saved repository is {block.repository}: give one"
                )
        return self
