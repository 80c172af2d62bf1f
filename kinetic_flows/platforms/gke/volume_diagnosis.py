"""Why a pod does not get its volumes: what the scheduler, the node and drivers say of them.

What GKE's driver for Cloud Storage FUSE says is listed in
https://cloud.google.com/kubernetes-engine/docs/troubleshooting/cloud-storage-fuse-csi-driver
"""

from __future__ import annotations

import re

from kinetic_flows.platforms.gke.bucket_access import Identity, grant_command
from kinetic_flows.platforms.gke.diagnosis import Cause, Diagnosis, KubernetesObject
from kinetic_flows.platforms.gke.volumes import FUSE_ANNOTATION, FUSE_DRIVER

_NO_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_DELETED_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" is being deleted')
_LOST_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" bound to non-existent')
_UNBOUND = re.compile(r"unbound immediate PersistentVolumeClaims")
_ELSEWHERE = re.compile(r"node\(s\) had volume node affinity conflict")
_SHARED = re.compile(r"Multi-Attach error.*?(?:used by pod\(s\) (?P<pods>[^\n]+)|$)", re.S)
_VOLUME = re.compile(r'for volume "(?P<name>[^"]+)" ?: ?(?P<why>.*)', re.S)
_CODE = re.compile(r"code = (?P<code>\w+) desc = (?P<why>.*)", re.S)
_NO_DRIVER = re.compile(r"driver name (\S+) not found in the list of registered CSI drivers")
_UNMOUNTED = re.compile(r"unmounted volumes=\[(?P<names>[^]]*)\]")


def explain_claims(pod: KubernetesObject, said: str) -> Diagnosis | None:
    """Say which claim keeps a pod from every node; None where it is none.

    Args:
        pod: The pod.
        said: What the scheduler said of it.
    """
    namespace = pod["metadata"].get("namespace", "default")
    if found := _NO_CLAIM.search(said):
        return _found(
            f"there is no PersistentVolumeClaim {found[1]!r} in the namespace",
            f"create it, or name another: `kubectl get pvc --namespace {namespace}` lists them",
            permanent=True,
        )
    if found := _DELETED_CLAIM.search(said):
        hint = "name another claim"
        return _found(f"PersistentVolumeClaim {found[1]!r} is being deleted", hint, permanent=True)
    if found := _LOST_CLAIM.search(said):
        return _found(
            f"the volume of PersistentVolumeClaim {found[1]!r} is gone",
            "restore the PersistentVolume, or name another claim",
            permanent=True,
        )
    if _UNBOUND.search(said):
        return _found(
            "a PersistentVolumeClaim of the run is not bound to a volume yet",
            f"`kubectl describe pvc --namespace {namespace}` says what it waits for",
        )
    # Where there are fitting nodes in its zone, and they are full, that is told.
    if _ELSEWHERE.search(said) and "Insufficient" not in said:
        return _found(
            "the disk of a PersistentVolumeClaim is in a zone that no fitting node is in",
            "use a claim whose disk is where the node pool is, or a regional one",
        )
    return None


def explain_mount(pod: KubernetesObject, said: str) -> Diagnosis | None:
    """Say why a node cannot give a pod its volumes; None where it is not about them.

    Args:
        pod: The pod.
        said: What the node or a controller said of it.
    """
    if found := _SHARED.search(said):
        used = f", used by pod(s) {found['pods'].strip()}" if found["pods"] else ""
        return _found(
            f"a disk of the run is attached to another node{used}",
            "wait for that run to end, or use a claim that is ReadWriteMany",
        )
    if found := _UNMOUNTED.search(said):
        names = [name for name in re.split(r"[,\s]+", found["names"]) if name]
        places = ", ".join(_place(pod, name) for name in names)
        return _found(f"the node has not got what is to be at {places} yet", None)
    found = _VOLUME.search(said)
    if found is None:
        return None
    place, bucket = _place(pod, found["name"]), _bucket_of(pod, found["name"])
    if bucket:
        return _explain_bucket(pod, place, bucket, found["why"].strip())
    return _found(f"what is to be at {place} cannot be mounted: {found['why'].strip()}", None)


def _explain_bucket(pod: KubernetesObject, place: str, bucket: str, why: str) -> Diagnosis:
    """Say why Cloud Storage is not mounted."""
    message = f"gs://{bucket} cannot be mounted at {place}: "
    if _NO_DRIVER.search(why):
        return _found(
            f"{message}the node has no driver {FUSE_DRIVER}",
            "a new node gets it in its first minute; if it stays so, enable the cluster's add-on "
            "GcsFuseCsiDriver",
        )
    found = _CODE.search(why)
    code, why = (found["code"], found["why"].strip()) if found else ("", why)
    if code in ("PermissionDenied", "Unauthenticated"):
        identity = _identity(pod)
        command = grant_command(identity, bucket, is_written=not _is_read_only(pod, bucket))
        return _found(
            f"{message}{identity} may not read it ({why})",
            f"grant it, with the cluster's project in place of PROJECT: {command}",
            permanent=True,
        )
    if code == "NotFound":
        return _found(f"{message}there is no such bucket ({why})", "check its name", permanent=True)
    if code == "FailedPrecondition" and "sidecar" in why:
        return _found(
            f"{message}the pod has no sidecar that mounts it",
            f"it is GKE's webhook that adds it to pods with the annotation {FUSE_ANNOTATION}: is "
            "the add-on GcsFuseCsiDriver enabled?",
            permanent=True,
        )
    if code == "ResourceExhausted":
        return _found(
            f"{message}its sidecar ran out of memory or disk ({why})",
            "give it more in annotations of job_variables: gke-gcsfuse/memory-limit, "
            "gke-gcsfuse/ephemeral-storage-limit",
        )
    return _found(f"{message}{why}", None, permanent=code == "InvalidArgument")


def _found(message: str, hint: str | None, *, permanent: bool = False) -> Diagnosis:
    return Diagnosis(cause=Cause.VOLUME, message=message, hint=hint, permanent=permanent)


def _place(pod: KubernetesObject, name: str) -> str:
    """Return where a pod's container has a volume; the volume's name where it has it nowhere."""
    mounts = (
        mount
        for container in pod["spec"].get("containers") or ()
        for mount in container.get("volumeMounts") or ()
    )
    return next((str(each["mountPath"]) for each in mounts if each.get("name") == name), name)


def _bucket_of(pod: KubernetesObject, name: str) -> str:
    """Return the bucket that a volume of a pod is; empty where it is none."""
    for volume in pod["spec"].get("volumes") or ():
        csi = volume.get("csi") or {}
        if volume.get("name") == name and csi.get("driver") == FUSE_DRIVER:
            return str((csi.get("volumeAttributes") or {}).get("bucketName") or "")
    return ""


def _is_read_only(pod: KubernetesObject, bucket: str) -> bool:
    volumes = pod["spec"].get("volumes") or ()
    mounted = (volume["csi"] for volume in volumes if _bucket_of(pod, volume["name"]) == bucket)
    return all(csi.get("readOnly") for csi in mounted)


def _identity(pod: KubernetesObject) -> Identity:
    # Which Google account the pod's acts as is not in the pod.
    return Identity(
        namespace=str(pod["metadata"].get("namespace") or "default"),
        name=str(pod["spec"].get("serviceAccountName") or "default"),
    )
