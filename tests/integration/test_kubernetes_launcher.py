"""Runs on the loopback cluster, launched, watched and stopped; their pods are real processes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes_runs import WAIT_FOR_EVER, Launched, a_launcher, a_request, launch

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import ConfigurationError, LaunchError
from kinetic_flows.core.launcher import LaunchNeeds, Phase
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher, LauncherSettings
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.phase import Timeouts
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.kubelet import ImagePullFailure
from loopback.kubernetes.node_groups import NodeGroup

TPU_TAINT = {"key": "google.com/tpu", "value": "present", "effect": "NoSchedule"}
V6E = NodeGroup(
    name="v6e",
    labels=parse_accelerator("tpu-v6e-8").node_selector,
    capacity={"google.com/tpu": 8},
    taints=(TPU_TAINT,),
)
SPOT = NodeGroup(
    name="spot",
    labels=parse_accelerator("tpu-v6e-8:spot").node_selector,
    capacity={"google.com/tpu": 8},
    taints=(TPU_TAINT,),
)
SLICE = NodeGroup(
    name="v5p",
    labels=parse_accelerator("tpu-v5p-2x2x2").node_selector,
    capacity={"google.com/tpu": 4},
    max_nodes=2,
)
OBEY_SIGTERM = """
import signal, sys, time
def stop(*_):
    print("asked to stop", flush=True)
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(600)
"""
IGNORE_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
COUNT_SLOWLY = """
import sys, time
for number in range(60):
    print(number, "x" * 200, flush=True, file=sys.stderr if number % 7 == 3 else sys.stdout)
    time.sleep(0.05)
"""
WAIT_ONCE = """
import os, sys, time
from pathlib import Path
been = Path(os.environ["MARK"])
if been.exists():
    print("second start")
    sys.exit(0)
