"""`kinetic build-image` started twice at once, and what it tells of a build that failed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from prefect_http import PREFECT

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.registry.images import OciRegistry
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.images.base_image_specs import BaseImageSpec, BaseImagesRequest, base_image_specs
from kinetic_flows.platforms.gke.builds.builder import ClusterBuilder
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from kinetic_flows.platforms.gke.builds.making import BuilderSettings
from kinetic_flows.platforms.gke.builds.routes import Assembler
from loopback.cloud_build import Status
from loopback.lifted_python import MINOR
from loopback.quick_bases import QuickBases

pytest_plugins = ["loopback.fixtures"]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def builder(quick_bases: QuickBases, tmp_path: Path) -> Iterator[ClusterBuilder]:
    """Builds what the command asks for, as any number of its processes would."""
    url = quick_bases.environment["STORAGE_EMULATOR_HOST"]
    with (
        closing(CloudBuild("my-project", endpoint=quick_bases.server.endpoint)) as builds,
        closing(GoogleStore(quick_bases.bucket, endpoint=url)) as store,
        closing(OciRegistry()) as registry,
    ):
        yield ClusterBuilder(
            builds=builds,
            store=store,
            build_store=store,
            registry=registry,
            assembler=Assembler(
                registry=RegistryWriter(), home=tmp_path, environ=os.environ, builder="auto"
            ),
            settings=BuilderSettings(
                repository=quick_bases.repository,
                base_repository=None,
                version="0.1.0",
                poll_seconds=0.1,
            ),
        )


def spec_of(
    quick_bases: QuickBases, *, tag: str = "v1", from_scratch: bool = False
) -> BaseImageSpec:
    """A specification of the base image for CPUs."""
    request = BaseImagesRequest(
        repository=quick_bases.repository,
        tag=tag,
        version="0.1.0",
        categories=("cpu",),
        pythons=(MINOR,),
        dockerfile=quick_bases.dockerfile,
        from_scratch=from_scratch,
    )
    (spec,) = base_image_specs(request)
    return spec


def make(builder: ClusterBuilder, spec: BaseImageSpec) -> ResolvedImage:
    return builder.build_base(spec, (), lambda _: None)


@pytest.mark.parametrize("from_scratch", [False, True])
def test_of_many_who_ask_for_a_base_at_once_one_builds_and_all_get_its_digest(
    quick_bases: QuickBases, builder: ClusterBuilder, from_scratch: bool
) -> None:
    quick_bases.worker.seconds = 3
    spec = spec_of(quick_bases, from_scratch=from_scratch)

    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(lambda _: make(builder, spec), range(6)))

    assert len(quick_bases.builds) == 1
    assert len({image.digest for image in images}) == 1


def test_other_names_and_other_inputs_are_builds_of_their_own(
    quick_bases: QuickBases, builder: ClusterBuilder
) -> None:
    quick_bases.worker.seconds = 1
    one, two = spec_of(quick_bases, tag="v1"), spec_of(quick_bases, tag="v2")
    fewer_names = replace(two, references=two.references[:1])
    other = replace(one, inputs=two.inputs[::-1])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda spec: make(builder, spec), (one, two, fewer_names, other)))

    assert len(quick_bases.builds) == 4
    pushed = [[step.args[-1] for step in build.steps if step.args[0] == "push"]
              for build in quick_bases.builds]  # fmt: skip
    assert sorted(map(len, pushed)) == [1, 2, 2, 2]


def test_the_next_in_line_builds_when_the_build_it_followed_was_cancelled(
    quick_bases: QuickBases, builder: ClusterBuilder
) -> None:
    quick_bases.worker.seconds = 1
    quick_bases.worker.endings = [Status.CANCELLED]
    spec = spec_of(quick_bases)

    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(make, builder, spec) for _ in range(2)]
        errors = [future.exception() for future in asked]

    assert [type(error) for error in errors if error] == [BuildError]
    assert len(quick_bases.builds) == 2


def test_two_commands_started_at_once_report_one_build(quick_bases: QuickBases) -> None:
    quick_bases.worker.seconds = 20

    commands = [quick_bases.start("--json") for _ in range(2)]
    ended = [command.communicate(timeout=300) for command in commands]

    assert [command.returncode for command in commands] == [0, 0], ended
    assert len(quick_bases.builds) == 1
    (one,), (two,) = (json.loads(output)["images"] for output, _ in ended)
    assert one["digest"] == two["digest"] != ""


def test_a_build_that_failed_has_its_duration_in_the_table_and_in_prefect(
    quick_bases: QuickBases, prefect_api_url: str
) -> None:
    quick_bases.worker.seconds = 2
    quick_bases.worker.endings = [Status.FAILURE]

    command = quick_bases.start("--json")
    output, errors = command.communicate(timeout=300)

    assert command.returncode == BuildError.exit_code, errors
    (image,) = json.loads(output)["images"]
    assert image["action"] == "failed"
    assert image["seconds"] >= 2
    wanted = {"artifacts": {"key": {"any_": ["base-images"]}}, "sort": "CREATED_DESC"}
    artifacts = PREFECT.post(f"{prefect_api_url}/artifacts/filter", json=wanted).json()
    tables = [json.loads(artifact["data"]) for artifact in artifacts]
    (row,) = next(rows for rows in tables if quick_bases.repository in rows[0]["references"])
    assert row["result"] == "failed"
    assert row["seconds"] == image["seconds"]
