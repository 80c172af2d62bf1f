"""What a run's pods ask for so that they have their data and volumes."""

from __future__ import annotations

import copy
from typing import Any

import kubernetes_validate
import pytest

from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.image_registry import ImageConfig, ResolvedImage
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.core.launcher import LaunchRequest
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.core.volumes import parse_volumes
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.platforms.gke.handover import launch_variables
from kinetic_flows.platforms.gke.job_variables import asked_of_node, job_variables_of
from kinetic_flows.platforms.gke.launch_needs import launch_needs
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.templates import template_changes, with_kept_defaults
from kinetic_flows.platforms.gke.volumes import (
    check_volumes,
    mounted_places,
    volume_obstacle,
    volume_slots,
    volumes_of_pod,
)

RUN = "11111111-2222-4333-8444-555555555555"
GIGABYTE = 10**9


def mounted(path: str = "c4/en", **changes: Any) -> DataSpec:
    given: dict[str, Any] = {
        "kind": "bucket",
        "identity": "1" * 64,
        "source": f"gs://corpus/{path}",
        "name": path.rpartition("/")[2],
        "mode": "mount",
        "place": {"bucket": "corpus", "path": path},
    }
    return DataSpec(**{**given, **changes})


def copied(size_bytes: int | None = None, **changes: Any) -> DataSpec:
    return mounted(mode="copy", size_bytes=size_bytes, **changes)


def request(accelerator: str = "cpu", **changes: Any) -> JobRequest:
    image = f"r.example/app@sha256:{'0' * 64}"
    given: dict[str, Any] = {
        "run_id": RUN,
        "name": "train",
        "image": ResolvedImage(reference=image, digest="", labels={}),
        "accelerator": parse_accelerator(accelerator),
        "mode": "bundled",
        "options": RunOptions(),
    }
    return JobRequest(**{**given, **changes})


def variables(asked: JobRequest) -> dict[str, Any]:
    cloud = resolve_cloud(arguments={"project": "my-project"}, environ={}, profile=None)
    assert cloud is not None
    return job_variables_of(asked, cloud)


def job_of(asked: JobRequest) -> dict[str, Any]:
    """Return the Job of a run, checked strictly."""
    template = asked.template or base_job_template()
    job = render_job(template, variables(asked), run_id=RUN, name="train")
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(copy.deepcopy(job), version, strict=True)
    return job


PLAIN_REQUESTS = {"cpu": "250m", "memory": "1Gi"}
"""What every pod without an accelerator asks for."""


def pod_of(asked: JobRequest) -> dict[str, Any]:
    pod: dict[str, Any] = job_of(asked)["spec"]["template"]["spec"]
    return pod