been.touch()
print("first start", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        yield running


@pytest.fixture
def launcher(cluster: LoopbackCluster) -> Iterator[KubernetesLauncher]:
    with a_launcher(cluster) as made:
        yield made


def short_timeouts(seconds: float = 0.5) -> LauncherSettings:
    return LauncherSettings(
        timeouts=Timeouts(schedule_timeout_seconds=seconds, hopeless_timeout_seconds=seconds)
    )


def pod_of(cluster: LoopbackCluster) -> str:
    pod = cluster.wait_for("pods", lambda item: item["status"].get("phase") == "Running")
    return str(pod["metadata"]["name"])


def spoken_of_a_restart(run: Launched) -> list[str]:
    """Return what was said of a run that sounds as if it started again."""
    return [seen.reason for seen in run.seen if "again" in seen.reason and not seen.phase.is_final]


def up(run: Launched) -> None:
    """Wait until the run's program has said that it is up."""
    while b"up" not in run.output:
        run.until(Phase.PENDING, Phase.RUNNING)


# Starting


def test_a_run_prints_ends_and_leaves_its_exit_code(launcher):
    run = launch(launcher, a_request("print('6 * 7 =', 6 * 7)"))
    ended = run.end()
    assert (ended.phase, ended.exit_code, ended.reason) == (Phase.SUCCEEDED, 0, "")
    assert run.output == b"6 * 7 = 42\n"


def test_output_is_there_while_the_run_goes_on(launcher):
    run = launch(launcher, a_request(WAIT_FOR_EVER))
    up(run)
    assert run.seen[-1].phase is Phase.RUNNING


def test_none_of_the_clients_prefect_settings_stand_in_a_job(launcher, cluster, monkeypatch):
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_client")
    monkeypatch.setenv("PREFECT_API_URL", "http://client.example/api")
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql://u:hunter2@db/prefect")
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    keys = {"PREFECT_API_KEY": "pnu_run", "PREFECT_API_AUTH_STRING": "user:word"}
    request = a_request("print('done')", environment={"KINETIC_JOB": "gs://b/job.json", **keys})
    launch(launcher, request).end()
    job, text = cluster.list("jobs")[0], json.dumps(cluster.list("jobs"))
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["env"] == [{"name": "KINETIC_JOB", "value": "gs://b/job.json"}]
    for secret in ("pnu_client", "client.example", "hunter2", "pnu_run", "user:word", "5e5e"):
        assert secret not in text


def test_keys_reach_the_pod_by_a_secret_that_the_job_owns(launcher, cluster):
    source = "import os; print(os.environ['KINETIC_RUN_KEY'], os.environ['PREFECT_API_KEY'])"
    run = launch(launcher, a_request(source, environment={"PREFECT_API_KEY": "pnu_run"}))
    run.end()
    assert run.output == b"5e" * 32 + b" pnu_run\n"
    (secret,), (job,) = cluster.list("secrets"), cluster.list("jobs")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == job["metadata"]["uid"]


def test_output_goes_on_when_a_kubelet_is_restarted_and_its_file_rotated(launcher, cluster):
    run = launch(launcher, a_request(COUNT_SLOWLY))
    while b"\n10 " not in run.output:
        run.until(Phase.PENDING, Phase.RUNNING)
    cluster.restart_kubelets()
    while b"\n40 " not in run.output:
        run.until(Phase.RUNNING)
    cluster.rotate_log(pod_of(cluster))
    # What was printed before stands in no file that is shown any more: it is on its way.
    while b"\n48 " not in run.output:
        run.until(Phase.RUNNING)
    cluster.restart_kubelets()
    assert run.end().phase is Phase.SUCCEEDED
    assert run.output.decode().split()[::2] == [str(number) for number in range(60)]


def test_a_repeated_start_makes_no_second_job(launcher, cluster):
    request = a_request("print('once')")
    launcher.start(request)
    run = launch(launcher, request)
    assert run.end().phase is Phase.SUCCEEDED
    assert len(cluster.list("jobs")) == len(cluster.list("secrets")) == 1
    assert run.output == b"once\n"


def test_the_work_pools_own_changes_are_kept(cluster):
    template = base_job_template()
    template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["hostNetwork"] = True
    with a_launcher(cluster) as launcher:
        launch(launcher, replace(a_request("print('done')"), template=template)).end()
    assert cluster.list("jobs")[0]["spec"]["template"]["spec"]["hostNetwork"] is True


def test_a_tpu_run_waits_for_its_node_and_says_so(cluster, launcher):
    cluster.add_nodes(replace(V6E, delay_seconds=0.5))
    run = launch(launcher, a_request("print('on a TPU')", accelerator="tpu-v6e-8"))
    run.until(Phase.PENDING, reason="the cluster's autoscaler is adding a node")
    assert run.end().phase is Phase.SUCCEEDED
    assert run.output == b"on a TPU\n"


def test_every_host_of_a_slice_runs_and_the_first_ones_output_is_shown(cluster, launcher):
    cluster.add_nodes(SLICE)
    source = "import os; print('host', os.environ['JOB_COMPLETION_INDEX'])"
    run = launch(launcher, a_request(source, accelerator="tpu-v5p-2x2x2"))
    assert run.end().phase is Phase.SUCCEEDED
    assert run.output == b"host 0\n"
    assert cluster.list("jobs")[0]["status"]["succeeded"] == 2


def test_a_failing_host_fails_the_run_and_stops_the_others(cluster, launcher):
    cluster.add_nodes(SLICE)
    source = (
        "import os, sys, time\n"
        "if os.environ['JOB_COMPLETION_INDEX'] == '1': sys.exit(45)\n"
        "time.sleep(600)"
    )
    run = launch(
        launcher,
        a_request(source, accelerator="tpu-v5p-2x2x2", variables={"termination_grace_seconds": 1}),
    )
    ended = run.end()
    assert (ended.phase, ended.exit_code) == (Phase.FAILED, 45)
    assert "host 1 ended with exit code 45" in ended.reason


def test_what_speaks_against_a_launch_is_asked_once_for_many_runs(cluster, launcher):
    for _ in range(20):
        launcher.preflight(LaunchNeeds(accelerator=parse_accelerator("cpu"))).raise_for_problems()
    assert len(cluster.requests) < 25


# Ends


def test_a_bug_fails_the_run_once_and_is_never_started_again(cluster, launcher):
    cluster.add_nodes(SPOT)
    run = launch(launcher, a_request("raise SystemExit(1)", accelerator="tpu-v6e-8:spot"))
    ended = run.end()
    assert (ended.phase, ended.exit_code) == (Phase.FAILED, 1)
    assert ended.reason == "the pod ended with exit code 1: the function raised"
    assert len(cluster.list("pods")) == 1
    assert not spoken_of_a_restart(run)


def test_running_out_of_memory_names_the_limit_and_never_starts_again(cluster, launcher):
    cluster.add_nodes(SPOT)
    request = a_request(WAIT_FOR_EVER, accelerator="tpu-v6e-8:spot", variables={"memory": "16Gi"})
    run = launch(launcher, request)
    cluster.run_out_of_memory(pod_of(cluster))
    ended = run.end()
    assert (ended.phase, ended.exit_code) == (Phase.FAILED, 137)
    assert "killed for using more memory than its limit of 16Gi" in ended.reason
    assert len(cluster.list("pods")) == 1


def test_a_preempted_run_starts_again_and_says_why(cluster, launcher, tmp_path):
    cluster.add_nodes(replace(SPOT, delay_seconds=0.5))
    request = a_request(
        WAIT_ONCE, accelerator="tpu-v6e-8:spot", environment={"MARK": str(tmp_path / "mark")}
    )
    run = launch(launcher, request)
    run.until(Phase.RUNNING)
    while b"first start" not in run.output:
        run.until(Phase.RUNNING)
    cluster.preempt(pod_of(cluster))
    run.until(Phase.PENDING, reason="Google took its Spot VM; it starts again (disturbance 1 of")
    assert run.end().phase is Phase.SUCCEEDED
    assert run.output == b"first start\nsecond start\n"


def test_preemptions_are_bounded(cluster, launcher):
    cluster.add_nodes(SPOT)
    run = launch(
        launcher, a_request(WAIT_FOR_EVER, accelerator="tpu-v6e-8:spot", max_preemptions=1)
    )
    first = pod_of(cluster)
    cluster.preempt(first)
    second = cluster.wait_for(
        "pods",
        lambda pod: pod["metadata"]["name"] != first and pod["status"].get("phase") == "Running",
    )
    cluster.preempt(second["metadata"]["name"])
    ended = run.end()
    assert ended.phase is Phase.FAILED
    assert "it had been started again once, which is the limit" in ended.reason


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("The node was low on resource: memory.", "request the memory and ephemeral_storage"),
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
            "raise ephemeral_storage in job_variables",
        ),
    ],
)
def test_an_evicted_run_says_what_for(cluster, launcher, message, advice):
    run = launch(launcher, a_request(WAIT_FOR_EVER))
    up(run)
    cluster.evict(pod_of(cluster), message)
    ended = run.end()
    assert (ended.phase, ended.exit_code) == (Phase.FAILED, None)
    assert ended.reason.startswith(f"the pod was evicted: {message}; {advice}")
    assert not spoken_of_a_restart(run)


