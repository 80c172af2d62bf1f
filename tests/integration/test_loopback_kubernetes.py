"""The loopback Kubernetes, asked by the real client, behaves as a real cluster does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from kubernetes_asyncio import client, config, watch
from kubernetes_asyncio.client.exceptions import ApiException

from kinetic_flows.core.accelerators import NodePool, parse_accelerator
from kinetic_flows.platforms.gke.diagnosis import explain_denial, explain_refusal
from kinetic_flows.platforms.gke.ending import explain_end
from kinetic_flows.platforms.gke.waiting import explain_waiting
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.kubelet import ImagePullFailure
from loopback.kubernetes.node_groups import NodeGroup

Result = TypeVar("Result")

V6E = NodeGroup(
    name="v6e",
    labels=parse_accelerator("tpu-v6e-8").node_selector,
    capacity={"google.com/tpu": 8},
)
POLICY = {
    "rules": [
        {"action": "Count", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]
}
WAIT_FOR_EVER = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        yield running


def a_job(
    source: str,
    *,
    name: str = "train",
    pod: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    main = {
        "name": "main",
        "image": "r/i@sha256:1",
        "command": ["python3", "-c", source],
        **(container or {}),
    }
    pod_spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "containers": [main],
        **(pod or {}),
    }
    job_spec = {"backoffLimit": 0, "podFailurePolicy": POLICY, **spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {**job_spec, "template": {"spec": pod_spec}},
    }


def ask(
    cluster: LoopbackCluster, question: Callable[[client.ApiClient], Awaitable[Result]]
) -> Result:
    """Ask the cluster something through the real client."""

    async def asked() -> Result:
        api = await config.new_client_from_config(config_file=str(cluster.kubeconfig()))
        async with api:
            return await question(api)

    return asyncio.run(asked())


def create(cluster: LoopbackCluster, job: dict[str, Any], namespace: str = "default") -> Any:
    return ask(cluster, lambda api: client.BatchV1Api(api).create_namespaced_job(namespace, job))


def refused(cluster: LoopbackCluster, job: dict[str, Any], namespace: str = "default") -> Any:
    with pytest.raises(ApiException) as caught:
        create(cluster, job, namespace)
    return caught.value


def holds(kind: str) -> Callable[[dict[str, Any]], bool]:
    def condition_holds(item: dict[str, Any]) -> bool:
        conditions = item.get("status", {}).get("conditions", ())
        return any(c["type"] == kind and c["status"] == "True" for c in conditions)

    return condition_holds


def running(pod: dict[str, Any]) -> bool:
    return bool(pod["status"].get("phase") == "Running")


def run_to_end(cluster: LoopbackCluster, job: dict[str, Any]) -> dict[str, Any]:
    create(cluster, job)
    return ended(cluster)


def ended(cluster: LoopbackCluster) -> dict[str, Any]:
    return cluster.wait_for("jobs", lambda item: holds("Complete")(item) or holds("Failed")(item))


def started_pod(cluster: LoopbackCluster, *others: str) -> str:
    """Wait for a pod that runs and has printed something; return its name."""
    pod = cluster.wait_for(
        "pods", lambda item: running(item) and item["metadata"]["name"] not in others
    )
    name: str = pod["metadata"]["name"]
    followed = _first_line(cluster, name)
    assert followed == "up"
    return name


def _first_line(cluster: LoopbackCluster, pod: str) -> str:
    async def first(api: client.ApiClient) -> str:
        response = await client.CoreV1Api(api).read_namespaced_pod_log(
            pod, "default", follow=True, _preload_content=False
        )
        line = await response.content.readline()
        response.close()
        return str(line.decode().strip())

    return ask(cluster, first)


def how_it_ended(cluster: LoopbackCluster) -> str:
    found = explain_end(ended(cluster), cluster.list("pods"), cluster.list("events"))
    assert found is not None
    return found.message


def why_it_waits(cluster: LoopbackCluster, pools: list[NodePool] | None = None) -> str:
    (job,) = cluster.list("jobs")
    found = explain_waiting(job, cluster.list("pods"), cluster.list("events"), pools=pools)
    assert found is not None
    return found.message


def wait_for_event(cluster: LoopbackCluster, reason: str) -> None:
    cluster.wait_for("events", lambda event: event["reason"] == reason)


def test_a_job_runs_its_command_and_completes(cluster):
    job = run_to_end(
        cluster,
        a_job(
            "import os; print(os.environ['A'])", container={"env": [{"name": "A", "value": "b"}]}
        ),
    )
    assert job["status"]["succeeded"] == 1
    (pod,) = cluster.list("pods")
    name = pod["metadata"]["name"]
    log = ask(cluster, lambda api: client.CoreV1Api(api).read_namespaced_pod_log(name, "default"))
    assert log == "b\n"
    assert cluster.event_reasons() == [
        "SuccessfulCreate",
        "Scheduled",
        "Pulling",
        "Pulled",
        "Started",
        "Completed",
    ]


def test_secrets_reach_the_container(cluster):
    secret = {"metadata": {"name": "keys"}, "stringData": {"KEY": "s3cret"}}
    ask(cluster, lambda api: client.CoreV1Api(api).create_namespaced_secret("default", secret))
    source = "import os; assert os.environ['KEY'] == os.environ['AGAIN'] == 's3cret'"
    reference = {"secretKeyRef": {"name": "keys", "key": "KEY"}}
    container = {
        "envFrom": [{"secretRef": {"name": "keys"}}],
        "env": [{"name": "AGAIN", "valueFrom": reference}],
    }
    assert holds("Complete")(run_to_end(cluster, a_job(source, container=container)))


def test_a_missing_secret_holds_the_pod_until_it_is_there(cluster):
    container = {"envFrom": [{"secretRef": {"name": "keys"}}]}
    create(cluster, a_job("pass", container=container))
    cluster.wait_for("pods", lambda pod: "CreateContainerConfigError" in json.dumps(pod["status"]))
    assert why_it_waits(cluster) == ('the container cannot be started: secret "keys" not found')
    secret = {"metadata": {"name": "keys"}, "stringData": {}}
    ask(cluster, lambda api: client.CoreV1Api(api).create_namespaced_secret("default", secret))
    assert holds("Complete")(ended(cluster))


def test_a_watch_sees_a_job_from_its_creation_to_its_end(cluster):
    async def watched(api: client.ApiClient) -> list[str]:
        batch, seen = client.BatchV1Api(api), []
        version = (await batch.list_namespaced_job("default")).metadata.resource_version
        await batch.create_namespaced_job("default", a_job("pass"))
        async with watch.Watch() as stream:
            async for event in stream.stream(
                batch.list_namespaced_job, "default", resource_version=version
            ):
                seen.append(event["type"])
                if any(c.type == "Complete" for c in event["object"].status.conditions or ()):
                    return seen
        return seen

    seen = ask(cluster, watched)
    assert seen[0] == "ADDED"
    assert set(seen[1:]) == {"MODIFIED"}


def test_the_same_name_twice_is_a_conflict(cluster):
    create(cluster, a_job("pass"))
    assert refused(cluster, a_job("pass")).status == 409


def test_unknown_fields_are_refused_but_for_the_two_of_prefect(cluster):
    create(cluster, a_job("pass", pod={"parallelism": 1, "completions": 1}))
    error = refused(cluster, a_job("pass", name="other", pod={"nodeSelectors": {}}))
    assert error.status == 400
    assert "nodeSelectors" in error.body


def test_requests_of_extended_resources_must_be_their_limits(cluster):
    resources = {"requests": {"google.com/tpu": 8}}
    error = refused(cluster, a_job("pass", container={"resources": resources}))
    assert "must be set to requests of google.com/tpu" in error.body


def test_a_missing_namespace_is_named(cluster):
    error = refused(cluster, a_job("pass"), "nowhere")
    found = explain_refusal(error.status, error.body, "create the Job")
    assert found.message == "the cluster has no namespace 'nowhere'"


def test_a_denied_verb_is_refused_as_rbac_words_it(cluster):
    cluster.access.denials.append(Denial(resource="jobs", verb="create"))
    error = refused(cluster, a_job("pass"))
    found = explain_refusal(error.status, error.body, "create the Job")
    assert found.message == "tester@example.com may not create jobs.batch in namespace 'default'"


def test_an_unknown_token_is_refused(cluster):
    cluster.access.users.clear()
    assert refused(cluster, a_job("pass")).status == 401


def test_an_admission_webhook_may_refuse(cluster):
    cluster.admission.webhooks.append(
        lambda plural, item: (
            'admission webhook "p.example.com" denied the request: no' if plural == "jobs" else None
        )
    )
    error = refused(cluster, a_job("pass"))
    assert "p.example.com" in explain_refusal(error.status, error.body, "create the Job").message


def test_a_missing_service_account_stops_the_pod_but_not_the_job(cluster):
    create(cluster, a_job("pass", pod={"serviceAccountName": "runner"}))
    wait_for_event(cluster, "FailedCreate")
    assert why_it_waits(cluster) == "there is no service account 'runner' in the namespace"


def test_a_refused_pod_is_tried_again_under_another_name_with_an_event_each_time(cluster):
    cluster.add_namespace("team-a", enforce="restricted")
    create(cluster, a_job("pass"), "team-a")
    (job,) = cluster.list("jobs")
    said: set[str] = set()

    def tried_twice(event: dict[str, Any]) -> bool:
        said.update([event["message"]] if event["reason"] == "FailedCreate" else [])
        return len(said) == 2

    cluster.wait_for("events", tried_twice)
    (reason,) = {explain_denial(each, "make the Job's pod") for each in said}
    assert reason == explain_waiting(job, [], cluster.list("events"))
    assert "enforces Pod Security 'restricted'" in reason.message


def test_names_of_pods_that_are_refused_do_not_change_the_reason(cluster):
    cluster.admission.webhooks.append(
        lambda plural, item: (
            f'pods "{item["metadata"]["name"]}" is forbidden: no' if plural == "pods" else None
        )
    )
    create(cluster, a_job("pass"))
    wait_for_event(cluster, "FailedCreate")
    assert why_it_waits(cluster) == "the cluster refuses to make the Job's pod: no"


def test_access_reviews_tell_what_is_allowed(cluster):
    cluster.access.denials.append(Denial(resource="pods/log"))

    async def allowed(api: client.ApiClient) -> list[bool]:
        reviews = []
        for resource, subresource in (("jobs", None), ("pods", "log")):
            wanted = {"verb": "get", "resource": resource, "subresource": subresource}
            body = {"spec": {"resourceAttributes": {"namespace": "default", **wanted}}}
            review = await client.AuthorizationV1Api(api).create_self_subject_access_review(body)
            reviews.append(review.status.allowed)
        return reviews

    assert ask(cluster, allowed) == [True, False]


def tpu_job() -> dict[str, Any]:
    accelerator = parse_accelerator("tpu-v6e-8")
    limits = {"requests": accelerator.resources, "limits": accelerator.resources}
    return a_job(
        "pass",
        pod={"nodeSelector": accelerator.node_selector},
        container={"resources": limits},
    )


def test_a_pod_without_a_fitting_node_pool_says_so(cluster):
    create(cluster, tpu_job())
    wait_for_event(cluster, "NotTriggerScaleUp")
    pools = [NodePool.from_node(node) for node in cluster.list("nodes")]
    assert why_it_waits(cluster, pools) == (
        "no node pool has gke-tpu-accelerator=tpu-v6e-slice, gke-tpu-topology=2x4; "
        "the cluster has: default (no accelerator)"
    )


def test_the_autoscaler_brings_a_node_after_a_while(cluster):
    cluster.add_nodes(V6E)
    create(cluster, tpu_job())
    wait_for_event(cluster, "TriggeredScaleUp")
    assert "autoscaler is adding a node" in why_it_waits(cluster)
    assert holds("Complete")(ended(cluster))
    assert sum("v6e" in node["metadata"]["name"] for node in cluster.list("nodes")) == 1


def test_a_scale_up_that_fails_says_why(cluster):
    cluster.add_nodes(
        NodeGroup(
            name="v6e", labels=V6E.labels, capacity=V6E.capacity, failure="GCE quota exceeded"
        )
    )
    create(cluster, tpu_job())
    wait_for_event(cluster, "FailedScaleUp")
    assert "quota is used up" in why_it_waits(cluster)


def test_an_image_that_is_not_there_is_tried_again(tmp_path):
    there: list[bool] = []

    async def pull(image: str) -> None:
        if not there:
            raise ImagePullFailure("manifest unknown: not found")

    with LoopbackCluster(tmp_path, pull_image=pull) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        create(cluster, a_job("pass"))
        cluster.wait_for("pods", lambda pod: "ImagePullBackOff" in json.dumps(pod["status"]))
        assert why_it_waits(cluster) == (
            "the node cannot pull r/i@sha256:1: the registry does not have it"
        )
        there.append(True)
        assert holds("Complete")(ended(cluster))


def test_a_bug_fails_the_job_at_once(cluster):
    job = run_to_end(cluster, a_job("raise SystemExit(1)", backoffLimit=3))
    assert holds("Failed")(job)
    assert len(cluster.list("pods")) == 1
    assert how_it_ended(cluster) == "the pod ended with exit code 1: the function raised"


def test_running_out_of_memory_fails_the_job_at_once(cluster):
    limits = {"resources": {"limits": {"memory": "1Gi"}}}
    create(cluster, a_job(WAIT_FOR_EVER, container=limits, backoffLimit=3))
    cluster.run_out_of_memory(started_pod(cluster))
    assert how_it_ended(cluster) == (
        "the pod was killed for using more memory than its limit of 1Gi"
    )
    assert len(cluster.list("pods")) == 1


def test_preemptions_start_again_and_are_bounded(cluster):
    cluster.add_nodes(NodeGroup(name="spot", max_nodes=5))
    spot = {"cloud.google.com/gke-spot": "true"}
    cluster.add_nodes(NodeGroup(name="spots", labels=spot, max_nodes=5))
    create(cluster, a_job(WAIT_FOR_EVER, backoffLimit=1, pod={"nodeSelector": spot}))
    first = started_pod(cluster)
    cluster.preempt(first)
    cluster.preempt(started_pod(cluster, first))
    assert how_it_ended(cluster) == (
        "the pod was preempted: Google took its Spot VM; "
        "it had been started again once, which is the limit"
    )
    assert len(cluster.list("pods")) == 2


def test_an_eviction_says_why(cluster):
    create(cluster, a_job(WAIT_FOR_EVER))
    cluster.evict(started_pod(cluster), "The node was low on resource: memory.")
    assert "was evicted: The node was low on resource: memory." in how_it_ended(cluster)


def test_a_pod_beyond_a_limit_of_its_own_is_evicted_without_being_disturbed(cluster):
    create(cluster, a_job(WAIT_FOR_EVER, backoffLimit=2))
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
    cluster.evict(started_pod(cluster), message)
    assert holds("Failed")(ended(cluster))
    (pod,) = cluster.list("pods")
    assert not holds("DisruptionTarget")(pod)
    assert pod["status"]["reason"] == "Evicted"


def test_a_deleted_pod_fails_its_job_and_is_kept_until_it_is_counted(cluster):
    create(cluster, a_job(WAIT_FOR_EVER, backoffLimit=2))
    name = started_pod(cluster)
    ask(cluster, lambda api: client.CoreV1Api(api).delete_namespaced_pod(name, "default"))
    held = cluster.wait_for("pods", lambda pod: pod["status"].get("phase") == "Failed")
    assert held["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    assert not holds("DisruptionTarget")(held)
    assert not any(holds("FailureTarget")(job) for job in cluster.list("jobs"))
    assert holds("Failed")(ended(cluster))


def test_a_pod_of_higher_priority_takes_a_place(cluster):
    create(cluster, a_job(WAIT_FOR_EVER, backoffLimit=1))
    first = started_pod(cluster)
    cluster.displace(first)
    assert started_pod(cluster, first) != first


def test_a_lost_node_loses_its_pods(cluster):
    create(cluster, a_job(WAIT_FOR_EVER))
    started_pod(cluster)
    (node,) = cluster.list("nodes")
    cluster.remove_node(node["metadata"]["name"])
    assert "its node is gone" in how_it_ended(cluster)


def test_a_deadline_ends_the_job(cluster):
    create(cluster, a_job(WAIT_FOR_EVER, activeDeadlineSeconds=1))
    assert "active deadline of 1 seconds" in how_it_ended(cluster)


def test_a_finished_job_goes_when_its_time_is_over(cluster):
    create(cluster, a_job("pass", ttlSecondsAfterFinished=0))
    cluster.wait_for("jobs", holds("Complete"))
    assert eventually_gone(cluster)


def test_a_deleted_job_stops_its_pods(cluster):
    create(cluster, a_job(WAIT_FOR_EVER))
    started_pod(cluster)
    ask(
        cluster,
        lambda api: client.BatchV1Api(api).delete_namespaced_job(
            "train", "default", propagation_policy="Foreground"
        ),
    )
    assert eventually_gone(cluster)


def eventually_gone(cluster: LoopbackCluster) -> bool:
    """Wait for the deletion of every Job and pod, as the client's watch tells it."""

    async def gone(api: client.ApiClient) -> bool:
        core = client.CoreV1Api(api)
        async with asyncio.timeout(20):
            while (await core.list_namespaced_pod("default")).items:
                await asyncio.sleep(0.05)
            while (await client.BatchV1Api(api).list_namespaced_job("default")).items:
                await asyncio.sleep(0.05)
        return True

    return ask(cluster, gone)


