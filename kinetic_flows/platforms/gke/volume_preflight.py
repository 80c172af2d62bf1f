"""Whether a run's volumes are to be had in the cluster, found out before anything is built for it.

What may not be looked up is said to be so: it is never taken for missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.access import GkeCluster
from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused, core_path
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.core.volumes import Volume
from kinetic_flows.platforms.gke.bucket_access import Identity, access_notice
from kinetic_flows.platforms.gke.volumes import FUSE_DRIVER

STORAGE_PATH = "/apis/storage.k8s.io/v1"

_FOR_ALL = "ReadWriteMany"
_FOR_READERS = "ReadOnlyMany"


@dataclass(frozen=True, kw_only=True)
class VolumeRequest:
    """What is asked of a cluster about a run's volumes.

    Attributes:
        volumes: The volumes, mounted arguments among them.
        hosts: How many pods mount each of them at once.
        namespace: Namespace of the pods.
        service_account: Their Kubernetes service account.
    """

    volumes: tuple[Volume, ...]
    hosts: int
    namespace: str
    service_account: str


async def check_volumes(client: KubernetesClient, request: VolumeRequest) -> Preflight:
    """Look at the claims, the storage classes and the driver that volumes need."""
    claims = [volume for volume in request.volumes if volume.kind == "claim"]
    mounted = [volume for volume in request.volumes if volume.data and volume.data.mode == "mount"]
    found = await asyncio.gather(
        *(_check_claim(client, request, volume) for volume in claims),
        *([_check_driver(client), _tell_access(client, request, mounted)] if mounted else []),
    )
    return Preflight(
        problems=tuple(dict.fromkeys(each for one in found for each in one.problems)),
        warnings=tuple(dict.fromkeys(each for one in found for each in one.warnings)),
        notices=tuple(each for one in found for each in one.notices),
    )


async def _check_claim(
    client: KubernetesClient, request: VolumeRequest, volume: Volume
) -> Preflight:
    name, namespace = volume.claim, request.namespace
    path = core_path(namespace, "persistentvolumeclaims", name)
    try:
        claim = await client.ask_within("GET", path)
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.FORBIDDEN:
            return _unseen(f"PersistentVolumeClaim {name!r}", "get persistentvolumeclaims")
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise
        return Preflight(
            problems=(
                (
                    f"there is no PersistentVolumeClaim {name!r} in namespace {namespace!r}, which "
                    f"is to be at {volume.path}; `kubectl get pvc --namespace {namespace}` lists "
                    "those that there are"
                ),
            )
        )
    binding = await _binding_of(client, claim)
    problems = [*claim_problems(claim, volume, request.hosts)]
    warnings = []
    if not problems and binding == "missing":
        problems.append(
            f"PersistentVolumeClaim {name!r} waits for the storage class {_class_of(claim)!r}, "
            "which does not exist"
        )
    elif not problems and _phase_of(claim) == "Pending" and binding != "WaitForFirstConsumer":
        warnings.append(_pending(claim, binding))
    return Preflight(problems=tuple(problems), warnings=tuple(warnings))


async def _binding_of(client: KubernetesClient, claim: Mapping[str, Any]) -> str:
    """Return the binding mode of a pending claim's storage class; `missing`, or `` if unknown."""
    name = _class_of(claim)
    if _phase_of(claim) != "Pending" or not name:
        return ""
    try:
        found = await client.ask_within("GET", f"{STORAGE_PATH}/storageclasses/{name}")
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.NOT_FOUND:
            return "missing"
        if refusal.status != HTTPStatus.FORBIDDEN:
            raise
        return ""
    return str(found.get("volumeBindingMode") or "Immediate")