def test_a_drained_run_names_the_option_by_which_it_would_have_started_again(cluster, launcher):
    run = launch(launcher, a_request(WAIT_FOR_EVER))
    up(run)
    cluster.drain(pod_of(cluster))
    assert "starts again only with max_preemptions=" in run.end().reason
    assert not spoken_of_a_restart(run)


def test_a_deleted_pod_ends_its_run_whatever_max_preemptions_says(cluster, launcher):
    run = launch(launcher, a_request(WAIT_FOR_EVER, max_preemptions=2))
    up(run)
    cluster.delete_pod(pod_of(cluster))
    assert run.end().reason.startswith("the pod was deleted (exit code 143); somebody did")
    assert not spoken_of_a_restart(run)


def test_a_run_whose_node_is_lost_says_so(cluster, launcher):
    run = launch(launcher, a_request(WAIT_FOR_EVER))
    up(run)
    pod = cluster.wait_for("pods", lambda item: item["status"].get("phase") == "Running")
    cluster.remove_node(pod["spec"]["nodeName"])
    assert "its node is gone" in run.end().reason


def test_a_run_beyond_its_deadline_says_so(launcher):
    run = launch(
        launcher,
        a_request(
            WAIT_FOR_EVER,
            variables={"active_deadline_seconds": 1, "termination_grace_seconds": 1},
        ),
    )
    ended = run.end()
    assert ended.phase is Phase.FAILED
    assert "ended after its active deadline of 1 seconds" in ended.reason


