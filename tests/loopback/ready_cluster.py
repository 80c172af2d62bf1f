"""Google's APIs for a loopback cloud, and a cluster in it that somebody has made before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from google.cloud import container_v1 as api
from google.cloud.artifactregistry_v1 import Repository

from loopback.__main__ import BUILDS_BUCKET, CLUSTER, JOBS_BUCKET
from loopback.cloud import LoopbackCloud
from loopback.google.server import LoopbackGoogle
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.podman import PodmanRuntime


@contextmanager
def apis_of(cloud: LoopbackCloud, directory: Path) -> Iterator[LoopbackGoogle]:
    """Run Google's APIs for a cloud, with clusters whose pods are containers."""
    runtime = PodmanRuntime(containers=cloud.containers)

    def serve(where: Path) -> LoopbackCluster:
        return LoopbackCluster(where, runtime=runtime, pull_image=runtime.pull, version="1.35")

    served = cloud.front.repositories
    with LoopbackGoogle(directory, serve=serve, objects=cloud.storage.url, served=served) as google:
        cloud.front.tokens = google.state.tokens
        yield google


def make_cluster(google: LoopbackGoogle) -> None:
    """Make what runs need, as somebody did before: a cluster, its buckets and its repository."""
    google.switch_on("artifactregistry", "cloudbilling", "cloudbuild", "cloudresourcemanager")
    google.switch_on("container", "iam")
    where = f"{google.project.resource}/locations"
    cpu = api.NodePool(
        name="default", initial_node_count=1, config={"machine_type": "e2-standard-8"}
    )
    tpu = api.NodePool(
        name="v6e",
        autoscaling={"enabled": True, "max_node_count": 1},
        config={"machine_type": "ct6e-standard-8t"},
    )
    cluster = api.Cluster(
        name=CLUSTER,
        node_pools=[cpu, tpu],
        addons_config={"gcs_fuse_csi_driver_config": {"enabled": True}},
    )
    with closing(google.apis()) as apis:
        for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
            apis.storage.create_bucket(bucket, location="us-central1")
        apis.artifacts.create_repository(
            parent=f"{where}/us",
            repository_id=f"kn-{CLUSTER}",
            repository=Repository(format_=Repository.Format.DOCKER),
        )
        apis.container.create_cluster(parent=f"{where}/us-central1-a", cluster=cluster)
    google.operations.finish_all()
