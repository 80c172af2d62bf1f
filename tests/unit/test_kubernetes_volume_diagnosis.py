"""Why a pod does not get its volumes, in words."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.platforms.gke.diagnosis import Cause
from kinetic_flows.platforms.gke.state import slim
from kinetic_flows.platforms.gke.waiting import explain_waiting

JOB: dict[str, Any] = {"metadata": {"name": "train", "uid": "job"}, "spec": {}}
MOUNT_FAILED = 'MountVolume.SetUp failed for volume "volume-1" : '


def pod(*, is_scheduled: bool = True) -> dict[str, Any]:
    """Return a pod that has Cloud Storage and a claim mounted, as it is kept."""
    fuse = {
        "driver": "gcsfuse.csi.storage.gke.io",
        "readOnly": True,
        "volumeAttributes": {"bucketName": "corpus"},
    }
    made = {
        "metadata": {"name": "train-x", "namespace": "ml", "uid": "pod"},
        "spec": {
            "serviceAccountName": "trainer",
            "volumes": [
                {"name": "temporary", "emptyDir": {}},
                {"name": "volume-1", "csi": fuse},
                {"name": "volume-2", "persistentVolumeClaim": {"claimName": "datasets"}},
            ],
            "containers": [
                {
                    "name": "prefect-job",
                    "image": "i",
                    "volumeMounts": [
                        {"name": "temporary", "mountPath": "/tmp"},
                        {"name": "volume-1", "mountPath": "/c4"},
                        {"name": "volume-2", "mountPath": "/d"},
                    ],
                }
            ],
            **({"nodeName": "node"} if is_scheduled else {}),
        },
        "status": {"phase": "Pending"},
    }
    return slim(made)


def event(reason: str, message: str) -> dict[str, Any]:
    return {
        "metadata": {"uid": "e"},
        "involvedObject": {"name": "train-x", "uid": "pod"},
        "reason": reason,
        "message": message,
    }


@pytest.mark.parametrize(
    ("message", "said", "hint", "permanent"),
    [
        (
            (
                'rpc error: code = PermissionDenied desc = failed to get GCS bucket "corpus": '
                "googleapi: Error 403: Caller does not have storage.objects.list access"
            ),
            "gs://corpus cannot be mounted at /c4: the Kubernetes service account ml/trainer",
            "--role=roles/storage.objectViewer --member=",
            True,
        ),
        (
            (
                "rpc error: code = Unauthenticated desc = failed to prepare storage service: "
                "IAM service account does not exist"
            ),
            "may not read it (failed to prepare storage service",
            "subject/ns/ml/sa/trainer",
            True,
        ),
        (
            (
                'rpc error: code = NotFound desc = failed to get GCS bucket "corpus": '
                "storage: bucket doesn't exist"
            ),
            "there is no such bucket",
            "check its name",
            True,
        ),
        (
            (
                "rpc error: code = FailedPrecondition desc = failed to find the sidecar container "
                "in Pod spec"
            ),
            "the pod has no sidecar that mounts it",
            "gke-gcsfuse/volumes",
            True,
        ),
        (
            (
                "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name "
                "gcsfuse.csi.storage.gke.io not found in the list of registered CSI drivers"
            ),
            "the node has no driver",
            "GcsFuseCsiDriver",
            False,
        ),
        (
            (
                "rpc error: code = ResourceExhausted desc = the sidecar container failed with "
                "error: signal: killed"
            ),
            "its sidecar ran out of memory or disk",
            "gke-gcsfuse/memory-limit",
            False,
        ),
        (
            (
                "rpc error: code = Aborted desc = NodePublishVolume request is aborted due to rate "
                "limit"
            ),
            "aborted due to rate limit",
            None,
            False,
        ),
    ],
)
def test_why_cloud_storage_is_not_mounted(
    message: str, said: str, hint: str | None, permanent: bool
):
    found = explain_waiting(JOB, [pod()], [event("FailedMount", MOUNT_FAILED + message)])
    assert found is not None
    assert said in found.message
    assert (found.hint is None) if hint is None else (hint in (found.hint or ""))
    assert (found.cause, found.permanent) == (Cause.VOLUME, permanent)


@pytest.mark.parametrize(
    ("reason", "message", "said"),
    [
        (
            "FailedAttachVolume",
            'Multi-Attach error for volume "pvc-7" Volume is already used by pod(s) train-y',
            "a disk of the run is attached to another node, used by pod(s) train-y",
        ),
        (
            "FailedAttachVolume",
            (
                'Multi-Attach error for volume "pvc-7" Volume is already exclusively attached to '
                "one node and can't be attached to another"
            ),
            "a disk of the run is attached to another node",
        ),
        (
            "FailedMount",
            (
                "Unable to attach or mount volumes: unmounted volumes=[volume-2], unattached "
                "volumes=[], failed to process volumes=[]: timed out waiting for the condition"
            ),
            "the node has not got what is to be at /d yet",
        ),
        (
            "FailedMount",
            'MountVolume.MountDevice failed for volume "pvc-7" : rpc error: bad superblock',
            "what is to be at pvc-7 cannot be mounted: rpc error: bad superblock",
        ),
    ],
)
def test_why_a_claim_is_not_mounted(reason: str, message: str, said: str):
    found = explain_waiting(JOB, [pod()], [event(reason, message)])
    assert found is not None
    assert (found.cause, found.message) == (Cause.VOLUME, said)


@pytest.mark.parametrize(
    ("message", "said", "permanent"),
    [
        ('persistentvolumeclaim "datasets" not found', "there is no PersistentVolumeClaim", True),
        ('persistentvolumeclaim "datasets" is being deleted', "is being deleted", True),
        (
            'persistentvolumeclaim "datasets" bound to non-existent persistentvolume "pv"',
            "the volume of PersistentVolumeClaim 'datasets' is gone",
            True,
        ),
        ("pod has unbound immediate PersistentVolumeClaims", "is not bound to a volume yet", False),
        ("1 node(s) had volume node affinity conflict", "in a zone that no fitting node", False),
    ],
)
def test_which_claim_keeps_a_pod_from_every_node(message: str, said: str, permanent: bool):
    told = event("FailedScheduling", f"0/1 nodes are available: {message}.")
    found = explain_waiting(JOB, [pod(is_scheduled=False)], [told])
    assert found is not None
    assert said in found.message
    assert (found.cause, found.permanent) == (Cause.VOLUME, permanent)


def test_full_nodes_in_a_disks_zone_are_told_rather_than_those_elsewhere():
    said = "1 Insufficient memory, 1 node(s) had volume node affinity conflict"
    told = event("FailedScheduling", f"0/2 nodes are available: {said}.")
    found = explain_waiting(JOB, [pod(is_scheduled=False)], [told])
    assert found is not None
    assert "no fitting node has enough free memory" in found.message


def test_other_troubles_of_a_node_are_no_volumes():
    told = event("FailedCreatePodSandBox", "failed to setup network for sandbox")
    found = explain_waiting(JOB, [pod()], [told])
    assert found is not None
    assert found.cause is Cause.CONFIGURATION
