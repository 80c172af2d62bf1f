"""Builds as values: their steps, their secrets, and the words for their ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kinetic_flows.images import tags
from kinetic_flows.images.dockerfiles import BuildRecipe
from kinetic_flows.platforms.gke.builds.build import (
    AssemblyRecipe,
    BuildOptions,
    BuildSpec,
    BuildState,
    RegistryLogin,
    build_error,
    build_secrets,
    build_steps,
    failed_package,
    log_object,
    pushed_images,
    registry_login,
)

LOGIN = RegistryLogin(
    registry="",
    username_version="projects/p/secrets/name/versions/latest",
    password_version="projects/p/secrets/hub/versions/latest",
)


def spec(*logins: RegistryLogin) -> BuildSpec:
    return BuildSpec(
        image="us-docker.pkg.dev/p/r/app:cpu-1",
        bucket="b",
        source_object="builds/1.tar.gz",
        logs_prefix="logs",
        tags=("kinetic",),
        options=BuildOptions(logins=logins),
    )


def test_a_build_is_one_docker_step() -> None:
    (step,) = build_steps(spec())

    assert step.name == "gcr.io/cloud-builders/docker"
    assert step.args == ("build", "--tag", "us-docker.pkg.dev/p/r/app:cpu-1", ".")
    assert "DOCKER_BUILDKIT=1" in step.environment


def test_a_login_comes_first_and_nothing_of_it_is_an_argument() -> None:
    login, build = build_steps(spec(LOGIN))

    assert login.args == (
        "-c",
        (
            'echo "$$REGISTRY_PASSWORD_0" | docker login --username "$$REGISTRY_USERNAME_0" '
            "--password-stdin"
        ),
    )
    assert login.secret_variables == ("REGISTRY_USERNAME_0", "REGISTRY_PASSWORD_0")
    assert build_secrets(spec(LOGIN)) == {
        "REGISTRY_USERNAME_0": "projects/p/secrets/name/versions/latest",
        "REGISTRY_PASSWORD_0": "projects/p/secrets/hub/versions/latest",
    }
    assert build.secret_variables == ()


def test_cloud_build_pushes_to_googles_registries_and_a_step_to_others() -> None:
    hub = replace(spec(LOGIN), image="someone/kinetic-base-cpu:1")

    assert pushed_images(spec()) == ("us-docker.pkg.dev/p/r/app:cpu-1",)
    assert pushed_images(hub) == ()
    assert build_steps(hub)[-1].args == ("push", "someone/kinetic-base-cpu:1")


def test_smoke_tests_come_after_the_build_and_before_every_push() -> None:
    hub = replace(
        spec(LOGIN),
        image="someone/kinetic-base-cpu:1-py3.11",
        also=("someone/kinetic-base-cpu:1",),
        recipe=BuildRecipe(smoke_tests=(("python3", "-c", "print('$1')"),)),
    )

    login, build, test, *pushes = build_steps(hub)

    assert login.entrypoint == "bash"
    assert build.args[:5] == ("build", "--tag", hub.image, "--tag", hub.also[0])
    entrypoint = ("--entrypoint", "python3")
    assert test.args == ("run", "--rm", *entrypoint, hub.image, "-c", "print('$$1')")
    assert [step.args for step in pushes] == [("push", name) for name in hub.references]


def test_a_recipe_names_the_dockerfile_its_arguments_and_labels() -> None:
    recipe = BuildRecipe(
        dockerfile="Dockerfile.gpu",
        arguments={"KINETIC_CATEGORY": "gpu"},
        labels={"price": "$5"},
        from_scratch=True,
    )

    (build,) = build_steps(replace(spec(), recipe=recipe))

    assert build.args[3:] == (
        *("--file", "Dockerfile.gpu"),
        *("--no-cache", "--pull"),
        *("--build-arg", "KINETIC_CATEGORY=gpu"),
        *("--label", "price=$$5"),
        ".",
    )


def test_an_assembly_is_one_step_in_the_image_of_python_that_pushes_itself() -> None:
    recipe = AssemblyRecipe(python="3.12", command=("bash", "-c", "echo $PATH"))
    hub = replace(spec(LOGIN), recipe=recipe, also=("someone/kinetic-base-cpu:1",))

    login, step = build_steps(hub)

    assert login.entrypoint == "bash"
    assert step.name == "docker.io/library/python:3.12-slim-bookworm"
    assert (step.entrypoint, step.args) == ("bash", ("-c", "echo $$PATH"))
    assert pushed_images(hub) == ()


def test_an_assembler_says_itself_why_it_failed() -> None:
    lines = [
        "Step #0: kinetic: 2 of 3 layers",
        "Step #0: kinetic error: six-1.whl is something else than was locked",
        "Step #0: kinetic hint: lock again",
        'build step 0 "docker.io/library/python:3.12-slim-bookworm" failed: exited with 6',
    ]

    error = build_error(BuildState(id="1", status="FAILURE"), lines)

    first = error.message.splitlines()[0]
    assert first == "build 1 failed: six-1.whl is something else than was locked"
    assert error.hint == "lock again"


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("  x Failed to build `numpy==1.0`", "numpy==1.0"),
        ("  x Failed to download `torch==2.0`", "torch==2.0"),
        ("error: Failed to fetch: `https://pypi.org/simple/a/`", "https://pypi.org/simple/a/"),
        ("  cause: Failed to fetch: https://pypi.org/a.whl", "https://pypi.org/a.whl"),
        ("error: Failed to install: `x` from wheel", "x"),
        ("Hash mismatch for `toolz==1.0.0`", "toolz==1.0.0"),
        ("all is well", None),
    ],
)
def test_the_package_that_uv_could_not_install_is_found(line: str, package: str | None) -> None:
    assert failed_package(["STEP 1/4", line]) == package


@pytest.mark.parametrize(
    ("status", "words", "hint"),
    [
        ("FAILURE", "failed", "the log's last lines"),
        ("TIMEOUT", "time limit", "KINETIC_BUILD_MACHINE_TYPE"),
        ("CANCELLED", "was cancelled", "run again"),
        ("INTERNAL_ERROR", "twice", "status.cloud.google.com"),
        ("EXPIRED", "queue", "quota"),
    ],
)
def test_every_end_without_an_image_has_its_own_words(status: str, words: str, hint: str) -> None:
    state = BuildState(id="b1", status=status, log_url="https://console/b1")  # type: ignore[arg-type]
    error = build_error(state, [f"line {number}" for number in range(100)])

    assert words in error.message.splitlines()[0]
    assert hint in str(error.hint)
    assert error.value == "b1"
    assert "line 99" in error.message
    assert "line 79" not in error.message
    assert error.message.endswith("log: https://console/b1")


def test_the_failing_step_is_taken_from_the_log_when_cloud_build_does_not_mark_it() -> None:
    line = 'ERROR: build step 1 "gcr.io/cloud-builders/docker" failed: exit status 1'
    error = build_error(BuildState(id="b", status="FAILURE"), [line])

    assert "failing step: 1 (gcr.io/cloud-builders/docker)" in error.message


def test_logs_are_where_cloud_build_puts_them() -> None:
    assert log_object("logs", "abc") == "logs/log-abc.txt"
    assert log_object("", "abc") == "log-abc.txt"


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("kinetic", "kinetic/base-cpu"),
        ("myuser/kinetic", "myuser/kinetic-base-cpu"),
        ("docker.io/myuser/kinetic", "docker.io/myuser/kinetic-base-cpu"),
        ("docker.io/kinetic", "docker.io/kinetic/base-cpu"),
        ("index.docker.io/myuser/kinetic", "index.docker.io/myuser/kinetic-base-cpu"),
        ("us-docker.pkg.dev/p/r", "us-docker.pkg.dev/p/r/base-cpu"),
        ("localhost:5000/a/b", "localhost:5000/a/b/base-cpu"),
    ],
)
def test_base_images_have_names_that_their_registry_allows(repository: str, name: str) -> None:
    assert tags.base_image(repository, "cpu") == name


def test_the_tag_of_a_build_is_one_that_cloud_build_takes() -> None:
    tag = tags.build_tag("us-docker.pkg.dev/" + "p" * 200 + ":cpu-1", "a" * 64)

    assert tag.startswith("kinetic-aaaaaaaaaaaa-us-docker-pkg-dev")
    assert len(tag) <= 128


def test_a_registry_login_of_the_settings_names_secrets_of_the_project_and_of_others() -> None:
    own = registry_login("registry.example.com", "user:token", project="p")
    hub = registry_login("docker.io", "projects/q/secrets/user:token", project="p")

    assert own.registry == "registry.example.com"
    assert own.username_version == "projects/p/secrets/user/versions/latest"
    assert own.password_version == "projects/p/secrets/token/versions/latest"
    assert hub.registry == ""
    assert hub.username_version == "projects/q/secrets/user/versions/latest"