def test_an_indexed_job_has_a_numbered_pod_for_each_host(cluster):
    source = "import os; print(os.environ['JOB_COMPLETION_INDEX'], os.environ['HOSTNAME'])"
    job = run_to_end(cluster, a_job(source, completions=2, parallelism=2, completionMode="Indexed"))
    assert job["status"]["succeeded"] == 2

    async def logs(api: client.ApiClient) -> set[str]:
        core = client.CoreV1Api(api)
        pods = await core.list_namespaced_pod("default", label_selector="job-name=train")
        names = [pod.metadata.name for pod in pods.items]
        return {await core.read_namespaced_pod_log(name, "default") for name in names}

    assert ask(cluster, logs) == {"0 train-0\n", "1 train-1\n"}


def test_a_host_that_fails_stops_the_others(cluster):
    source = (
        f"import os\nif os.environ['JOB_COMPLETION_INDEX'] == '1': os._exit(3)\n{WAIT_FOR_EVER}"
    )
    create(cluster, a_job(source, completions=2, parallelism=2, completionMode="Indexed"))
    assert how_it_ended(cluster) == "host 1 ended with exit code 3"


def test_a_suspended_job_has_no_pods_until_it_is_admitted(cluster):
    create(cluster, a_job("pass", suspend=True))
    cluster.wait_for("jobs", holds("Suspended"))
    assert cluster.list("pods") == []
    patch = {"spec": {"suspend": False}}
    ask(cluster, lambda api: client.BatchV1Api(api).patch_namespaced_job("train", "default", patch))
    assert holds("Complete")(ended(cluster))
