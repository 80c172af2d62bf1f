"""Collects what other people's programs, stored objects and deployments name of this product.

Where a module lies is nobody's business: what can be found by looking through the whole product
is found so, and everything else is in the imports below.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import distribution
from importlib.resources import files
from importlib.resources.abc import Traversable
from pkgutil import walk_packages
from typing import Any, get_args

import yaml
from cyclopts import App
from prefect import Flow, Task
from prefect.blocks.core import Block

import kinetic_flows
from kinetic_flows.cli.commands import app
from kinetic_flows.clients.prefect import flow_names, labels
from kinetic_flows.clients.prefect.build_cache import (
    build_cache_block,
    build_cache_key,
    upload_cache_key,
)
from kinetic_flows.clients.prefect.store_key import store_key_block
from kinetic_flows.clients.prefect.work_pools import LOCAL_WORK_POOL
from kinetic_flows.code.call_names import SweepNames
from kinetic_flows.core import job, object_names, streams
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader, ResultStatus, seal_result
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.functions import flow_name
from kinetic_flows.core.job import JOB_VARIABLE, RUN_KEY_VARIABLE
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.core.settings.settings import (
    describe_settings,
    load_settings,
    resolve_settings,
)
from kinetic_flows.flows.steps import LINK_KEY
from kinetic_flows.images import tags
from kinetic_flows.platforms.gke import names
from kinetic_flows.platforms.gke.builds.docker_hub import (
    DOCKER_HUB_TOKEN_SECRET,
    DOCKER_HUB_USERNAME_SECRET,
)
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.runs import group
from public_api import error_classes, error_told, options, public_names, signature
from source_texts import calls, said, texts

DEPLOYMENTS = "kinetic_flows.deployments"
NAME = re.compile(r"(kinetic[./-]|org\.opencontainers\.|prefect\.io/)[A-Za-z0-9_./-]*[A-Za-z0-9]")
VARIABLE = re.compile(r"\bKINETIC_[A-Z][A-Z_]*[A-Z]\b")
ON_GKE = {"KINETIC_PLATFORM": "gke", "GOOGLE_CLOUD_PROJECT": "project"}
RUN, DIGEST, KEY = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e", "0123456789abcdef" * 4, "ab" * 32

Section = Mapping[str, Any]


@cache
def collected() -> Mapping[str, Section]:
    """Return everything, in sections, each by name."""
    sections = {
        "public names": public_names(),
        "options of run and map": options(),
        "errors": _errors(),
        "settings": _settings(),
        "environment variables": _variables(),
        "names in the source": _names_in_the_source(),
        "object names": _object_names(),
        "images": _images(),
        "names in Prefect": _names_in_prefect(),
        "flows and tasks": _flows_and_tasks(),
        "deployments of our flows": _deployments(),
        "states": _states(),
        "names in the cluster": _names_in_the_cluster(),
        "job template": _job_template(),
        "exit codes": _exit_codes(),
        "job and result": _job_and_result(),
        "command line": dict(_commands(app, ())),
        "blocks": {kind.get_block_type_slug(): _block(kind) for kind in _blocks()},
        "entry points": _entry_points(),
        "files in the package": dict.fromkeys(sorted(_resources()), ""),
    }
    plain: Mapping[str, Section] = json.loads(json.dumps(sections, sort_keys=True, default=str))
    return plain


@cache
def modules() -> tuple[Any, ...]:
    """Import every module of the client."""
    names = [
        each.name
        for each in walk_packages(kinetic_flows.__path__, "kinetic_flows.")
        if not each.name.startswith("kinetic_flows.runner_image")
    ]
    return tuple(import_module(name) for name in [*names, "kinetic_flows.blocks.collection"])


def _errors() -> Section:
    modules()
    return {kind.__name__: error_told(kind) for kind in error_classes()}


class _Asked(dict[str, str]):
    """Variables, and the names that were asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.names: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.names.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.names.add(str(key))
        return super().__contains__(key)


class _NoProfiles:
    def load(self, name: str) -> None:
        return None

    def names(self) -> tuple[str, ...]:
        return ()


def _settings() -> Section:
    return {name: value for name, value in _in_force(_Asked(ON_GKE)).items() if name != "home"}


