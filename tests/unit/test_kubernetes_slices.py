"""Several slices and nodes as Jobs: what each is given, and what all of them together say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.candidates import Launch
from kinetic_flows.core.errors import AcceleratorError, LaunchError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.launcher import LaunchRequest, Phase
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.plans.look_ahead import check_worker
from kinetic_flows.platforms.base import Platform
from kinetic_flows.platforms.gke import names
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.phase import PodStatus
from kinetic_flows.platforms.gke.platform import GoogleCloudPlatform
from kinetic_flows.platforms.gke.quota import check_quota
from kinetic_flows.platforms.gke.slices import parts_of, placed_apart, slices_obstacle, whole
from kinetic_flows.platforms.gke.state import NamespaceState
from kinetic_flows.platforms.local.platform import LocalPlatform

RUN_ID = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"
SLICES = parse_accelerator("tpu-v5p-2x2x2").times(slices=2)
LAUNCH = Launch(round=1, candidate=2)


def a_launch(launch: Launch | None = None) -> LaunchRequest:
    pod = PodRequest(run_id="", name="train", image="image", accelerator=SLICES, max_preemptions=2)
    zone = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": "somewhere"}}
    return LaunchRequest(
        run_id=RUN_ID,
        name="train",
        image=ResolvedImage(reference="image", digest="sha256:0", labels={}),
        environment={"KINETIC_JOB": "gs://b/job.json"},
        job_variables={**job_variables(pod), "affinity": zone},
        launch=launch,
    )


# What is launched


def test_a_slices_job_has_the_slices_hosts():
    variables = a_launch().job_variables
    assert variables["env"]["KINETIC_SLICES"] == "2"
    assert (variables["hosts"], variables["completion_mode"]) == (2, "Indexed")
    assert variables["backoff_limit"] == 4, "each host may be disturbed as often as the run"
    assert variables["tpu_chips"] == 4


def test_each_slice_is_told_of_itself_and_of_all():
    first, second = parts_of(a_launch())
    assert (first.key, second.key) == (f"{RUN_ID}-s0", f"{RUN_ID}-s1")
    coordinator = f"train-{RUN_ID}-s0-0.kinetic-hosts"
    assert second.environment == {
        "KINETIC_JOB": "gs://b/job.json",
        "KINETIC_HOSTS": "4",
        "KINETIC_HOSTNAMES": ",".join(
            f"train-{RUN_ID}-s{number}-{index}.kinetic-hosts"
            for number in (0, 1)
            for index in (0, 1)
        ),
        "KINETIC_COORDINATOR_ADDRESS": f"{coordinator}:8476",
        "KINETIC_SLICE": "1",
        "MEGASCALE_COORDINATOR_ADDRESS": coordinator,
        "MEGASCALE_PORT": "8080",
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": "1",
    }
    assert first.environment["MEGASCALE_SLICE_ID"] == "0"


def test_a_slice_is_placed_besides_what_the_run_asks_for():
    second = parts_of(a_launch())[1]
    assert second.job_variables["affinity"] == {
        **a_launch().job_variables["affinity"],
        **placed_apart(f"{RUN_ID}-s1"),
    }


def test_a_slice_is_placed_besides_what_the_work_pool_asks_for():
    zone = a_launch().job_variables["affinity"]
    template = base_job_template()
    template["variables"]["properties"]["affinity"]["default"] = zone
    launch = a_launch()
    variables = {name: value for name, value in launch.job_variables.items() if name != "affinity"}
    second = parts_of(replace(launch, job_variables=variables, template=template))[1]
    assert second.job_variables["affinity"] == {**zone, **placed_apart(f"{RUN_ID}-s1")}


def test_a_slices_pods_are_together_and_apart_from_others():
    affinity = placed_apart("run-s1")
    label, pool = "kinetic-flows/slice", "cloud.google.com/gke-nodepool"
    [together] = affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [apart] = affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert together["topologyKey"] == apart["topologyKey"] == pool
    assert together["labelSelector"]["matchExpressions"] == [
        {"key": label, "operator": "In", "values": ["run-s1"]}
    ]
    assert apart["labelSelector"]["matchExpressions"] == [
        {"key": label, "operator": "Exists"},
        {"key": label, "operator": "NotIn", "values": ["run-s1"]},
    ]


def test_slices_of_a_launch_of_a_list_have_its_key():
    assert [part.key for part in parts_of(a_launch(LAUNCH))] == [
        f"{RUN_ID}-r1c2-s0",
        f"{RUN_ID}-r1c2-s1",
    ]


def test_labels_of_slices_are_short_enough():
    longest = f"{Launch(round=999, candidate=19).key(RUN_ID)}-s99"
    assert len(longest) <= 63
    assert len(f"{names.kubernetes_job_name('a' * 60, longest)}-99") <= 63


def test_slices_of_one_host_are_refused():
    with pytest.raises(AcceleratorError, match="slices=2 joins slices of several hosts") as refusal:
        parse_accelerator("tpu-v6e-8").times(slices=2)
    assert "name a larger slice" in str(refusal.value)


def test_a_template_without_a_place_for_an_affinity_is_refused():
    template = base_job_template()
    assert slices_obstacle(SLICES, template) == ""
    del template["variables"]["properties"]["affinity"]
    assert "no variable affinity, which places the 2 slices" in slices_obstacle(SLICES, template)
    assert slices_obstacle(parse_accelerator("tpu-v5p-2x2x2"), template) == ""


def test_a_quota_counts_the_job_of_each_slice():
    hard = {"count/jobs.batch": "1", "requests.google.com/tpu": "16"}
    quota = {"metadata": {"name": "team"}, "status": {"hard": hard, "used": {}}}
    problems, _ = check_quota(quota, SLICES)
    [problem] = problems
    assert "allows 1 count/jobs.batch, and tpu-v5p-2x2x2 needs 2" in problem


@pytest.fixture(params=["local", "gke"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Platform:
    if request.param == "local":
        return LocalPlatform(tmp_path, {}, is_explicit=True)
    cloud = resolve_cloud(arguments={}, environ={"KINETIC_PROJECT": "my-project-1"}, profile=None)
    return GoogleCloudPlatform(cloud, {"KUBECONFIG": "/nowhere"}, tmp_path)


def test_a_worker_starts_one_job_or_process_alone(platform: Platform):
    two = parse_accelerator("cpu").times(hosts=2) if platform.name == "local" else SLICES
    told = "hosts=2 is a process" if platform.name == "local" else "slices=2 is a Job"
    with pytest.raises(LaunchError, match=told):
        check_worker(two, platform)
    check_worker(parse_accelerator("cpu"), platform)


# Names


@pytest.mark.parametrize("key", [RUN_ID, f"{RUN_ID}-s1", f"{RUN_ID}-r1c2", f"{RUN_ID}-r1c2-s11"])
def test_a_key_is_read_back_from_names(key):
    job = names.kubernetes_job_name("train", key)
    assert names.key_of_name(job, "Job") == key
    assert names.key_of_name(f"{job}-0-x2fk9", "Pod") == key
    assert names.key_of_name(f"{job}-keys", "Secret") == key


def test_random_characters_of_a_pods_name_are_no_slice():
    assert names.key_of_name(f"train-{RUN_ID}-s1234", "Pod") == RUN_ID


@pytest.mark.parametrize(
    ("key", "whole_key", "number"),
    [
        (RUN_ID, RUN_ID, 0),
        (f"{RUN_ID}-s1", RUN_ID, 1),
        (f"{RUN_ID}-r1c2", f"{RUN_ID}-r1c2", 0),
        (f"{RUN_ID}-r1c2-s11", f"{RUN_ID}-r1c2", 11),
    ],
)
def test_a_slices_key_says_what_it_is_a_part_of(key, whole_key, number):
    assert names.whole_key(key) == whole_key
    assert names.slice_number(key) == number


def a_job(key: str) -> dict[str, object]:
    labels = {"prefect.io/flow-run-id": RUN_ID, "kinetic-flows/slice": key}
    metadata = {"name": f"train-{key}", "uid": key, "labels": labels, "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {}, "status": {}}


def test_slices_are_known_as_long_as_they_are_there():
    state, whole_key = NamespaceState(), f"{RUN_ID}-r0c1"
    assert state.slices(whole_key) == (whole_key,)
    keys = tuple(f"{whole_key}-s{number}" for number in range(11))
    for key in reversed(keys):
        state.put("jobs", a_job(key))
    assert state.slices(whole_key) == keys, "by number, not as texts"
    assert state.launches(RUN_ID) == (whole_key,), "whoever drives the run knows of launches"
    for key in keys:
        state.remove("jobs", a_job(key))
    assert state.slices(whole_key) == (whole_key,)


# What they say together

RUNNING = PodStatus(phase=Phase.RUNNING)
PENDING = PodStatus(phase=Phase.PENDING, reason="no node: quota", message="no node")
DONE = PodStatus(phase=Phase.SUCCEEDED, exit_code=0)
FAILED = PodStatus(phase=Phase.FAILED, exit_code=45, reason="host 1 ended", message="host 1")
GONE = PodStatus(phase=Phase.GONE)


@pytest.mark.parametrize(
    ("statuses", "phase"),
    [
        ([RUNNING, FAILED], Phase.FAILED),
        ([DONE, FAILED], Phase.FAILED),
        ([PENDING, RUNNING], Phase.PENDING),
        ([RUNNING, DONE], Phase.RUNNING),
        ([DONE, DONE], Phase.SUCCEEDED),
        ([RUNNING, GONE], Phase.RUNNING),
        ([DONE, GONE], Phase.GONE),
    ],
)
def test_what_slices_say_together(statuses, phase):
    assert whole(statuses).phase is phase
    assert whole(statuses[::-1]).phase is phase


def test_it_is_said_which_slice_it_is():
    found = whole([RUNNING, FAILED])
    assert (found.reason, found.message, found.exit_code) == (
        "slice 1: host 1 ended",
        "slice 1: host 1",
        45,
    )
    assert whole([PENDING, RUNNING]).reason == "slice 0: no node: quota"


def test_a_run_on_one_slice_is_where_that_is():
    assert whole([FAILED]) is FAILED


def test_slices_have_nodes_when_all_have():
    placed = PodStatus(phase=Phase.PENDING, is_placed=True)
    assert whole([placed, RUNNING]).is_placed
    assert not whole([placed, PENDING]).is_placed