def test_a_job_that_somebody_deleted_is_gone(cluster, launcher):
    run = launch(launcher, a_request(WAIT_FOR_EVER, variables={"termination_grace_seconds": 1}))
    up(run)
    with a_launcher(cluster) as another:
        another.stop(run.run_id, 1)
    ended = run.end()
    assert ended.phase is Phase.GONE
    assert ended.reason == "the cluster has no Job of this run: it was deleted, or never made"


# Waiting


def test_a_run_without_a_node_fails_with_what_it_would_have_needed(cluster):
    with a_launcher(cluster, short_timeouts()) as launcher:
        ended = launch(launcher, a_request("", accelerator="tpu-v6e-8")).end()
    assert ended.phase is Phase.FAILED
    assert ended.reason.startswith("it did not start within 0.5 seconds: ")
    assert "no node pool has gke-tpu-accelerator=tpu-v6e-slice, gke-tpu-topology=2x4" in (
        ended.reason
    )
    assert "create such a node pool, or take an accelerator that the cluster has" in ended.reason


def test_how_long_a_run_may_wait_stands_on_its_job_for_whoever_looks(cluster, launcher):
    request = a_request("", accelerator="tpu-v6e-8", schedule_timeout_seconds=0.5)
    launcher.start(request)
    with a_launcher(cluster) as another:
        ended = Launched(launcher=another, run_id=request.run_id).end()
    assert ended.reason.startswith("it did not start within 0.5 seconds: no node pool has")


def test_a_run_that_is_given_up_leaves_nothing_in_the_cluster(cluster):
    with a_launcher(cluster, short_timeouts()) as launcher:
        run = launch(launcher, a_request("", accelerator="tpu-v6e-8"))
        ended = run.end()
        assert ended.reason.startswith("it did not start within 0.5 seconds: no node pool has")
        launcher.stop(run.run_id, 1)
        assert not cluster.list("jobs")
        assert not cluster.list("secrets")
        assert run.end().reason == ended.reason


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("GCE quota exceeded", "the project's quota is used up"),
        ("GCE out of resources", "the zone has none to give at the moment"),
    ],
)
def test_a_node_that_cannot_be_had_says_why(cluster, failure, words):
    cluster.add_nodes(replace(V6E, failure=failure))
    with a_launcher(cluster, short_timeouts()) as launcher:
        ended = launch(launcher, a_request("", accelerator="tpu-v6e-8")).end()
    assert words in ended.reason


def test_a_request_that_no_machine_can_hold_says_so(tmp_path):
    with LoopbackCluster(tmp_path) as cluster, a_launcher(cluster) as launcher:
        cluster.add_nodes(NodeGroup(name="small", nodes=1, capacity={"memory": 16 << 30}))
        fits = launch(launcher, a_request("print('fits')", variables={"memory": "12Gi"}))
        assert fits.end().phase is Phase.SUCCEEDED
        run = launch(launcher, a_request("", variables={"memory": "64Gi"}))
        seen = run.until(Phase.PENDING, reason="no node has enough memory for what the run")
    assert "ask for less memory with memory=, or take a larger machine" in seen.reason


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("manifest unknown", "the registry does not have it"),
        ("403 Forbidden", "the registry refuses the node's credentials"),
    ],
)
def test_an_image_that_cannot_be_pulled_says_why(tmp_path, answer, words):
    async def refuse(image: str) -> None:
        raise ImagePullFailure(answer)

    with LoopbackCluster(tmp_path, pull_image=refuse) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        with a_launcher(cluster, short_timeouts(30)) as launcher:
            run = launch(launcher, a_request(""))
            seen = run.until(Phase.PENDING, reason=words)
    assert "the node cannot pull registry/image@sha256:" in seen.reason