def claim_problems(claim: Mapping[str, Any], volume: Volume, hosts: int) -> Sequence[str]:
    """Say why a claim cannot be what a run asks for.

    https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes

    Args:
        claim: The `PersistentVolumeClaim`.
        volume: What is asked for.
        hosts: How many pods, each on a node of its own, mount it at once.
    """
    spec = claim.get("spec") or {}
    named = f"PersistentVolumeClaim {volume.claim!r}"
    if claim["metadata"].get("deletionTimestamp"):
        return (f"{named} is being deleted",)
    if _phase_of(claim) == "Lost":
        return (f"{named} is Lost: the volume that it was bound to is gone",)
    if spec.get("volumeMode") == "Block":
        return (f"{named} is a raw device (volumeMode Block), which cannot be mounted",)
    modes = set((claim.get("status") or {}).get("accessModes") or spec.get("accessModes") or ())
    if modes == {_FOR_READERS} and not volume.read_only:
        read = f"pvc:{volume.claim}{'/' if volume.sub_path else ''}{volume.sub_path}:ro"
        return (f"{named} can only be read (ReadOnlyMany); write {read!r}",)
    shared = {_FOR_ALL, *([_FOR_READERS] if volume.read_only else [])}
    if hosts > 1 and modes and not modes & shared:
        return (
            (
                f"{named} is {' and '.join(sorted(modes))}: one node has it at a time, and the run "
                f"has {hosts} pods on nodes of their own; use a claim that is ReadWriteMany, or "
                "one that is ReadOnlyMany with :ro behind its name"
            ),
        )
    return ()


def _pending(claim: Mapping[str, Any], binding: str) -> str:
    """Say of a claim that is not bound, and may have to be before pods are scheduled."""
    name = claim["metadata"]["name"]
    if binding:
        why = f"its storage class {_class_of(claim)!r} binds it at once, and has not yet"
    elif _class_of(claim):
        why = (
            f"whether its storage class {_class_of(claim)!r} waits for a pod cannot be looked up "
            "(you may not get storageclasses.storage.k8s.io)"
        )
    else:
        why = "no PersistentVolume has been found for it"
    return f"PersistentVolumeClaim {name!r} is Pending, and pods wait until it is bound: {why}"


def _phase_of(claim: Mapping[str, Any]) -> str:
    return str((claim.get("status") or {}).get("phase") or "Pending")


def _class_of(claim: Mapping[str, Any]) -> str:
    return str((claim.get("spec") or {}).get("storageClassName") or "")


async def _check_driver(client: KubernetesClient) -> Preflight:
    """Ask whether the cluster can mount Cloud Storage; Autopilot clusters always can."""
    try:
        await client.ask_within("GET", f"{STORAGE_PATH}/csidrivers/{FUSE_DRIVER}")
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.FORBIDDEN:
            return _unseen("the Cloud Storage FUSE driver", "get csidrivers.storage.k8s.io")
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise
        name, location, project = _named(client)
        return Preflight(
            problems=(
                (
                    f"the cluster cannot mount Cloud Storage: it has no driver {FUSE_DRIVER}; "
                    f"enable it with `gcloud container clusters update {name} "
                    f"--location={location} --project={project} "
                    "--update-addons=GcsFuseCsiDriver=ENABLED`, or leave mode='mount' out"
                ),
            )
        )
    return Preflight()


def _named(client: KubernetesClient) -> tuple[str, str, str]:
    """Return the cluster's name, location and project, as far as they are known."""
    access = client.access
    if not isinstance(access, GkeCluster):
        return "CLUSTER", "LOCATION", "PROJECT"
    return access.name, access.location, access.project


async def _tell_access(
    client: KubernetesClient, request: VolumeRequest, mounted: Iterable[Volume]
) -> Preflight:
    """Say what the pods' account needs on buckets, which the cluster does not show."""
    account: Mapping[str, Any] = {}
    path = core_path(request.namespace, "serviceaccounts", request.service_account)
    try:
        account = await client.ask_within("GET", path)
    except KubernetesRefused as refusal:
        # A missing one is told of by another check.
        if refusal.status not in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            raise
    access = client.access
    identity = Identity.of(
        account,
        namespace=request.namespace,
        name=request.service_account,
        project=access.project if isinstance(access, GkeCluster) else "",
    )
    writes: dict[str, bool] = {}
    for volume in mounted:
        assert volume.data is not None
        bucket, _ = volume.data.bucket()
        writes[bucket] = writes.get(bucket, False) or not volume.read_only
    told = (access_notice(identity, name, is_written=each) for name, each in writes.items())
    return Preflight(notices=tuple(told))


def _unseen(what: str, right: str) -> Preflight:
    return Preflight(
        warnings=(f"{what} cannot be looked up (you may not {right}); the pod will tell",)
    )
