"""What `kinetic build-image` is to build: names, inputs, steps, and what is there already."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kinetic_flows.core.errors import (
    KineticError,
    RegistryAccessError,
    RepositoryNotFoundError,
    UsageError,
)
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.images.base_image_specs import (
    BaseImageSpec,
    BaseImagesRequest,
    base_image_specs,
    check_categories,
    check_pythons,
    check_repository,
    check_tag,
    controller_image_spec,
    find_existing,
)
from kinetic_flows.images.bases import GLIBC, BaseInputs, read_smoke_test
from kinetic_flows.images.dockerfiles import DOCKERFILE, BuildContext
from kinetic_flows.images.labels import (
    LABEL_CATEGORY,
    LABEL_INPUTS,
    LABEL_VARIANT,
    LABEL_VERSION,
)

REQUEST = BaseImagesRequest(
    repository="us-docker.pkg.dev/p/r", tag="1.0", version="1.0", pythons=("3.11", "3.12")
)
DOCKERFILE_OF_OURS = """\
ARG KINETIC_PYTHON
FROM python:${KINETIC_PYTHON}-slim
RUN pip install uv cloudpickle google-cloud-storage
COPY remote_runner.py /app/
"""


class Registry:
    """A registry with images by reference."""

    def __init__(self, images: dict[str, dict[str, str]], *, error: Exception | None = None):
        self._images = images
        self._error = error

    def resolve(self, reference: str) -> ResolvedImage | None:
        if reference not in self._images:
            if self._error:
                raise self._error
            return None
        labels = self._images[reference]
        return ResolvedImage(reference=reference, digest="sha256:1", labels=labels)


def files_of(spec: BaseImageSpec) -> Mapping[str, bytes]:
    """The files of the build of an image that has a Dockerfile."""
    assert isinstance(spec.source, BuildContext)
    return spec.source.files


def test_each_category_and_python_is_an_image_and_the_first_python_gets_the_plain_tag() -> None:
    specs = base_image_specs(REQUEST)

    assert [spec.name for spec in specs] == [
        *("cpu py3.11", "gpu py3.11", "tpu py3.11", "cpu py3.12", "gpu py3.12", "tpu py3.12"),
    ]
    assert specs[0].references == (
        "us-docker.pkg.dev/p/r/base-cpu:1.0-py3.11",
        "us-docker.pkg.dev/p/r/base-cpu:1.0",
    )
    assert specs[3].references == ("us-docker.pkg.dev/p/r/base-cpu:1.0-py3.12",)
    assert len({spec.inputs for spec in specs}) == 6


def test_a_lean_base_is_made_when_it_is_asked_for() -> None:
    categories = check_categories(["gpu-lean", "gpu"])
    assert categories == ("gpu", "gpu-lean")
    with_jax, lean = base_image_specs(replace(REQUEST, categories=categories, pythons=("3.12",)))

    assert (with_jax.name, lean.name) == ("gpu", "gpu-lean")
    assert lean.references == (
        "us-docker.pkg.dev/p/r/base-gpu-lean:1.0-py3.12",
        "us-docker.pkg.dev/p/r/base-gpu-lean:1.0",
    )
    assert lean.inputs != with_jax.inputs
    assert isinstance(lean.source, BaseInputs)
    assert "jax==" not in lean.source.lock
    assert lean.recipe.labels[LABEL_VARIANT] == "lean"
    with pytest.raises(UsageError, match="gpu-leen") as caught:
        check_categories(["gpu-leen"])
    assert "gpu-lean" in (caught.value.hint or "")


def test_a_new_version_of_the_product_with_the_same_inputs_builds_nothing_new() -> None:
    first, later = (
        base_image_specs(REQUEST)[0],
        base_image_specs(replace(REQUEST, version="1.1"))[0],
    )

    assert first.inputs == later.inputs
    assert later.recipe.labels[LABEL_VERSION] == "1.1"


def test_a_dockerfile_of_somebodys_own_gets_labels_and_the_arguments_it_declares(
    tmp_path: Path,
) -> None:
    path = tmp_path / "Dockerfile.own"
    path.write_text(DOCKERFILE_OF_OURS)
    cpu, gpu, _ = base_image_specs(replace(REQUEST, dockerfile=path, pythons=("3.12",)))

    assert cpu.recipe.arguments == {"KINETIC_PYTHON": "3.12"}
    assert cpu.recipe.labels[LABEL_CATEGORY] == "cpu"
    assert cpu.recipe.labels[LABEL_INPUTS] == cpu.inputs
    assert cpu.inputs != gpu.inputs
    assert files_of(cpu)["remote_runner.py"]
    (command,) = gpu.recipe.smoke_tests
    assert command[:2] == ("python3", "-c")
    assert command[3:] == ("3.12", "1", GLIBC)
    assert max(len(word) for word in command) < 10_000, "Cloud Build takes no longer argument"


def test_the_controller_carries_the_wheel_and_is_tried_before_it_is_published() -> None:
    spec = controller_image_spec(REQUEST, "kinetic_flows-1.0-py3-none-any.whl", b"wheel")

    assert spec.references == ("us-docker.pkg.dev/p/r/controller:1.0",)
    assert files_of(spec)["kinetic_flows-1.0-py3-none-any.whl"] == b"wheel"
    assert ("kinetic", "--version") in spec.recipe.smoke_tests


def test_prefect_never_starts_in_the_controllers_root_which_it_would_copy() -> None:
    """Prefect copies the directory that it starts in before it runs a deployed flow."""
    spec = controller_image_spec(REQUEST, "kinetic_flows-1.0-py3-none-any.whl", b"wheel")

    lines = files_of(spec)[DOCKERFILE].decode().splitlines()
    (directory,) = (line.split()[1] for line in lines if line.startswith("WORKDIR"))
    assert directory.strip("/")
    assert not any(line.startswith(("COPY", "ADD")) for line in lines), "nothing lies there"


def test_what_holds_the_names_is_told_apart() -> None:
    spec = base_image_specs(REQUEST)[0]
    current = {name: {LABEL_INPUTS: spec.inputs} for name in spec.references}

    assert find_existing(spec, Registry(current)).is_current
    assert not find_existing(spec, Registry({})).is_current
    half = find_existing(spec, Registry({spec.references[0]: current[spec.references[0]]}))
    assert not half.is_current
    assert half.replaced == {spec.references[0]: "sha256:1"}


def test_docker_hub_does_not_say_whether_an_image_is_missing_or_private() -> None:
    refusal = RegistryAccessError("no")
    hub = base_image_specs(replace(REQUEST, repository="me/kinetic"))[0]

    assert hub.references[1] == "me/kinetic-base-cpu:1.0"
    assert not find_existing(hub, Registry({}, error=refusal)).is_current
    with pytest.raises(RegistryAccessError):
        find_existing(base_image_specs(REQUEST)[0], Registry({}, error=refusal))


def test_most_registries_make_a_repository_when_something_is_pushed_to_it() -> None:
    missing = RepositoryNotFoundError("no")
    own = base_image_specs(replace(REQUEST, repository="registry.example.com/bases"))[0]

    assert not find_existing(own, Registry({}, error=missing)).is_current
    with pytest.raises(RepositoryNotFoundError):
        find_existing(base_image_specs(REQUEST)[0], Registry({}, error=missing))


@pytest.mark.parametrize(
    ("repository", "hint"),
    [
        ("me/kinetic/more", "namespace/name"),
        ("us-docker.pkg.dev/project", "us-docker.pkg.dev/PROJECT/REPOSITORY"),
        ("Me/Kinetic", "without a tag"),
        ("me/kinetic:1.0", "without a tag"),
    ],
)
def test_a_repository_that_cannot_be_is_refused(repository: str, hint: str) -> None:
    with pytest.raises(KineticError) as raised:
        check_repository(repository)
    assert hint in str(raised.value.hint)


def test_tags_and_pythons_that_cannot_be_are_refused() -> None:
    assert check_tag("v2.0.0") == "v2.0.0"
    assert check_pythons(["3.12", "3.11", "3.12"]) == ("3.12", "3.11")
    with pytest.raises(KineticError, match="a/b"):
        check_tag("a/b:c d")
    with pytest.raises(UsageError, match=r"Python 3\.9"):
        check_pythons(["3.9"])


def test_the_smoke_test_names_everything_that_is_wrong() -> None:
    program = [sys.executable, "-c", read_smoke_test(), "3.99", "1", "99.1"]

    done = subprocess.run(program, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    found = ".".join(map(str, sys.version_info[:2]))
    assert f"smoke test: it has Python {found}, and its tag is to say 3.99" in done.stdout
    assert "/app/remote_runner.py --version answers" in done.stdout
    assert "the Dockerfile lacks: COPY remote_runner.py /app/" in done.stdout
    assert "packages are resolved for glibc 99.1" in done.stdout
