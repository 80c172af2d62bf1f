"""Claims, disks and Cloud Storage in pods: what admission, scheduler and kubelets make of them.

The words are those of Kubernetes, and of GKE's driver for Cloud Storage FUSE:
https://cloud.google.com/kubernetes-engine/docs/troubleshooting/cloud-storage-fuse-csi-driver
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.store import Object, Store

FUSE_DRIVER = "gcsfuse.csi.storage.gke.io"
FUSE_ANNOTATION = "gke-gcsfuse/volumes"
SIDECAR = {
    "name": "gke-gcsfuse-sidecar",
    "image": "gke.gcr.io/gcs-fuse-csi-driver-sidecar-mounter:v1.8.0",
    "restartPolicy": "Always",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65534,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
_OPTIONS = ("implicit-dirs", "only-dir", "uid", "gid", "file-mode", "dir-mode")


@dataclass
class Buckets:
    """Cloud Storage as the driver sees it.

    Attributes:
        directories: What is in each bucket that there is.
        denied: Buckets that no service account of the cluster may read.
    """

    directories: dict[str, Path] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class MountFailure:
    """An event about a pod whose volumes cannot be had."""

    reason: str
    message: str


def inject_sidecar(pod: Object) -> None:
    """Give a pod that mounts Cloud Storage its sidecar, as GKE's webhook does."""
    if (pod["metadata"].get("annotations") or {}).get(FUSE_ANNOTATION) == "true":
        pod["spec"].setdefault("initContainers", []).insert(0, dict(SIDECAR))


# Admission


def mount_problems(pod: Object) -> Iterator[str]:
    """Yield what does not fit between a pod's volumes and mounts, in the API server's words."""
    where = "spec.template.spec"
    names = [volume["name"] for volume in pod.get("volumes") or ()]
    for index, volume in enumerate(pod.get("volumes") or ()):
        place = f"{where}.volumes[{index}]"
        if names.index(volume["name"]) != index:
            yield f'{place}.name: Duplicate value: "{volume["name"]}"'
        if not volume.keys() - {"name"}:
            yield f"{place}: Required value: must specify a volume type"
        yield from _source_problems(volume, place)
    mounted = set()
    for number, container in enumerate(pod["containers"]):
        paths: set[str] = set()
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            place = f"{where}.containers[{number}].volumeMounts[{index}]"
            mounted.add(mount["name"])
            if mount["mountPath"] in paths:
                yield f'{place}.mountPath: Invalid value: "{mount["mountPath"]}": must be unique'
            paths.add(mount["mountPath"])
            sub_path = PurePosixPath(mount.get("subPath") or ".")
            if sub_path.is_absolute():
                yield f'{place}.subPath: Invalid value: "{sub_path}": must be a relative path'
            if ".." in sub_path.parts:
                yield f"{place}.subPath: Invalid value: must not contain '..'"
    # A real API server takes these; nobody would want them.
    for name in set(names) - mounted:
        yield f'{where}.volumes: "{name}" is mounted nowhere'


def _source_problems(volume: Object, place: str) -> Iterator[str]:
    csi = volume.get("csi")
    if csi is not None:
        if not csi.get("driver"):
            yield f"{place}.csi.driver: Required value"
        if csi.get("driver") == FUSE_DRIVER:
            yield from _fuse_problems(csi, place)
    spec = ((volume.get("ephemeral") or {}).get("volumeClaimTemplate") or {}).get("spec")
    if spec is not None:
        if not spec.get("accessModes"):
            yield f"{place}.ephemeral.volumeClaimTemplate.spec.accessModes: Required value"
        if not (spec.get("resources") or {}).get("requests", {}).get("storage"):
            yield f"{place}.ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value"


def _fuse_problems(csi: Object, place: str) -> Iterator[str]:
    """Yield what the driver would not take, as soon as a pod asks for it."""
    attributes = csi.get("volumeAttributes") or {}
    if not attributes.get("bucketName"):
        yield f"{place}.csi: bucketName is empty"
    for option in filter(None, attributes.get("mountOptions", "").split(",")):
        # With a colon it would be one of the configuration file's.
        if option.partition("=")[0] not in _OPTIONS or ":" in option:
            yield f"{place}.csi: unknown mount option {option!r}"


# The scheduler


def unschedulable(store: Store, pod: Object) -> str | None:
    """Return what the scheduler says of a pod whose claims keep it from every node."""
    namespace = pod["metadata"]["namespace"]
    for _, claim in _claims(pod):
        try:
            found = store.get("persistentvolumeclaims", namespace, claim)
        except ApiError:
            return f'persistentvolumeclaim "{claim}" not found'
        if found["metadata"].get("deletionTimestamp"):
            return f'persistentvolumeclaim "{claim}" is being deleted'
        if _phase(found) == "Lost":
            gone = found["spec"].get("volumeName", "")
            bound = f'bound to non-existent persistentvolume "{gone}"'
            return f'persistentvolumeclaim "{claim}" {bound}'
        if _phase(found) == "Pending" and not _waits_for_pod(store, found):
            return "pod has unbound immediate PersistentVolumeClaims"
    return None


