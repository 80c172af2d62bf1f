"""What is started in an image depends on where the image comes from."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.errors import ImageError, UsageError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.dependencies.lockfile import format_lock
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.labels import LABEL_BASE_IDENTITY, LABEL_CATEGORY
from kinetic_flows.platforms.base import ImageOptions, JobRequest
from kinetic_flows.platforms.gke.images import ClusterImages
from kinetic_flows.platforms.gke.job_variables import job_variables_of
from kinetic_flows.platforms.image_sources import BaseImage, OwnImage, ProjectImage, known_packages
from kinetic_flows.platforms.local.platform import LocalPlatform

IMAGE = ResolvedImage(reference="r.io/i@sha256:1", digest="sha256:1", labels={})
OWN = "us-docker.pkg.dev/p/r/mine:v1"


class NoRegistry:
    """A registry that must not be asked."""

    def resolve(self, reference: str, *, architecture: str = "amd64") -> ResolvedImage | None:
        raise AssertionError(f"asked for {reference}")


CLOUD = resolve_cloud(arguments={"project": "my-project"}, environ={}, profile=None)
IMAGES = ClusterImages(cloud=CLOUD, registry=NoRegistry())


def command(mode: ImageMode) -> list[str]:
    """Return the command of a pod, as Prefect splits it."""
    variables = job_variables_of(
        JobRequest(
            run_id="1",
            name="train",
            image=IMAGE,
            accelerator=parse_accelerator("cpu"),
            mode=mode,
            options=RunOptions(),
        ),
        CLOUD,
    )
    return [*variables["entrypoint"], *shlex.split(variables["command"])]


def test_a_bundled_image_starts_its_own_bootstrap() -> None:
    assert command("bundled") == ["python3", "-u", "/app/remote_runner.py"]


def test_other_images_get_the_bootstrap_on_the_command_line() -> None:
    for mode in ("prebuilt", "custom"):
        python, unbuffered, flag, source = command(mode)  # type: ignore[arg-type]
        assert (python, unbuffered, flag) == ("python3", "-u", "-c")
        done = subprocess.run(
            [sys.executable, "-u", "-c", source, "--version"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "1"
        # Kubernetes would put variables in place of the one, Prefect's templates of the other.
        assert "$(" not in source
        assert "{{" not in source


def test_each_wish_leads_to_its_source_without_asking_any_registry() -> None:
    cpu = parse_accelerator("cpu")
    wishes = {None: ProjectImage, "bundled": ProjectImage, "prebuilt": BaseImage, OWN: OwnImage}
    for wish, kind in wishes.items():
        assert isinstance(IMAGES.source(ImageOptions(container_image=wish), cpu), kind)


def test_only_an_image_of_ones_own_can_be_for_arm_nodes() -> None:
    arm = parse_accelerator("gb200")

    source = IMAGES.source(ImageOptions(container_image=OWN), arm)

    assert isinstance(source, OwnImage)
    assert source.required.platform == "linux/arm64"


def test_wheels_are_shipped_only_in_prebuilt_mode_and_asking_for_it_harms_no_other() -> None:
    cpu = parse_accelerator("cpu")
    prebuilt = IMAGES.source(ImageOptions(container_image="prebuilt", ship_wheels=True), cpu)
    assert isinstance(prebuilt, BaseImage)
    assert prebuilt.ship_wheels
    for wish in (None, OWN):
        IMAGES.source(ImageOptions(container_image=wish, ship_wheels=True), cpu)


class OneBase:
    """A registry that has one image under every name."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.image = replace(IMAGE, labels=labels)

    def resolve(self, reference: str, *, architecture: str = "amd64") -> ResolvedImage | None:
        return self.image


def known(labels: dict[str, str], wish: str | None = None) -> frozenset[str] | None:
    registry = OneBase(labels)
    cloud = resolve_cloud(
        arguments={"project": "my-project"},
        environ={"KINETIC_BASE_IMAGE_REPO": "me/bases"},
        profile=None,
    )
    images = ClusterImages(cloud=cloud, registry=registry)
    source = images.source(ImageOptions(container_image=wish), parse_accelerator("cpu"))
    return known_packages(source, registry.image)


