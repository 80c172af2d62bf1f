"""Requests for all nodes of a slice at once: when there is one, what it is, and what it says."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import NodePool, parse_accelerator
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.placement import Placement
from kinetic_flows.platforms.gke.provisioning import (
    explain_request,
    needs_request,
    pod_template,
    provisioning_request,
    with_request,
)

RUN_ID = "0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f"
SLICE = "tpu-v6e-4x4:flex"


def job_of(accelerator: str, job_vars: dict[str, Any] | None = None, **placement: Any) -> Any:
    variables = job_variables(
        PodRequest(
            run_id=RUN_ID,
            name="train",
            image="r/i@sha256:" + "1" * 64,
            accelerator=parse_accelerator(accelerator),
            placement=Placement(**placement),
            variables=check_job_variables(job_vars or {}, "job_variables"),
        )
    )
    return render_job(base_job_template(), variables, run_id=RUN_ID, name="train")


def pool(accelerator: str, **fields: Any) -> NodePool:
    row = parse_accelerator(accelerator)
    return NodePool(
        name="p",
        accelerator=row.label,
        topology=row.topology,
        count_per_host=row.count_per_host,
        flex=row.flex,
        **fields,
    )


@pytest.mark.parametrize(
    ("accelerator", "pools", "is_needed"),
    [
        (SLICE, None, True),
        (SLICE, [], True),
        (SLICE, [pool(SLICE, is_queued=True)], True),
        (SLICE, [pool(SLICE)], False),
        (SLICE, [pool("l4:flex")], True),
        ("l4:flex", None, False),
        ("l4:flex", [pool("l4:flex", is_queued=True)], True),
        ("l4:flex", [pool("l4:flex", is_queued=True), pool("l4:flex")], False),
        ("tpu-v6e-4x4", None, False),
    ],
)
def test_nodes_are_asked_for_where_they_come_together_or_by_a_queue(accelerator, pools, is_needed):
    assert needs_request(job_of(accelerator), pools) is is_needed


@pytest.mark.parametrize(
    "variables",
    [
        {"queue_name": "dws"},
        {"annotations": {"autoscaling.x-k8s.io/consume-provisioning-request": "ours"}},
    ],
    ids=["Kueue", "a request of their own"],
)
def test_who_has_the_nodes_asked_for_otherwise_asks_once(variables):
    assert not needs_request(job_of(SLICE, variables), None)


def test_our_own_queue_asks_for_no_nodes_so_that_a_run_does():
    assert needs_request(job_of(SLICE, {"queue_name": "kinetic"}), None)


def test_pods_say_which_request_they_consume_and_keep_their_annotations():
    job = with_request(job_of(SLICE), None)
    pod = job["spec"]["template"]["metadata"]["annotations"]
    assert pod["autoscaling.x-k8s.io/consume-provisioning-request"] == job["metadata"]["name"]
    assert pod["autoscaling.x-k8s.io/provisioning-class-name"] == "queued-provisioning.gke.io"
    assert pod["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    plain = job_of("tpu-v6e-4x4")
    assert with_request(plain, None) is plain


def test_a_request_names_the_pods_that_it_is_for_and_goes_with_their_job():
    job = with_request(job_of(SLICE, max_run_seconds=3600.0), None)
    job["metadata"]["uid"] = "u-1"
    template, request = pod_template(job), provisioning_request(job)
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(template, version, strict=True)
    spec = template["template"]["spec"]
    assert spec["nodeSelector"]["cloud.google.com/gke-flex-start"] == "true"
    assert spec["containers"][0]["resources"]["limits"]["google.com/tpu"] == 4
    assert "env" not in spec["containers"][0]
    assert request["spec"] == {
        "provisioningClassName": "queued-provisioning.gke.io",
        "parameters": {"maxRunDurationSeconds": "3600"},
        "podSets": [{"count": 4, "podTemplateRef": {"name": job["metadata"]["name"]}}],
    }
    for each in (template, request):
        assert each["metadata"]["ownerReferences"][0]["uid"] == "u-1"
        assert each["metadata"]["labels"]["prefect.io/flow-run-id"] == RUN_ID


def a_request(*conditions: tuple[str, str, str], count: int = 4) -> dict[str, Any]:
    return {
        "spec": {"podSets": [{"count": count}]},
        "status": {
            "conditions": [
                {"type": kind, "status": status, "message": message}
                for kind, status, message in conditions
            ]
        },
    }


@pytest.mark.parametrize(
    ("conditions", "words", "cause", "is_hopeless"),
    [
        ([], "has not taken up the request for the 4 nodes yet", "scaling_up", False),
        (
            [("Accepted", "True", ""), ("Provisioned", "False", "Waiting for resources.")],
            "as soon as the zone has them (Waiting for resources.)",
            "scaling_up",
            False,
        ),
        (
            [("Accepted", "True", ""), ("Failed", "True", "GCE quota exceeded")],
            "flex-start does not give the 4 nodes: GCE quota exceeded; ask for more",
            "cloud_quota",
            True,
        ),
        (
            [("Failed", "True", "no pool")],
            "does not give the 4 nodes: no pool; take another",
            "cloud_capacity",
            True,
        ),
        (
            [("Provisioned", "True", ""), ("BookingExpired", "True", "expired")],
            "has taken the 4 nodes back: expired",
            "cloud_capacity",
            True,
        ),
    ],
)
def test_a_request_says_what_its_pods_wait_for(conditions, words, cause, is_hopeless):
    found = explain_request(a_request(*conditions))
    assert found is not None
    assert words in str(found)
    assert (found.cause, found.permanent) == (cause, is_hopeless)


@pytest.mark.parametrize(
    ("reason", "message", "cause"),
    [
        ("NotProvisioned", "", "scaling_up"),
        ("QuotaExceeded", "Quota 'PREEMPTIBLE_TPU' exceeded.", "cloud_quota"),
        ("ResourcePoolExhausted", "Expected time is indefinite.", "cloud_capacity"),
        ("ResourcePoolExhausted", "Expected time is 1 hour.", "scaling_up"),
    ],
)
def test_a_request_without_quota_or_an_end_in_sight_is_told_from_one_that_waits_its_turn(
    reason, message, cause
):
    request = a_request(("Accepted", "True", ""), ("Provisioned", "False", message))
    request["status"]["conditions"][1]["reason"] = reason
    found = explain_request(request)
    assert found is not None
    assert (found.cause, found.permanent) == (cause, False)
    assert message in found.message


def test_of_nodes_that_are_there_the_pods_themselves_tell():
    assert explain_request(a_request(("Provisioned", "True", ""))) is None
    assert explain_request(None) is None


def test_one_node_is_spoken_of_as_one():
    assert "for the node yet" in str(explain_request(a_request(count=1)))
