"""Which claims a run can have, and who its pods are to a bucket."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.volumes import Volume, parse_volumes
from kinetic_flows.platforms.gke.bucket_access import (
    ACCOUNT_ANNOTATION,
    Identity,
    access_notice,
    grant_command,
)
from kinetic_flows.platforms.gke.volume_preflight import claim_problems


def claim(*modes: str, phase: str = "Bound", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "datasets"},
        "spec": {"accessModes": list(modes), **spec},
        "status": {"phase": phase, "accessModes": list(modes)},
    }


def volume(text: str = "pvc:datasets") -> Volume:
    return parse_volumes("volumes", {"/d": text})["/d"]


@pytest.mark.parametrize(
    ("modes", "text", "hosts"),
    [
        (["ReadWriteOnce"], "pvc:datasets", 1),
        (["ReadWriteOncePod"], "pvc:datasets", 1),
        (["ReadOnlyMany"], "pvc:datasets:ro", 4),
        (["ReadWriteMany"], "pvc:datasets", 4),
        (["ReadWriteOnce", "ReadOnlyMany"], "pvc:datasets:ro", 4),
    ],
)
def test_a_claim_that_as_many_pods_can_have_is_taken(modes: list[str], text: str, hosts: int):
    assert claim_problems(claim(*modes), volume(text), hosts) == ()


@pytest.mark.parametrize(
    ("found", "text", "hosts", "said"),
    [
        (claim("ReadWriteOnce", phase="Lost"), "pvc:datasets", 1, "is Lost"),
        (claim("ReadWriteOnce", volumeMode="Block"), "pvc:datasets", 1, "a raw device"),
        (claim("ReadOnlyMany"), "pvc:datasets/c4", 1, "write 'pvc:datasets/c4:ro'"),
        (claim("ReadWriteOnce"), "pvc:datasets:ro", 4, "is ReadWriteOnce: one node has it"),
        (claim("ReadWriteOnce", "ReadOnlyMany"), "pvc:datasets", 4, "the run has 4 pods"),
        (
            {**claim(), "metadata": {"name": "datasets", "deletionTimestamp": "now"}},
            "pvc:datasets",
            1,
            "is being deleted",
        ),
    ],
)
def test_a_claim_that_they_cannot_have_is_told_with_what_would_do(
    found: dict[str, Any], text: str, hosts: int, said: str
):
    (problem,) = claim_problems(found, volume(text), hosts)
    assert said in problem


def test_an_account_that_acts_as_itself_is_granted_a_bucket_directly():
    identity = Identity.of({}, namespace="ml", name="trainer", project="my-project")
    assert grant_command(identity, "corpus", is_written=False) == (
        "gcloud storage buckets add-iam-policy-binding gs://corpus "
        '--role=roles/storage.objectViewer --member="principal://iam.googleapis.com/projects/'
        "$(gcloud projects describe my-project --format='value(projectNumber)')/locations/global/"
        'workloadIdentityPools/my-project.svc.id.goog/subject/ns/ml/sa/trainer"'
    )


def test_an_account_that_acts_as_a_google_one_is_granted_it_as_that():
    account = {"metadata": {"annotations": {ACCOUNT_ANNOTATION: "t@p.iam.gserviceaccount.com"}}}
    identity = Identity.of(account, namespace="ml", name="trainer", project="p")
    said = access_notice(identity, "corpus", is_written=True)
    assert "as the service account t@p.iam.gserviceaccount.com" in said
    assert "--role=roles/storage.objectUser" in said
    assert '--member="serviceAccount:t@p.iam.gserviceaccount.com"' in said
