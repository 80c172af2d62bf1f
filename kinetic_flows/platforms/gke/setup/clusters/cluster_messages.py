"""Clusters as the Kubernetes Engine API writes them, and what a cluster differs in.

https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import SCOPES, cpu_pool
from kinetic_flows.platforms.gke.setup.request import ClusterMode, SetupRequest

if TYPE_CHECKING:
    from google.cloud import container_v1
else:
    container_v1 = LazyModule("google.cloud.container_v1")


def wanted_cluster(request: SetupRequest) -> container_v1.Cluster:
    """Return the cluster that is wanted, with its pool without accelerators where it has pools."""
    made = container_v1.Cluster(
        name=request.cluster,
        description=names.description(request.cluster),
        resource_labels=names.labels(request.cluster),
        release_channel=container_v1.ReleaseChannel(
            channel=container_v1.ReleaseChannel.Channel.REGULAR
        ),
        ip_allocation_policy=container_v1.IPAllocationPolicy(use_ip_aliases=True),
        control_plane_endpoints_config=_dns_endpoint(),
    )
    if request.mode == "autopilot":
        _autopilot(made, request)
    else:
        _standard(made, request)
    return made


def mode_of(cluster: container_v1.Cluster) -> ClusterMode:
    """Return what kind of cluster it is."""
    return "autopilot" if cluster.autopilot.enabled else "standard"


def is_made_here(cluster: container_v1.Cluster) -> bool:
    """Whether a cluster was made by us."""
    return cluster.resource_labels.get(names.MANAGED_LABEL) == cluster.name


@dataclass(frozen=True, kw_only=True)
class Lack:
    """What a cluster lacks that runs, or what is said of it, need.

    Attributes:
        text: In words, a line.
        update: What is to be changed; None where it cannot be.
        command: What changes it for somebody whose cluster it is, without the cluster's name.
    """

    text: str
    update: container_v1.ClusterUpdate | None
    command: str = ""


def lacks(request: SetupRequest, found: container_v1.Cluster) -> Iterator[Lack]:
    """Yield what a cluster lacks; what it has besides is let be.

    Args:
        request: What is wanted.
        found: The cluster as it is.
    """
    if mode_of(found) == "standard":
        yield from _lacks_of_standard(request, found)
    if not request.joins:
        yield from _comforts(request, found)


def _lacks_of_standard(request: SetupRequest, found: container_v1.Cluster) -> Iterator[Lack]:
    pool = _workload_pool(request)
    if found.workload_identity_config.workload_pool != pool:
        yield Lack(
            text="Workload Identity is off, by which pods reach Cloud Storage as themselves",
            update=container_v1.ClusterUpdate(
                desired_workload_identity_config=container_v1.WorkloadIdentityConfig(
                    workload_pool=pool
                )
            ),
            command=f"--workload-pool={pool}",
        )
    if not found.addons_config.gcs_fuse_csi_driver_config.enabled:
        yield Lack(
            text="the add-on GcsFuseCsiDriver is off, by which runs mount Cloud Storage",
            update=container_v1.ClusterUpdate(desired_addons_config=_addons()),
            command="--update-addons=GcsFuseCsiDriver=ENABLED",
        )


def _comforts(request: SetupRequest, found: container_v1.Cluster) -> Iterator[Lack]:
    """Yield what only a cluster of our own is given."""
    if not found.control_plane_endpoints_config.dns_endpoint_config.allow_external_traffic:
        yield Lack(
            text="its DNS endpoint is closed, by which it is reached from any network",
            update=container_v1.ClusterUpdate(
                desired_control_plane_endpoints_config=_dns_endpoint()
            ),
        )
    profiles = container_v1.ClusterAutoscaling.AutoscalingProfile
    profile = found.autoscaling.autoscaling_profile
    if mode_of(found) == "standard" and profile != profiles.OPTIMIZE_UTILIZATION:
        yield Lack(
            text="idle nodes are kept for long",
            update=container_v1.ClusterUpdate(
                desired_cluster_autoscaling=_autoscaling(found.autoscaling)
            ),
        )
    private = found.network_config.default_enable_private_nodes
    if private != request.private_nodes:
        yield Lack(
            text="new nodes get addresses of their own"
            if request.private_nodes
            else "new nodes get no addresses of their own",
            update=container_v1.ClusterUpdate(
                desired_default_enable_private_nodes=request.private_nodes
            ),
        )


def _standard(made: container_v1.Cluster, request: SetupRequest) -> None:
    made.workload_identity_config = container_v1.WorkloadIdentityConfig(
        workload_pool=_workload_pool(request)
    )
    made.addons_config = _addons()
    made.network_config = container_v1.NetworkConfig(
        datapath_provider=container_v1.DatapathProvider.ADVANCED_DATAPATH,
        default_enable_private_nodes=request.private_nodes,
    )
    made.shielded_nodes.enabled = True
    made.autoscaling = _autoscaling(made.autoscaling)
    made.node_pools = [cpu_pool(request)]


def _autopilot(made: container_v1.Cluster, request: SetupRequest) -> None:
    """Have GKE make nodes, as the service account that nodes are here.

    The rest (Workload Identity, the add-on, Dataplane V2, shielded nodes) each Autopilot cluster
    has: https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-overview.
    """
    made.autopilot = container_v1.Autopilot(enabled=True)
    made.network_config = container_v1.NetworkConfig(
        default_enable_private_nodes=request.private_nodes
    )
    made.autoscaling = container_v1.ClusterAutoscaling(
        autoprovisioning_node_pool_defaults=container_v1.AutoprovisioningNodePoolDefaults(
            service_account=names.account_email(request.project, request.cluster, "nodes"),
            oauth_scopes=list(SCOPES),
        )
    )


def _addons() -> container_v1.AddonsConfig:
    return container_v1.AddonsConfig(
        gcs_fuse_csi_driver_config=container_v1.GcsFuseCsiDriverConfig(enabled=True)
    )


def _autoscaling(found: container_v1.ClusterAutoscaling) -> container_v1.ClusterAutoscaling:
    """Return how nodes that nothing runs on are taken away: soon, as they cost much here.

    https://cloud.google.com/kubernetes-engine/docs/concepts/cluster-autoscaler#autoscaling_profiles

    Args:
        found: As it is. GKE replaces it as a whole, so that the rest of it is said again.
    """
    profile = container_v1.ClusterAutoscaling.AutoscalingProfile.OPTIMIZE_UTILIZATION
    return container_v1.ClusterAutoscaling(found, autoscaling_profile=profile)


def _dns_endpoint() -> container_v1.ControlPlaneEndpointsConfig:
    """Return the endpoint whose access is IAM's, and which is reached from any network.

    https://cloud.google.com/kubernetes-engine/docs/concepts/network-isolation
    """
    config = container_v1.ControlPlaneEndpointsConfig
    return config(dns_endpoint_config=config.DNSEndpointConfig(allow_external_traffic=True))


def _workload_pool(request: SetupRequest) -> str:
    return f"{request.project}.svc.id.goog"