def test_the_packages_of_a_base_are_known_where_it_was_made_from_our_inputs() -> None:
    cpu = parse_accelerator("cpu")
    default = known_packages(IMAGES.source(ImageOptions(), cpu), None)
    assert default is not None
    assert {"jax", "numpy", "cloudpickle"} <= default
    assert "keras" not in default
    inputs = IMAGES.bases("cpu", IMAGES.python)
    ours = {LABEL_CATEGORY: "cpu", LABEL_BASE_IDENTITY: str(inputs.identity)}
    for wish in (None, "prebuilt"):
        assert known(ours, wish) == default
        assert known({LABEL_CATEGORY: "cpu"}, wish) is None, "it may have anything"
    prebuilt = IMAGES.source(ImageOptions(container_image="prebuilt"), cpu)
    assert known_packages(prebuilt, None) is None, "nobody has looked"
    own = IMAGES.source(ImageOptions(container_image=OWN), cpu)
    assert known_packages(own, IMAGE) is None


@pytest.mark.parametrize("wish", [None, "prebuilt"])
def test_the_framework_decides_the_base_and_without_one_the_packages_do(
    wish: str | None,
) -> None:
    def target(accelerator: str, framework: str | None) -> Target:
        asked = ImageOptions(container_image=wish, framework=framework)
        source = IMAGES.source(asked, parse_accelerator(accelerator))
        assert isinstance(source, ProjectImage | BaseImage)
        return source.target

    for name in ("cpu", "l4", "tpu-v6e-8"):
        lean, with_jax, either = (target(name, framework) for framework in ("none", "jax", None))
        assert (lean.variant, with_jax.variant, either.variant) == ("lean", "jax", "jax")
        assert not any("jax" in item for item in (*lean.runtime, *lean.constraints))
        assert (with_jax.otherwise, lean.otherwise) == (None, None)
        assert either.otherwise == lean
        assert lean.base_identity != with_jax.base_identity
        assert lean.needs == with_jax.needs, "a chip needs the same, whoever brings it"


class Bases:
    """A registry that has the bases with jax alone, and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolve(self, reference: str, *, architecture: str = "amd64") -> ResolvedImage | None:
        self.asked.append(reference)
        return None if "-lean" in reference else IMAGE


def test_a_lean_base_of_ones_own_is_looked_up_only_for_packages_that_want_it() -> None:
    registry = Bases()
    cloud = resolve_cloud(
        arguments={"project": "my-project"},
        environ={"KINETIC_BASE_IMAGE_REPO": "me/bases"},
        profile=None,
    )
    images = ClusterImages(cloud=cloud, registry=registry)
    source = images.source(ImageOptions(), parse_accelerator("l4"))
    assert isinstance(source, ProjectImage)

    def lock(target: Target) -> Lock:
        return Lock(
            text=format_lock((), variant=target.variant),
            packages=(),
            wheels=(),
            target=target,
            inputs_sha256=Sha256("0" * 64),
            from_cache=False,
        )

    environment = source.environment(lock(source.target))
    assert (environment.variant, environment.base_identity) == ("jax", IMAGE.digest)
    assert not any("-lean" in reference for reference in registry.asked)

    with pytest.raises(ImageError, match="me/bases-base-gpu-lean") as caught:
        source.environment(lock(source.target.settled("lean")))
    assert "--category gpu-lean" in (caught.value.hint or "")


def test_more_hosts_than_this_machine_takes_are_refused(tmp_path: Path) -> None:
    platform = LocalPlatform(tmp_path, {})
    with pytest.raises(UsageError, match="hosts=65 would start as many processes"):
        platform.image_source(ImageOptions(), parse_accelerator("cpu").times(hosts=65))
    platform.image_source(ImageOptions(), parse_accelerator("cpu").times(hosts=64))