def bind_claims(store: Store, pod: Object) -> None:
    """Bind the claims of a pod that has a node now, which waited for it."""
    namespace = pod["metadata"]["namespace"]
    for _, claim in _claims(pod):
        store.edit(
            "persistentvolumeclaims",
            namespace,
            claim,
            lambda item: item.setdefault("status", {}).update(
                phase="Bound", accessModes=item["spec"]["accessModes"]
            ),
        )


def _waits_for_pod(store: Store, claim: Object) -> bool:
    name = claim["spec"].get("storageClassName")
    try:
        found = store.get("storageclasses", "", name) if name else {}
    except ApiError:
        return False
    return found.get("volumeBindingMode") == "WaitForFirstConsumer"


def _phase(claim: Object) -> str:
    return str((claim.get("status") or {}).get("phase") or "Pending")


def _claims(pod: Object) -> Iterator[tuple[str, str]]:
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["name"], volume["persistentVolumeClaim"]["claimName"]


# The kubelet


def mount_failure(store: Store, buckets: Buckets, pod: Object) -> MountFailure | None:
    """Return why a node cannot give a pod its volumes; None where it can."""
    return _attach_failure(store, pod) or _fuse_failure(store, buckets, pod)


def _attach_failure(store: Store, pod: Object) -> MountFailure | None:
    """Keep disks that only one node can have from a second one."""
    namespace = pod["metadata"]["namespace"]
    for _, claim in _claims(pod):
        found = store.get("persistentvolumeclaims", namespace, claim)
        if {"ReadWriteMany", "ReadOnlyMany"} & set(found["spec"]["accessModes"]):
            continue
        for other in store.list("pods", namespace):
            is_alive = other["status"].get("phase") == "Running"
            uses = claim in (name for _, name in _claims(other))
            elsewhere = other["spec"].get("nodeName") != pod["spec"]["nodeName"]
            if is_alive and uses and elsewhere:
                return MountFailure(
                    reason="FailedAttachVolume",
                    message=f'Multi-Attach error for volume "pvc-{found["metadata"]["uid"]}" '
                    f"Volume is already used by pod(s) {other['metadata']['name']}",
                )
    return None


def _fuse_failure(store: Store, buckets: Buckets, pod: Object) -> MountFailure | None:
    for volume in pod["spec"].get("volumes") or ():
        if (volume.get("csi") or {}).get("driver") != FUSE_DRIVER:
            continue
        said = _fuse_words(store, buckets, pod, volume["csi"])
        if said:
            return MountFailure(
                reason="FailedMount",
                message=f'MountVolume.SetUp failed for volume "{volume["name"]}" : {said}',
            )
    return None


def _fuse_words(store: Store, buckets: Buckets, pod: Object, csi: Object) -> str:
    try:
        store.get("csidrivers", "", FUSE_DRIVER)
    except ApiError:
        return (
            "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name "
            f"{FUSE_DRIVER} not found in the list of registered CSI drivers"
        )
    names = [each["name"] for each in pod["spec"].get("initContainers") or ()]
    if SIDECAR["name"] not in names:
        missing = "failed to find the sidecar container in Pod spec"
        return f"rpc error: code = FailedPrecondition desc = {missing}"
    bucket = csi["volumeAttributes"]["bucketName"]
    refused = f'desc = failed to get GCS bucket "{bucket}": '
    if bucket in buckets.denied:
        return (
            f"rpc error: code = PermissionDenied {refused}googleapi: Error 403: Caller does not "
            "have storage.objects.list access to the Google Cloud Storage bucket., forbidden"
        )
    if bucket not in buckets.directories:
        return f"rpc error: code = NotFound {refused}storage: bucket doesn't exist"
    return ""


def directories_of(
    store: Store, buckets: Buckets, pod: Object, directory: Path
) -> Mapping[str, Path | None]:
    """Make the directories of a pod's volumes, by where its container has them."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
    found: dict[str, Path | None] = {}
    for mount in pod["spec"]["containers"][0].get("volumeMounts") or ():
        volume = volumes[mount["name"]]
        if "image" in volume:
            continue
        if (volume.get("emptyDir") or {}).get("medium") == "Memory":
            found[mount["mountPath"]] = None
            continue
        place = _directory(store, buckets, pod, volume, directory)
        path = place / (mount.get("subPath") or ".")
        path.mkdir(parents=True, exist_ok=True)
        found[mount["mountPath"]] = path
    return found


def _directory(
    store: Store, buckets: Buckets, pod: Object, volume: dict[str, Any], directory: Path
) -> Path:
    if "csi" in volume:
        attributes = volume["csi"]["volumeAttributes"]
        options = dict(
            option.partition("=")[::2] for option in attributes["mountOptions"].split(",")
        )
        inside: str = options.get("only-dir", ".")
        return buckets.directories[attributes["bucketName"]] / inside
    if "persistentVolumeClaim" in volume:
        name = volume["persistentVolumeClaim"]["claimName"]
        claim = store.get("persistentvolumeclaims", pod["metadata"]["namespace"], name)
        return directory.parent / "claims" / str(claim["metadata"]["uid"])
    path = directory / "volumes" / str(volume["name"])
    path.mkdir(parents=True, exist_ok=True)
    # Whoever the container runs as may write to it; a disk belongs to the pod's group.
    if "emptyDir" in volume or (pod["spec"].get("securityContext") or {}).get("fsGroup"):
        path.chmod(0o777)
    return path