def further(pod: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return a pod's volumes besides the three that every pod has, each with its mount."""
    (container,) = pod["containers"]
    volumes, mounts = pod["volumes"][3:], container["volumeMounts"][3:]
    assert [each.pop("name") for each in volumes] == [each.pop("name") for each in mounts]
    return list(zip(volumes, mounts, strict=True))


def test_cloud_storage_is_mounted_read_only_for_the_user_whom_the_container_runs_as():
    asked = request(data=(mounted(),), volumes=(VolumeSpec(path="/c4", kind="data", data=0),))
    job = job_of(asked)
    assert further(job["spec"]["template"]["spec"]) == [
        (
            {
                "csi": {
                    "driver": "gcsfuse.csi.storage.gke.io",
                    "readOnly": True,
                    "volumeAttributes": {
                        "bucketName": "corpus",
                        "mountOptions": "implicit-dirs,only-dir=c4/en,uid=1000,gid=1000",
                    },
                }
            },
            {"mountPath": "/c4", "readOnly": True},
        )
    ]
    annotations = job["spec"]["template"]["metadata"]["annotations"]
    assert annotations["gke-gcsfuse/volumes"] == "true"
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_a_mounted_argument_has_a_place_of_its_own_on_every_host():
    asked = request("tpu-v5p-2x2x2", data=(copied(), mounted()))
    assert further(pod_of(asked))[0][1] == {"mountPath": "/kinetic/data/1", "readOnly": True}


def test_what_may_be_written_to_is_mounted_so():
    volume = VolumeSpec(path="/out", kind="data", data=0, read_only=False)
    ((found, mount),) = further(pod_of(request(data=(mounted(),), volumes=(volume,))))
    assert (found["csi"]["readOnly"], "readOnly" in mount) == (False, False)


@pytest.mark.parametrize(
    ("accelerator", "options"),
    [
        ("cpu", "uid=1000,gid=1000"),
        # TPU pods run as root, without any capability: what is another user's they cannot write to.
        ("tpu-v6e-8", ""),
    ],
)
def test_mounted_files_are_the_users_whom_the_container_runs_as(accelerator: str, options: str):
    asked = request(accelerator, data=(mounted(""),))
    ((found, _),) = further(pod_of(asked))
    expected = ",".join(filter(None, ("implicit-dirs", options)))
    assert found["csi"]["volumeAttributes"]["mountOptions"] == expected


@pytest.mark.parametrize(
    ("user", "options"),
    [
        ("4711:4711", "uid=4711,gid=4711"),
        ("", ""),
        ("somebody", "file-mode=666,dir-mode=777"),
    ],
)
def test_in_an_image_of_ones_own_they_are_its_users(user: str, options: str):
    config = ImageConfig(
        platform="linux/amd64",
        environment={},
        entrypoint=(),
        user=user,
        working_directory="",
        size_bytes=1,
    )
    image = ResolvedImage(
        reference=f"r.example/own@sha256:{'0' * 64}", digest="", labels={}, config=config
    )
    asked = request(data=(mounted(""),), mode="custom", image=image)
    ((found, _),) = further(pod_of(asked))
    expected = ",".join(filter(None, ("implicit-dirs", options)))
    assert found["csi"]["volumeAttributes"]["mountOptions"] == expected


def test_the_user_that_somebody_says_wins():
    options = RunOptions().updated({"job_variables": {"security_context": {"runAsUser": 2000}}})
    ((found, _),) = further(pod_of(request(data=(mounted(""),), options=options)))
    assert "uid=2000" in found["csi"]["volumeAttributes"]["mountOptions"]


def test_a_file_is_found_in_the_directory_that_is_mounted():
    spec = mounted("models/bert.bin", is_file=True)
    (placed,) = mounted_places((spec,), ())
    assert placed.path == "/kinetic/data/0/bert.bin"
    ((found, _),) = further(pod_of(request(data=(placed,))))
    assert "only-dir=models," in found["csi"]["volumeAttributes"]["mountOptions"]


def test_data_that_is_mounted_is_where_its_volume_is():
    data = (copied(), mounted(), mounted())
    placed = mounted_places(data, (VolumeSpec(path="/c4", kind="data", data=2),))
    assert [spec.path for spec in placed] == [None, "/kinetic/data/1", "/c4"]


@pytest.mark.parametrize("read_only", [True, False])
def test_a_claim_is_mounted_with_its_directory(read_only: bool):
    volume = VolumeSpec(
        path="/d", kind="claim", claim="datasets", sub_path="c4", read_only=read_only
    )
    pod = pod_of(request(volumes=(volume,)))
    ((found, mount),) = further(pod)
    assert found["persistentVolumeClaim"]["claimName"] == "datasets"
    assert mount["subPath"] == "c4"
    said = (found["persistentVolumeClaim"].get("readOnly"), mount.get("readOnly"))
    assert said == ((True, True) if read_only else (None, None))
    # Disks are root's, unless they are given to a group that the pod has.
    assert (pod.get("securityContext") is None) == read_only


def test_a_small_scratch_disk_is_of_the_node_and_its_room_is_asked_for():
    volume = VolumeSpec(path="/scratch", kind="scratch", size="20Gi", read_only=False)
    pod = pod_of(request(volumes=(volume,)))
    assert further(pod) == [({"emptyDir": {"sizeLimit": "20Gi"}}, {"mountPath": "/scratch"})]
    resources = pod["containers"][0]["resources"]
    assert resources == {
        "requests": {"ephemeral-storage": "20480Mi", **PLAIN_REQUESTS},
        "limits": {},
    }
    assert "securityContext" not in pod


def test_a_large_scratch_disk_is_one_of_its_own_that_goes_with_the_pod():
    volume = VolumeSpec(path="/scratch", kind="scratch", size="500Gi", read_only=False)
    pod = pod_of(request(volumes=(volume,)))
    ((found, _),) = further(pod)
    claim = found["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert claim["resources"] == {"requests": {"storage": "500Gi"}}
    assert pod["securityContext"] == {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"}
    assert "ephemeral-storage" not in str(pod["containers"][0].get("resources"))


def test_the_user_that_the_work_pool_says_has_mounted_files():
    template = base_job_template()
    template["variables"]["properties"]["security_context"]["default"] = {"runAsUser": 3000}
    ((found, _),) = further(pod_of(request(data=(mounted(""),), template=template)))
    assert "uid=3000" in found["csi"]["volumeAttributes"]["mountOptions"]


def test_the_group_of_disks_that_the_work_pool_says_stays():
    template = base_job_template()
    context = template["variables"]["properties"]["pod_security_context"]
    context["default"] = {"fsGroup": 3000}
    volume = VolumeSpec(path="/d", kind="claim", claim="datasets", read_only=False)
    pod = pod_of(request(volumes=(volume,), template=template))
    assert pod["securityContext"] == {"fsGroup": 3000}


def test_the_group_of_disks_that_somebody_says_wins():
    options = RunOptions().updated({"job_variables": {"pod_security_context": {"fsGroup": 2000}}})
    volume = VolumeSpec(path="/d", kind="claim", claim="datasets", read_only=False)
    pod = pod_of(request(volumes=(volume,), options=options))
    assert pod["securityContext"] == {"fsGroup": 2000}


def test_a_copy_is_brought_into_an_empty_directory_of_the_node():
    spec = copied(GIGABYTE, files=1000)
    asked = request(data=(spec,), volumes=(VolumeSpec(path="/c4", kind="data", data=0),))
    pod = pod_of(asked)
    assert further(pod) == [({"emptyDir": {}}, {"mountPath": "/c4"})]
    assert pod["containers"][0]["resources"]["requests"] == {
        "ephemeral-storage": "959Mi",
        **PLAIN_REQUESTS,
    }


def test_copies_of_tiny_files_in_memory_have_room_for_the_list_of_them():
    spec = copied(40_000_000, files=1_000_000, in_memory=True)
    asked = request(data=(spec,), volumes=(VolumeSpec(path="/c4", kind="data", data=0),))
    ((found, _),) = further(pod_of(asked))
    room = int(found["emptyDir"]["sizeLimit"].removesuffix("Mi")) << 20
    # Each takes a page, and the listing of a bucket has about a quarter of a kilobyte of it.
    assert room > 1_000_000 * (4096 + 256)


def test_a_copy_in_memory_is_bounded_and_counts_as_memory():
    options = RunOptions().updated({"job_variables": {"memory": "16Gi"}})
    spec = copied(1 << 30, files=1, in_memory=True)
    asked = request(
        data=(spec,), volumes=(VolumeSpec(path="/c4", kind="data", data=0),), options=options
    )
    pod = pod_of(asked)
    ((found, _),) = further(pod)
    assert found == {"emptyDir": {"medium": "Memory", "sizeLimit": "1025Mi"}}
    limit = {"memory": "17409Mi"}
    requests = {"cpu": "250m", **limit}
    assert pod["containers"][0]["resources"] == {"requests": requests, "limits": limit}
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == "2Gi"


def test_an_argument_in_memory_makes_shared_memory_larger():
    pod = pod_of(request(data=(copied(1 << 30, files=1, in_memory=True),)))
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == "3073Mi"


def test_what_somebody_says_of_the_disk_is_what_the_function_needs():
    options = RunOptions().updated({"job_variables": {"ephemeral_storage": "10Gi"}})
    asked = request(data=(copied(1 << 30, files=1),), options=options)
    assert variables(asked)["ephemeral_storage"] == "11265Mi"


@pytest.mark.parametrize("said", [{}, {"ephemeral_storage": "20Gi"}])
def test_a_request_that_somebody_says_is_what_the_function_needs(said: dict[str, str]):
    chosen = {"ephemeral_storage_request": "10Gi", **said}
    options = RunOptions().updated({"job_variables": chosen})
    found = variables(request(data=(copied(1 << 30, files=1),), options=options))
    assert found["ephemeral_storage_request"] == "11265Mi"
    assert found.get("ephemeral_storage") == ("21505Mi" if said else None)
    asked = asked_of_node(parse_accelerator("cpu"), found, base_job_template())
    assert asked["ephemeral-storage"] == "11265Mi"


def test_a_default_of_the_work_pool_is_what_the_function_needs():
    template = base_job_template()
    template["variables"]["properties"]["ephemeral_storage"]["default"] = "10Gi"
    template["variables"]["properties"]["shared_memory"]["default"] = "4Gi"
    data = (copied(1 << 30, files=1), copied(1 << 30, files=1, in_memory=True))
    found = variables(request(data=data, template=template))
    assert (found["ephemeral_storage"], found["shared_memory"]) == ("11265Mi", "5121Mi")
    assert "ephemeral_storage_request" not in found


def test_a_plan_says_what_volumes_add_to_what_is_asked_of_a_node():
    volume = VolumeSpec(path="/scratch", kind="scratch", size="10Gi", read_only=False)
    template = base_job_template()
    found = variables(request(volumes=(volume,), template=template))
    asked = asked_of_node(parse_accelerator("cpu"), found, template)
    assert asked["ephemeral-storage"] == "10240Mi"


def test_a_run_without_volumes_asks_for_what_it_asked_for_before():
    found = variables(request())
    assert not [name for name in found if "volume" in name or "storage" in name]
    assert "pod_security_context" not in found


def test_a_volume_that_an_administrator_gave_every_run_stays():
    template = base_job_template()
    properties = template["variables"]["properties"]
    cache = {"name": "cache", "hostPath": {"path": "/mnt/cache"}}
    properties["volume_1"]["default"] = cache
    properties["volume_mount_1"]["default"] = {"name": "cache", "mountPath": "/cache"}
    asked = request(volumes=(VolumeSpec(path="/d", kind="claim", claim="c"),), template=template)
    pod = pod_of(asked)
    assert [each["name"] for each in pod["volumes"][3:]] == ["cache", "volume-2"]


def test_what_an_administrator_annotates_stays():
    template = base_job_template()
    template["variables"]["properties"]["annotations"]["default"] = {"example.com/team": "vision"}
    asked = request(data=(mounted(),), template=template)
    launch = LaunchRequest(
        run_id=RUN,
        name="train",
        image=asked.image,
        environment={},
        job_variables=variables(asked),
        template=template,
    )
    found = launch_variables(launch, "train", "default")["annotations"]
    assert found == {"example.com/team": "vision", "gke-gcsfuse/volumes": "true"}


def test_more_volumes_than_there_are_places_for_are_refused():
    volumes = tuple(VolumeSpec(path=f"/d{n}", kind="claim", claim="c") for n in range(9))
    with pytest.raises(UsageError, match="the run has 9 volumes"):
        variables(request(volumes=volumes))


def test_a_template_of_an_earlier_version_is_named_with_what_brings_it_up_to_date():
    template = base_job_template()
    assert volume_obstacle(8, template) == ""
    for name in ("volume_2", "volume_mount_2"):
        del template["variables"]["properties"][name]
    assert volume_obstacle(1, template) == ""
    said = volume_obstacle(2, template)
    assert "lacks volume_2, volume_mount_2" in said
    assert "`kinetic pool create`" in said
    assert "9 volumes" in volume_obstacle(9, base_job_template())


def test_every_place_for_a_volume_stands_in_the_template_once():
    manifest = base_job_template()["job_configuration"]["job_manifest"]
    pod = manifest["spec"]["template"]["spec"]
    for volume, mount in volume_slots():
        assert pod["volumes"].count(f"{{{{ {volume} }}}}") == 1
        assert pod["containers"][0]["volumeMounts"].count(f"{{{{ {mount} }}}}") == 1


def test_places_for_volumes_are_not_for_job_variables():
    with pytest.raises(ConfigurationError, match="say volumes="):
        check_job_variables({"volume_1": {"emptyDir": {}}}, "job_variables")
    with pytest.raises(ConfigurationError, match="fsGroup"):
        check_job_variables({"pod_security_context": {"fsGrup": 1}}, "job_variables")


def test_more_volumes_than_any_pod_can_have_are_refused_before_anything_is_asked():
    nine = parse_volumes("volumes", {f"/d{n}": "pvc:claim" for n in range(9)})
    with pytest.raises(UsageError, match="the run has 9 volumes"):
        check_volumes(nine)


def test_arguments_that_are_mounted_are_volumes_of_the_pod():
    options = RunOptions().updated({"volumes": {"/s": "scratch:1Gi"}})
    data = (Data("gs://bucket/x"), Data("gs://bucket/y", mode="mount", read_only=False))
    found = volumes_of_pod(options, data)
    assert [(each.path, each.read_only) for each in found] == [
        ("/s", False),
        ("/kinetic/data/1", False),
    ]
    assert volumes_of_pod(RunOptions(), ()) == ()


def test_a_launch_needs_its_volumes_and_a_template_with_places_for_them():
    asked = volumes_of_pod(RunOptions().updated({"volumes": {"/s": "scratch:1Gi"}}), ())
    template = base_job_template()
    cpu = parse_accelerator("cpu")
    assert launch_needs(cpu, "bundled", {}, template, None, volumes=asked).no_volumes == ""
    del template["variables"]["properties"]["volume_1"]
    needs = launch_needs(cpu, "bundled", {}, template, None, volumes=asked)
    assert needs.volumes == asked
    assert "`kinetic pool create`" in needs.no_volumes
    assert launch_needs(cpu, "bundled", {}, template, None).no_volumes == ""


def test_the_work_pool_of_an_earlier_version_gets_places_for_volumes():
    earlier = base_job_template()
    for name in [*earlier["variables"]["properties"]]:
        if name.startswith("volume_"):
            del earlier["variables"]["properties"][name]
    pod = earlier["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["volumes"] = [each for each in pod["volumes"] if "{{ volume_" not in str(each)]
    changes = [*template_changes(earlier, base_job_template())]
    assert any("volumes[{{ volume_1 }}]: added" in line for line in changes)
    assert any("variables.properties.volume_mount_8: added" in line for line in changes)
    # What an administrator made every run's stays.
    earlier = base_job_template()
    earlier["variables"]["properties"]["volume_8"]["default"] = {"name": "cache"}
    kept = with_kept_defaults(base_job_template(), earlier)
    assert kept["variables"]["properties"]["volume_8"]["default"] == {"name": "cache"}