def _in_force(environ: _Asked) -> Mapping[str, object]:
    settings = resolve_settings(load_settings(environ), _NoProfiles(), environ=environ)
    return {row.name: row.value for row in describe_settings(settings)}


def _deciding_variables() -> set[str]:
    """Return the variables that are read, and that make a setting another one or cannot be so."""
    asked = _Asked(ON_GKE)
    before = _in_force(asked)

    def decides(name: str) -> bool:
        try:
            return _in_force(_Asked({**ON_GKE, name: "1"})) != before
        except KineticError:
            return True

    return {name for name in asked.names if decides(name)}


def _variables() -> Section:
    named = {match for text in texts() for match in VARIABLE.findall(text)}
    return dict.fromkeys(sorted({*named, *_deciding_variables()}), "")


def _names_in_the_source() -> Section:
    threads = said(calls("Thread"), "name")
    return dict.fromkeys(
        (
            text
            for text in texts()
            if NAME.fullmatch(text) and not text.endswith(".py") and text not in threads
        ),
        "",
    )


def _object_names() -> Section:
    version = object_names.deployment_version_prefix(
        object_names.deployment_prefix("f", "n", "t"), DIGEST
    )
    return {
        "code pack": object_names.pack_object(DIGEST),
        "code manifest": object_names.manifest_object(DIGEST),
        "data's manifest": object_names.data_manifest_object(DIGEST),
        "data's pack": object_names.data_pack_object(DIGEST),
        "data's part": object_names.data_part_object(DIGEST),
        "data's use": object_names.data_use_object(DIGEST, "2026-01-31"),
        "data's cleanup": object_names.DATA_CLEANUP,
        "lock": object_names.lock_object(DIGEST),
        "lock's signature": object_names.lock_signature_object(DIGEST, b"key"),
        "wheel": object_names.wheel_object(DIGEST, "a-1-py3-none-any.whl"),
        "runner": object_names.runner_object(DIGEST),
        "requirements": object_names.requirements_object(DIGEST),
        "lease of outputs": object_names.output_lease_object("gs://bucket/a"),
        "build source": object_names.build_source_object(DIGEST),
        "build logs": object_names.BUILD_LOGS,
        "build results": object_names.BUILD_RESULTS,
        "lease": object_names.lease_object("subject"),
        "lease's followers": object_names.lease_followers_prefix("subject"),
        "job": object_names.job_object(RUN),
        "payload": object_names.payload_object(RUN),
        "result": object_names.result_object(RUN),
        "accelerators of a list": object_names.candidates_object(RUN),
        "job of one of a list": object_names.candidate_job_object(RUN, 1),
        "round of a list": object_names.round_object(RUN, 0),
        "claim of a round": object_names.claim_object(RUN, 0),
        "end of a round": object_names.round_end_object(RUN, 0),
        "part of black boxes": object_names.BLACK_BOX,
        "what a run's cluster said": object_names.facts_object(RUN),
        "note that a claim was told": object_names.round_told_object(RUN, 0),
        "piece of a payload": object_names.piece_object(RUN, DIGEST),
        "owner of a worker's job": object_names.job_owner("token"),
        "runs": object_names.RUNS,
        "outputs": object_names.OUTPUTS,
        "deployment": object_names.deployment_prefix("My Flow", "Nightly", "token"),
        "deployment's version": version,
        "deployment's job": object_names.deployment_job_object(version),
        "jobs bucket": cloud_names.jobs_bucket("project", "cluster"),
        "builds bucket": cloud_names.builds_bucket("project", "cluster"),
        "long bucket": cloud_names.jobs_bucket("example.com:project-" + "x" * 30, "c" * 30),
    }


def _images() -> Section:
    hub, own = "user/name", "us-docker.pkg.dev/p/repo"
    repository = cloud_names.cluster_repository("example.com:p", "us-central1-a", "cluster")
    return {
        "repository": repository,
        "project image": tags.project_image(repository, "tpu", DIGEST),
        "image here": tags.local_image_reference("cpu", DIGEST),
        "base on Docker Hub": tags.base_image(hub, "gpu"),
        "lean base": tags.base_image(own, "gpu", "lean"),
        "base of a user": tags.base_image("user", "cpu"),
        "base at docker.io": tags.base_image("docker.io/user", "cpu"),
        "controller": tags.controller_image(own),
        "tag with a Python": tags.python_tag("v1", "3.12"),
        "tag of a made base": tags.base_tag("3.12", DIGEST),
        "tag of a build": tags.build_tag("reg/Image:tag", DIGEST),
        "secret: Docker Hub user": DOCKER_HUB_USERNAME_SECRET,
        "secret: Docker Hub token": DOCKER_HUB_TOKEN_SECRET,
    }


