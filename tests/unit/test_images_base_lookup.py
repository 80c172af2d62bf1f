"""Base images in a repository of one's own: which is taken, and what is said when none fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from kinetic_flows.core.errors import ImageError, RegistryAccessError
from kinetic_flows.core.image_registry import ImageConfig, ResolvedImage
from kinetic_flows.images.base_lookup import USE_BUNDLED, WantedBase, find_base
from kinetic_flows.images.inspection import PYTHON_VARIABLE
from kinetic_flows.images.labels import LABEL_CATEGORY, LABEL_PYTHON

WANTED = WantedBase(
    repository="r.io/a", category="gpu", python="3.11", tag="1.0", otherwise=USE_BUNDLED
)
OURS = {LABEL_CATEGORY: "gpu", LABEL_PYTHON: "3.11"}


def image(labels: Mapping[str, str], python: str = "") -> ResolvedImage:
    config = ImageConfig(
        platform="linux/amd64",
        environment={PYTHON_VARIABLE: python} if python else {},
        entrypoint=(),
        user="",
        working_directory="",
        size_bytes=1,
    )
    return ResolvedImage(reference="r@sha256:1", digest="sha256:1", labels=labels, config=config)


class Shelf:
    """A registry that has some images, and notes what it is asked."""

    def __init__(self, images: Mapping[str, ResolvedImage]) -> None:
        self._images = images
        self.asked: list[str] = []

    def resolve(self, reference: str, *, architecture: str = "amd64") -> ResolvedImage | None:
        self.asked.append(reference)
        return self._images.get(reference)


class NoRepository:
    """A registry without the repository."""

    def resolve(self, reference: str, *, architecture: str = "amd64") -> ResolvedImage | None:
        raise RegistryAccessError(f"Docker Hub has no image {reference}", hint="log in")


def test_the_variant_for_this_python_is_preferred_and_nothing_else_is_asked() -> None:
    both = Shelf({"r.io/a/base-gpu:1.0-py3.11": image(OURS), "r.io/a/base-gpu:1.0": image(OURS)})

    assert find_base(both, WANTED).reference == "r.io/a/base-gpu:1.0-py3.11"
    assert both.asked == ["r.io/a/base-gpu:1.0-py3.11"]


def test_the_plain_tag_is_taken_where_there_is_no_variant() -> None:
    found = find_base(Shelf({"r.io/a/base-gpu:1.0": image(OURS)}), WANTED)

    assert found.reference == "r.io/a/base-gpu:1.0"
    assert found.warnings == ()


def test_the_lean_base_has_a_name_of_its_own_and_a_command_that_builds_it() -> None:
    lean = replace(WANTED, variant="lean")
    assert lean.references == ("r.io/a/base-gpu-lean:1.0-py3.11", "r.io/a/base-gpu-lean:1.0")

    with pytest.raises(ImageError, match=r"r\.io/a/base-gpu-lean:1\.0 does not exist") as raised:
        find_base(Shelf({"r.io/a/base-gpu:1.0": image(OURS)}), lean)

    hint = raised.value.hint or ""
    assert "kinetic build-image --repo r.io/a --category gpu-lean --tag 1.0" in hint
    assert "framework='jax'" in hint


def test_a_missing_base_names_the_command_that_builds_it() -> None:
    with pytest.raises(ImageError, match=r"r\.io/a/base-gpu:1\.0 does not exist") as raised:
        find_base(Shelf({}), WANTED)

    assert raised.value.hint == (
        "build it with: kinetic build-image --repo r.io/a --category gpu --tag 1.0 "
        "--python 3.11; or use container_image='bundled', which builds what it needs"
    )


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (image({**OURS, LABEL_PYTHON: "3.12"}), "has Python 3.12 where 3.11 is needed"),
        (image({}, python="3.12.4"), "has Python 3.12 where 3.11 is needed"),
        (image({**OURS, LABEL_CATEGORY: "cpu"}), "is for cpu where gpu is needed"),
    ],
)
def test_a_base_known_to_be_wrong_is_refused(found: ResolvedImage, why: str) -> None:
    with pytest.raises(ImageError, match=why) as raised:
        find_base(Shelf({"r.io/a/base-gpu:1.0": found}), WANTED)

    assert "kinetic build-image --repo r.io/a" in str(raised.value)


def test_an_image_built_elsewhere_is_taken_at_its_word_with_one_warning() -> None:
    found = find_base(Shelf({"r.io/a/base-gpu:1.0": image({})}), WANTED)

    assert found.image.digest == "sha256:1"
    (warning,) = found.warnings
    assert "r.io/a/base-gpu:1.0 was not built by kinetic build-image" in warning


def test_a_repository_that_does_not_exist_is_told_like_a_missing_base() -> None:
    with pytest.raises(ImageError, match="Docker Hub has no image") as raised:
        find_base(NoRepository(), replace(WANTED, repository="me/kinetic"))

    assert "kinetic build-image --repo me/kinetic" in str(raised.value)


def test_nobody_is_told_to_push_to_the_default_repository() -> None:
    with pytest.raises(ImageError) as raised:
        find_base(NoRepository(), replace(WANTED, repository="kinetic"))

    assert "--repo REPOSITORY" in str(raised.value)
    assert "set KINETIC_BASE_IMAGE_REPO to it" in str(raised.value)


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("kinetic", "kinetic/base-gpu:1.0"),
        ("myuser/kinetic", "myuser/kinetic-base-gpu:1.0"),
        ("docker.io/myuser/kinetic", "docker.io/myuser/kinetic-base-gpu:1.0"),
        ("us-docker.pkg.dev/p/kinetic-base", "us-docker.pkg.dev/p/kinetic-base/base-gpu:1.0"),
    ],
)
def test_docker_hub_has_names_of_two_parts_and_other_registries_have_paths(
    repository: str, name: str
) -> None:
    assert replace(WANTED, repository=repository).plain == name
