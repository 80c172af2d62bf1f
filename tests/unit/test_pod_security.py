"""What containers may do on their nodes, judged as a namespace's Pod Security admission does."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core import pod_security
from kinetic_flows.core.accelerators import list_accelerators, parse_accelerator
from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.image_reference import CUSTOM
from kinetic_flows.core.image_registry import ImageConfig, ResolvedImage
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.core.settings.pool_variables import (
    check_job_variables,
    merged,
    template_defaults,
)
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.platforms.gke.job_variables import job_variables_of
from kinetic_flows.platforms.gke.manifests import base_job_template, container_security
from loopback.kubernetes import pod_security as admission

CLOUD = resolve_cloud(arguments={"project": "my-project"}, environ={}, profile=None)


def image(user: str = "") -> ResolvedImage:
    config = ImageConfig(
        platform="linux/amd64",
        environment={},
        entrypoint=(),
        user=user,
        working_directory="",
        size_bytes=1,
    )
    return ResolvedImage(reference="r/i@sha256:1", digest="sha256:1", labels={}, config=config)


def pod_of(accelerator: str, mode: ImageMode, user: str = "", **variables: Any) -> dict[str, Any]:
    """Return the pod of a run, as the work pool's template makes it."""
    run_id = str(uuid.uuid4())
    request = JobRequest(
        run_id=run_id,
        name="train",
        image=image(user),
        accelerator=parse_accelerator(accelerator),
        mode=mode,
        options=RunOptions().updated({"job_variables": variables} if variables else {}),
    )
    template, wanted = base_job_template(), job_variables_of(request, CLOUD)
    job = render_job(template, wanted, run_id=run_id, name="train")
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    return pod


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    return dict(container)


@pytest.mark.parametrize("mode", ["bundled", "prebuilt"])
@pytest.mark.parametrize("accelerator", ["cpu", "l4", "h100x8"])
def test_a_built_image_runs_where_only_restricted_pods_are_taken(mode, accelerator):
    pod = pod_of(accelerator, mode)
    assert admission.violations("restricted", pod) == ""
    context = container_of(pod)["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["runAsUser"] == 1000


def test_a_tpu_run_is_roots_without_any_capability_until_somebody_says_another_user():
    pod = pod_of("tpu-v6e-8", "bundled")
    context = container_of(pod)["securityContext"]
    assert context["runAsUser"] == 0
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"]
    assert admission.violations("baseline", pod) == ""
    assert "runAsNonRoot != true" in admission.violations("restricted", pod)
    asked = pod_of("tpu-v6e-8", "bundled", security_context="restricted")
    assert admission.violations("restricted", asked) == ""


@pytest.mark.parametrize(
    ("user", "fulfils"),
    [
        *((name, False) for name in ("", "root", "0", "0:0", "app")),
        *((name, True) for name in ("65534", "1000:1000")),
    ],
)
def test_an_image_of_ones_own_loses_nothing_it_may_need(user, fulfils):
    pod = pod_of("cpu", CUSTOM, user)
    context = container_of(pod)["securityContext"]
    assert (admission.violations("restricted", pod) == "") is fulfils
    assert "runAsUser" not in context, "the image says who it runs as"
    assert not context.get("readOnlyRootFilesystem")
    if not fulfils:
        assert context == {}


def test_whoever_needs_root_in_a_built_image_says_so_and_gets_just_what_the_image_says():
    assert container_of(pod_of("cpu", "bundled", security_context="image"))["securityContext"] == {}
    own = {"runAsUser": 7, "runAsNonRoot": True}
    assert container_of(pod_of("cpu", "bundled", security_context=own))["securityContext"] == own


def test_home_and_temporary_files_have_a_place_where_the_root_is_read_only():
    container = container_of(pod_of("cpu", "bundled"))
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert {variables["HOME"], "/tmp", "/dev/shm"} <= mounts
    # A user that the image does not know has no name that a program could look up.
    assert variables["USER"]
    own = {each["name"] for each in container_of(pod_of("cpu", CUSTOM))["env"]}
    assert not own & {"HOME", "USER"}


def test_the_work_pools_default_is_what_restricted_means():
    defaults = template_defaults(base_job_template())
    assert defaults["security_context"] == pod_security.RESTRICTED


def test_every_accelerator_has_pods_that_baseline_takes():
    for accelerator in list_accelerators():
        context = pod_security.of_built_image(accelerator.category) or pod_security.RESTRICTED
        assert pod_security.violations("baseline", context) == []


contexts = st.fixed_dictionaries(
    {},
    optional={
        "allowPrivilegeEscalation": st.booleans(),
        "privileged": st.booleans(),
        "runAsNonRoot": st.booleans(),
        "runAsUser": st.sampled_from([0, 1, 1000]),
        "readOnlyRootFilesystem": st.booleans(),
        "capabilities": st.fixed_dictionaries(
            {}, optional={"drop": st.lists(st.sampled_from(["ALL", "NET_RAW"]), max_size=2)}
        ),
        "seccompProfile": st.fixed_dictionaries(
            {"type": st.sampled_from(["RuntimeDefault", "Localhost"])}
        ),
    },
)


@given(level=st.sampled_from(["privileged", "baseline", "restricted"]), context=contexts)
def test_what_is_said_before_a_launch_is_what_admission_says(level, context):
    pod = {"containers": [{"name": "prefect-job", "securityContext": context}]}
    said = pod_security.violations(level, context)
    assert bool(said) is bool(admission.violations(level, pod)), said


def test_a_later_layers_context_replaces_an_earlier_one():
    team = check_job_variables({"security_context": "restricted"}, "job_variables")
    function = check_job_variables({"security_context": "image"}, "job_variables")
    assert merged(team, function) == {"security_context": {}}
    assert merged(function, team)["security_context"] == pod_security.RESTRICTED


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("root", "'restricted' or 'image'"),
        (7, "'restricted' or 'image'"),
        ({"runAsUsr": 0}, "runAsUser"),
    ],
)
def test_a_context_that_cannot_be_says_what_can(value, words):
    with pytest.raises(ConfigurationError) as caught:
        check_job_variables({"security_context": value}, "job_variables")
    assert words in (caught.value.hint or "")


def test_a_template_of_an_administrator_counts_as_it_is():
    template = base_job_template()
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["securityContext"] = {"runAsNonRoot": True}
    pod["containers"][0]["securityContext"] = {"allowPrivilegeEscalation": False}
    found = container_security(template, {"security_context": {"privileged": True}})
    assert found == {"runAsNonRoot": True, "allowPrivilegeEscalation": False}
    assert container_security({"job_configuration": {}}, {}) == {}


def test_what_is_a_pods_alone_is_tried_on_no_container():
    variables = {"pod_security_context": {"fsGroup": 2000, "runAsUser": 2000}}
    assert container_security(base_job_template(), variables) == {"runAsUser": 2000}