def _train(rate: float) -> None: ...


def _names_in_prefect() -> Section:
    return {
        "tag of runs": labels.RUN_TAG,
        "tag of a cache key": labels.cache_tag(DIGEST),
        "tag of a retry": labels.retry_tag(RUN),
        "label of runs in a group": [labels.PARENT_LABEL, labels.INDEX_LABEL],
        "flows": [
            *(flow_names.PARENT_FLOW, flow_names.GROUP_FLOW, flow_names.DEPLOY_FLOW),
            *(flow_names.RECONCILE_FLOW, flow_names.BUILD_IMAGE_FLOW),
        ],
        "step of a group": flow_names.STEP_RUN_INPUTS,
        "name of a run": flow_name(str.upper, "a/b <c>"),
        "name of a run in a group": SweepNames("train", _train).name(3, (0.1,), {}),
        "loggers": [
            *(streams.STDOUT_LOGGER, labels.CLIENT_LOGGER, streams.STDERR_LOGGER),
            *(streams.RUNNER_LOGGER, streams.TRACEBACK_LOGGER),
        ],
        "work pools": [cloud_names.WORK_POOL, LOCAL_WORK_POOL],
        "cache key of a build": build_cache_key("reg/image:tag", DIGEST),
        "cache key of an upload": upload_cache_key("gs://b", DIGEST, all_wheels=True),
        "cache key of another upload": upload_cache_key("gs://b", DIGEST, all_wheels=False),
        "block of a build cache": build_cache_block("bucket", DIGEST),
        "block of a store's key": store_key_block("bucket"),
        "artifacts": sorted(
            {
                flow_names.RUN_ARTIFACT,
                flow_names.INPUTS_ARTIFACT,
                flow_names.BASE_IMAGES_ARTIFACT,
                flow_names.ENVIRONMENT_ARTIFACT,
                LINK_KEY,
            }
            | said(calls("_artifact"), "key")
        ),
        "states of inputs": [group.LAUNCHING, group.NOT_LAUNCHED],
    }


def _flows_and_tasks() -> Section:
    found: dict[str, Any] = {}
    for value in [value for module in modules() for value in vars(module).values()]:
        if isinstance(value, Task):
            kept = f", cached as {value.result_serializer}" if value.persist_result else ""
            found[f"task {value.name}"] = f"runs are called {value.task_run_name}{kept}"
        elif isinstance(value, Flow):
            called = f"runs are called {value.flow_run_name}, version {value.version}"
            found[f"flow {value.name}"] = f"{called}, called with {signature(value.fn)}"
    names = {text for text in texts() if "{function}" in text and "\n" not in text}
    return {**found, "names of runs of a function": sorted(names)}


def _states() -> Section:
    """Return the types and names of states, as they stand at the calls that make them."""
    made = {
        " ".join(str(each.value) for each in call.args[:2] if isinstance(each, ast.Constant))
        for call in calls("State")
    }
    return dict.fromkeys(sorted({*made, *said(calls(""), "state_name")} - {""}), "")


def _names_in_the_cluster() -> Section:
    job_name = names.kubernetes_job_name("Train It!", RUN)
    found: dict[str, Any] = {
        "Job": job_name,
        "Job with a long name": names.kubernetes_job_name("x" * 80, RUN),
        "Secret": names.run_secret_name(job_name),
        "Service": names.HEADLESS_SERVICE,
        "label of pods": names.RUN_ID_POD_LABEL,
        "annotation of Jobs": names.SCHEDULE_TIMEOUT_ANNOTATION,
    }
    for path in ("worker/rbac.yaml", "worker/worker.yaml"):
        for item in yaml.safe_load_all((files(DEPLOYMENTS) / path).read_text()):
            found[f"{path}: {item['kind']} {item['metadata']['name']}"] = ""
    for accelerator in ("cpu", "l4x2:spot", "tpu-v6e-16"):
        for run_id in (RUN, ""):
            request = PodRequest(
                run_id=run_id,
                name="train",
                image="image",
                accelerator=parse_accelerator(accelerator),
                image_environment={},
                schedule_timeout_seconds=60.0,
            )
            starter = "the client" if run_id else "a worker"
            found[f"job variables of {starter} on {accelerator}"] = job_variables(request)
    return found