def test_an_image_that_disappears_under_a_run_says_so_when_it_is_to_start_again(tmp_path):
    has_image = True

    async def pull(image: str) -> None:
        if not has_image:
            raise ImagePullFailure("manifest unknown")

    settings = LauncherSettings(timeouts=Timeouts(hopeless_timeout_seconds=0.5))
    with (
        LoopbackCluster(tmp_path, pull_image=pull) as cluster,
        a_launcher(cluster, settings) as own,
    ):
        cluster.add_nodes(SPOT)
        run = launch(own, a_request(WAIT_FOR_EVER, accelerator="tpu-v6e-8:spot"))
        up(run)
        has_image = False
        cluster.preempt(pod_of(cluster))
        ended = run.end()
    assert ended.reason.startswith("it cannot start: the pod was preempted: Google took its Spot")
    assert "the registry does not have it; was it deleted?" in ended.reason


def test_a_used_up_quota_of_the_namespace_is_named(cluster, launcher):
    cluster.admission.webhooks.append(
        lambda plural, item: (
            'pods "train" is forbidden: exceeded quota: team-a, requested: pods=1, used: pods=5, '
            "limited: pods=5"
            if plural == "pods"
            else None
        )
    )
    run = launch(launcher, a_request(""))
    seen = run.until(Phase.PENDING, reason="resource quota 'team-a' of the namespace is used up")
    assert "used: pods=5, limited: pods=5" in seen.reason


def test_a_hopeless_wait_is_given_up_early(tmp_path):
    async def refuse(image: str) -> None:
        raise ImagePullFailure("manifest unknown")

    settings = LauncherSettings(timeouts=Timeouts(hopeless_timeout_seconds=0.5))
    with LoopbackCluster(tmp_path, pull_image=refuse) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        with a_launcher(cluster, settings) as launcher:
            ended = launch(launcher, a_request("")).end()
    assert ended.phase is Phase.FAILED
    assert ended.reason.startswith("it cannot start: the node cannot pull")


def test_a_missing_service_account_is_named(cluster, launcher):
    request = a_request("", variables={"service_account_name": "trainer"})
    run = launch(launcher, request)
    run.until(Phase.PENDING, reason="there is no service account 'trainer' in the namespace")


