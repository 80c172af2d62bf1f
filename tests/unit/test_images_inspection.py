"""What is said of an image of one's own before it is pulled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace

import pytest

from kinetic_flows.core.accelerators.image_variables import missing_variables
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_registry import ImageConfig, ResolvedImage
from kinetic_flows.images.inspection import (
    PYTHON_VARIABLE,
    ImageRequirements,
    check_image,
    image_from_fields,
    inspect_image,
    python_of,
    report_on,
)
from kinetic_flows.images.labels import LABEL_PYTHON

NAME = "us-docker.pkg.dev/p/r/mine:v1"
REQUIRED = ImageRequirements(python="3.11")


def image(
    *,
    environment: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    platform: str = "linux/amd64",
) -> ResolvedImage:
    config = ImageConfig(
        platform=platform,
        environment=environment if environment is not None else {PYTHON_VARIABLE: "3.11.9"},
        entrypoint=("/bin/tini", "--"),
        user="65532",
        working_directory="/home/me",
        size_bytes=600_000_000,
    )
    return ResolvedImage(
        reference="r@sha256:1", digest="sha256:1", labels=labels or {}, config=config
    )


class OneImage:
    """A registry with one image, or none."""

    def __init__(self, found: ResolvedImage | None) -> None:
        self._found = found
        self.architectures: list[str] = []

    def resolve(self, reference: str, *, architecture: str = "amd64") -> ResolvedImage | None:
        self.architectures.append(architecture)
        return self._found


CUDA_PATH = "/usr/local/cuda/bin:/usr/bin"
NVIDIA = {
    PYTHON_VARIABLE: "3.11.9",
    "PATH": CUDA_PATH,
    "LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
    "CUDA_VERSION": "12.8.1",
}


def test_what_runs_on_gpus_set_besides_the_images_own_variables_is_told() -> None:
    required = replace(REQUIRED, category="gpu")
    plain = report_on(NAME, image(), required)
    assert plain.runs_set == {
        "JAX_PLATFORMS": "cuda,cpu",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
    }
    assert "runs set  LD_LIBRARY_PATH=/usr/local/nvidia/lib64" in plain.explain()
    nvidias = report_on(NAME, image(environment=NVIDIA), required)
    assert nvidias.runs_set == {
        "JAX_PLATFORMS": "cuda,cpu",
        "PATH": f"{CUDA_PATH}:/usr/local/nvidia/bin",
    }
    assert "has CUDA 12.8.1" in nvidias.warnings[0]
    assert "gpu-driver-version" in nvidias.warnings[0]


@pytest.mark.parametrize(
    ("category", "environment", "missing"),
    [
        ("cpu", {}, {}),
        ("tpu", {}, {"JAX_PLATFORMS": "tpu,cpu"}),
        ("tpu", {"JAX_PLATFORMS": "cpu", "PATH": "/bin"}, {}),
        (
            "gpu",
            {"JAX_PLATFORMS": "", "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64/"},
            {"JAX_PLATFORMS": "cuda,cpu"},
        ),
        (
            "gpu",
            {"JAX_PLATFORMS": "cuda", "LD_LIBRARY_PATH": "/opt/lib"},
            {"LD_LIBRARY_PATH": "/opt/lib:/usr/local/nvidia/lib64"},
        ),
        (
            "gpu",
            {
                "JAX_PLATFORMS": "cuda",
                "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
                "PATH": "/bin:/usr/local/nvidia/bin",
            },
            {},
        ),
    ],
)
def test_a_variable_that_the_image_has_stays(
    category: Category, environment: dict[str, str], missing: dict[str, str]
) -> None:
    assert missing_variables(category, environment) == missing


def test_an_image_that_was_written_down_is_read_again() -> None:
    known = image(environment=NVIDIA)
    bare = ResolvedImage(reference="r", digest="d", labels={})
    for written in (known, bare):
        assert image_from_fields(json.loads(json.dumps(asdict(written)))) == written
    # Builds of earlier versions wrote no configuration.
    assert image_from_fields({"reference": "r", "digest": "d", "labels": {}}) == bare


def test_a_fitting_image_has_no_problem_and_no_warning() -> None:
    report = check_image(OneImage(image()), NAME, REQUIRED)

    assert (report.python, report.problems, report.warnings) == ("3.11", (), ())


@pytest.mark.parametrize(
    ("labels", "environment", "python"),
    [
        ({}, {PYTHON_VARIABLE: "3.12.4"}, "3.12"),
        ({}, {PYTHON_VARIABLE: "3.13"}, "3.13"),
        ({}, {PYTHON_VARIABLE: "3.14.0rc1"}, "3.14"),
        ({LABEL_PYTHON: "3.10"}, {PYTHON_VARIABLE: "3.12.4"}, "3.10"),
        ({}, {PYTHON_VARIABLE: "cpython-3.11"}, None),
        ({}, {}, None),
    ],
)
def test_python_is_told_by_the_label_else_by_the_variable(
    labels: dict[str, str], environment: dict[str, str], python: str | None
) -> None:
    assert python_of(image(labels=labels, environment=environment)) == python


def test_another_python_is_refused_with_both_ways_out() -> None:
    other = image(environment={PYTHON_VARIABLE: "3.12.4"})

    with pytest.raises(ImageError, match=r"has Python 3\.12, and this is Python 3\.11") as raised:
        check_image(OneImage(other), NAME, REQUIRED)

    assert raised.value.hint == "use an image with Python 3.11, or call from Python 3.12"


def test_another_platform_is_refused_with_the_command_that_builds_for_it() -> None:
    with pytest.raises(ImageError, match="is for linux/arm64, the nodes are linux/amd64") as raised:
        check_image(OneImage(image(platform="linux/arm64")), NAME, REQUIRED)

    assert raised.value.hint == "build it with: docker buildx build --platform linux/amd64"


def test_arm_nodes_take_arm_images() -> None:
    registry = OneImage(image(platform="linux/arm64"))

    report = check_image(registry, NAME, ImageRequirements(python="3.11", architecture="arm64"))

    assert not report.problems
    assert registry.architectures == ["arm64"]


def test_an_image_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ImageError, match="mine:v1 does not exist"):
        inspect_image(OneImage(None), NAME, REQUIRED)


@pytest.mark.parametrize(
    "name", ["us-docker.pkg.dev/p/r/mine", "us-docker.pkg.dev/p/r/mine:latest"]
)
def test_latest_said_or_not_warns(name: str) -> None:
    (warning,) = report_on(name, image(), REQUIRED).warnings

    assert "whatever was pushed as 'latest' last" in warning


def test_a_digest_does_not_warn_even_without_a_tag() -> None:
    assert report_on(f"r.io/mine@sha256:{'0' * 64}", image(), REQUIRED).warnings == ()


def test_an_image_that_does_not_say_its_python_warns_that_it_matters() -> None:
    (warning,) = report_on(NAME, image(environment={}), REQUIRED).warnings

    assert "it has to be 3.11" in warning


def test_a_report_tells_people_everything() -> None:
    assert report_on(NAME, image(), ImageRequirements(python="3.11", project="p")).explain() == (
        "     image  us-docker.pkg.dev/p/r/mine:v1\n"
        "    digest  sha256:1\n"
        "  platform  linux/amd64\n"
        "      size  600.0 MB compressed, about 10 s to pull where a node does not have it\n"
        "entrypoint  /bin/tini -- (not used by runs)\n"
        "      user  65532\n"
        " directory  /home/me\n"
        "    python  3.11\n"
        "     nodes  read it as their own project's, unless their service account was restricted\n"
        "   verdict  can run calls"
    )


def test_a_report_tells_machines_the_same() -> None:
    told = report_on(NAME, image(environment={PYTHON_VARIABLE: "3.9"}), REQUIRED).to_json()

    assert told["fits"] is False
    assert told["problems"][0]["hint"].startswith("use an image with Python 3.11")
    assert (told["size_bytes"], told["pull_seconds"]) == (600_000_000, 10.0)
    assert (told["platform"], told["python"]) == ("linux/amd64", "3.9")


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("us-docker.pkg.dev/mine/r/i:v1", "as their own project's"),
        ("us-docker.pkg.dev/example.com/mine/r/i:v1", "--project=example.com:mine"),
        ("us-docker.pkg.dev/other/shared/i:v1", "add-iam-policy-binding shared --location=us"),
        ("me/train:v1", "image_pull_secrets"),
    ],
)
def test_what_nodes_need_to_pull_an_image_is_told_by_its_name(name: str, needed: str) -> None:
    required = ImageRequirements(python="3.11", project="mine")

    assert needed in report_on(name, image(), required).nodes