def _deployments() -> Section:
    file = yaml.safe_load((files(DEPLOYMENTS) / "prefect.yaml").read_text())
    return {each["name"]: each["entrypoint"] for each in file["deployments"]}


def _job_template() -> Section:
    template = json.loads((files(DEPLOYMENTS) / "work_pools/kinetic-gke.json").read_text())
    properties = template["variables"]["properties"]
    return {name: told.get("default") for name, told in properties.items()}


def _exit_codes() -> Section:
    written = {
        call.args[0].value
        for call in calls("exit")
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    return {
        **{f"{code} of the runner": text for code, text in job.EXIT_MEANINGS.items()},
        **{f"{code} at a call of exit": "" for code in written},
    }


def _job_and_result() -> Section:
    header = ResultHeader(run_id=RUN, status="crashed", log_tail=("a", "b"), exit_code=-9)
    envelope = ResultEnvelope(header=header, body=b"body")
    return {
        "version": job.JOB_VERSION,
        "job": _sample_job().to_json().decode(),
        "digest of its content": _sample_job().template.content_digest(),
        "statuses": get_args(ResultStatus),
        "envelope": seal_result(envelope, KEY).decode(),
        "variables that tell of them": [JOB_VARIABLE, RUN_KEY_VARIABLE],
    }


def _sample_job() -> job.Job:
    """Return a job that has everything that a job can have."""

    def reference(name: str) -> job.ObjectRef:
        return job.ObjectRef(name=name, sha256=job.Sha256(DIGEST), size_bytes=7)

    template = job.JobTemplate(
        name="train",
        python="3.11",
        runner=reference("runners/r.pyz"),
        code=job.CodeSpec(packs=(reference("packs/p"),), manifest=reference("packs/m.json")),
        payload_sha256=job.Sha256(DIGEST),
        payload_size_bytes=7,
        requirements=job.RequirementsSpec(
            lock=reference("requirements/l.txt"), wheels=(reference("wheels/w/w.whl"),)
        ),
        timeout_seconds=60.0,
        pieces=(reference(object_names.piece_object(RUN, DIGEST)),),
        launch=job.LaunchSpec(
            image={"reference": "image"}, accelerator="cpu", mode="bundled", options={"retries": 1}
        ),
    )
    return job.Job(
        template=template,
        run_id=RUN,
        output_dir="gs://bucket/outputs",
        api_url="http://prefect/api",
    )


def _commands(command: App, path: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    if command.default_command is not None:
        yield (
            " ".join(path),
            [" ".join(each.names) for each in command.assemble_argument_collection()],
        )
    for name in command:
        if not name.startswith("-"):
            yield from _commands(command[name], (*path, name))


def _blocks() -> list[type[Block]]:
    collection = import_module("kinetic_flows.blocks")
    return [getattr(collection, name) for name in collection.__all__]


def _block(kind: type[Block]) -> Section:
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "name": kind.get_block_type_name(),
        "capabilities": sorted(kind.get_block_capabilities()),
        "fields": {
            name: f"required: {item.is_required()}" for name, item in kind.model_fields.items()
        },
    }


def _entry_points() -> Section:
    return {
        f"{each.group}: {each.name}": each.value
        for each in distribution("kinetic-flows").entry_points
    }


def _resources() -> Iterator[str]:
    """Yield the files that people take out of the package."""

    def below(folder: Traversable, path: str) -> Iterator[str]:
        for each in folder.iterdir():
            if each.is_dir() and each.name != "__pycache__":
                yield from below(each, f"{path}/{each.name}")
            elif each.is_file() and not each.name.endswith((".pyc", ".py")):
                yield f"{path}/{each.name}"

    for package in ("deployments", "runner_image"):
        yield from below(files(f"kinetic_flows.{package}"), package)
