"""JobSet, for work of other tools that is made of several Jobs; runs of ours need none."""

from __future__ import annotations

from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import cluster_of
from kinetic_flows.platforms.gke.setup.kubernetes.upstream import Release, UpstreamRelease
from kinetic_flows.platforms.gke.setup.model import Resource, Wanted

JOBSET = Release(
    project="JobSet",
    version="v0.11.1",
    url="https://github.com/kubernetes-sigs/jobset/releases/download/v0.11.1/manifests.yaml",
    namespace="jobset-system",
    option="--jobset-manifest",
)
"""https://jobset.sigs.k8s.io/docs/installation/"""


def resources(wanted: Wanted) -> tuple[Resource, ...]:
    """Return JobSet, where it is asked for."""
    request = wanted.request
    if not request.jobset:
        return ()
    cluster = cluster_of(request, wanted.apis)
    return (UpstreamRelease(cluster=cluster, release=JOBSET, source=request.jobset_manifest),)