def test_a_run_that_waits_in_a_queue_names_it(cluster, launcher):
    template = base_job_template()
    template["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    queued = replace(a_request("", variables={"queue_name": "team-a"}), template=template)
    run = launch(launcher, queued)
    run.until(Phase.PENDING, reason="queue 'team-a' has not admitted the Job yet")


# Refusals


def test_a_missing_permission_names_the_person_and_the_verb(cluster, launcher):
    cluster.access.denials.append(Denial(resource="jobs", verb="create"))
    with pytest.raises(LaunchError, match=r"tester@example\.com may not create jobs\.batch"):
        launcher.start(a_request(""))
    assert not cluster.list("secrets"), "its Secret was taken away again"


def test_a_missing_namespace_is_named_with_the_command_that_creates_it(cluster):
    with (
        a_launcher(cluster, LauncherSettings(namespace="research")) as launcher,
        pytest.raises(LaunchError, match="the cluster has no namespace 'research'") as caught,
    ):
        launcher.start(a_request(""))
    assert caught.value.hint == "create it with `kubectl create namespace research`"


def test_an_admission_webhook_is_named(cluster, launcher):
    cluster.admission.webhooks.append(
        lambda plural, item: (
            'admission webhook "policy.example" denied the request: no team label'
            if plural == "jobs"
            else None
        )
    )
    with pytest.raises(LaunchError, match=r"'policy\.example' refuses to create the Job: no team"):
        launcher.start(a_request(""))


def test_a_watch_that_is_forbidden_is_an_error_not_a_gone_run(cluster, launcher):
    launcher.start(request := a_request(""))
    cluster.access.denials.append(Denial(resource="pods", verb="list"))
    with pytest.raises(LaunchError, match="cannot list resource"):
        launcher.observe(request.run_id)


def test_events_that_may_not_be_read_only_take_explanations_away(cluster, launcher):
    cluster.access.denials.append(Denial(resource="events"))
    run = launch(launcher, a_request("print('fine')"))
    assert run.end().phase is Phase.SUCCEEDED


def test_output_that_may_not_be_read_is_missing_and_nothing_else(cluster, launcher):
    cluster.access.denials.append(Denial(resource="pods/log"))
    run = launch(launcher, a_request("print('unseen')"))
    assert run.end(seconds=8).phase is Phase.SUCCEEDED
    assert run.output == b""


def test_a_kubeconfig_that_cannot_be_read_is_named(tmp_path):
    missing = tmp_path / "nowhere"
    client = KubernetesClient(Kubeconfig(path=str(missing)))
    with pytest.raises(ConfigurationError, match=str(missing)):
        client.ask("GET", "/version")
    client.close()


# Stopping


def test_a_stopped_run_is_asked_first_and_has_gone_when_stop_returns(cluster, launcher):
    run = launch(launcher, a_request(OBEY_SIGTERM))
    up(run)
    launcher.stop(run.run_id, 10)
    assert run.look().phase is Phase.GONE
    assert run.output == b"up\nasked to stop\n"
    assert not cluster.list("pods")
    assert not cluster.list("secrets")


def test_a_run_that_does_not_obey_is_killed_when_its_grace_is_over(cluster, launcher):
    run = launch(launcher, a_request(IGNORE_SIGTERM, variables={"termination_grace_seconds": 1}))
    up(run)
    launcher.stop(run.run_id, 1)
    assert run.look().phase is Phase.GONE
    assert not cluster.list("pods")


def test_stopping_a_run_that_waits_for_a_node_ends_it_at_once(cluster, launcher):
    run = launch(launcher, a_request("", accelerator="tpu-v6e-8"))
    run.until(Phase.PENDING, reason="no node pool")
    launcher.stop(run.run_id, 10)
    assert run.look().phase is Phase.GONE


def test_stopping_a_run_that_has_ended_keeps_its_job(cluster, launcher):
    run = launch(launcher, a_request("print('done')"))
    run.end()
    launcher.stop(run.run_id, 10)
    assert run.look().phase is Phase.SUCCEEDED
    assert len(cluster.list("jobs")) == 1


# Watching


def test_many_runs_share_one_list_and_one_watch_of_each_kind(cluster, launcher):
    def run_one(number: int) -> bytes:
        run = launch(launcher, a_request(f"print({number})"))
        assert run.end(120).phase is Phase.SUCCEEDED
        return run.output

    with ThreadPoolExecutor(24) as pool:
        outputs = list(pool.map(run_one, range(24)))
    assert outputs == [f"{number}\n".encode() for number in range(24)]
    asked = [request for request in cluster.requests if request.startswith("GET")]
    collections = [request for request in asked if not request.split("?")[0].endswith("/log")]
    assert len(collections) == 6, collections


def test_another_client_sees_the_same_end_and_output(cluster, launcher):
    run = launch(launcher, a_request("print('told twice'); raise SystemExit(44)"))
    ended = run.end()
    with a_launcher(cluster) as other:
        again = Launched(launcher=other, run_id=run.run_id)
        assert again.end().reason == ended.reason
        assert again.output == b"told twice\n"


def test_a_run_nobody_made_is_gone(launcher):
    seen = launcher.observe("00000000-0000-4000-8000-000000000000")
    assert seen.phase is Phase.GONE
    assert "no Job of this run" in seen.reason


def test_a_run_that_prints_without_end_does_not_fill_the_clients_memory(launcher):
    source = "import sys\nfor _ in range(60): sys.stdout.write('x' * 99_999 + '\\n')"
    run = launch(launcher, a_request(source))
    run.until(Phase.SUCCEEDED)
    total = sum(len(seen.output) for seen in run.seen)
    assert 0 < total <= 6_000_000
    assert run.position == 6_000_000
    again = launcher.observe(run.run_id)
    assert len(again.output) <= 65_536
    assert again.output.endswith(b"xxx\n")


def test_launchers_may_be_used_from_many_threads_from_the_first_call_on(cluster):
    with a_launcher(cluster) as launcher:
        barrier = threading.Barrier(8)

        def look(_: int) -> Phase:
            barrier.wait()
            return launcher.observe("00000000-0000-4000-8000-000000000000").phase

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(look, range(8))) == {Phase.GONE}
    lists = [request for request in cluster.requests if "watch" not in request]
    assert len(lists) == 3
