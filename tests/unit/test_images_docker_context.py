"""Dockerfiles of somebody's own: what comes along with them, and what is said beforehand."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from textwrap import dedent

import pytest

from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.docker_context import read_context

INSTALL = "RUN pip install uv cloudpickle google-cloud-storage"
COPY = "COPY remote_runner.py /app/"


FILES = {
    "needs.txt": "# ours\nuv\ncloudpickle>=3 # pickles\ngoogle_cloud_storage==3.1 --hash=x\n",
    "src/pyproject.toml": 'dependencies = ["uv", "cloudpickle>=3", "google-cloud-storage"]',
    "install.sh": "pip install uv cloudpickle google-cloud-storage",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def warnings_of(text: str, directory: Path) -> tuple[str, ...]:
    """Return what is said of a Dockerfile's text before it is built."""
    path = directory / "Dockerfile.own"
    path.write_text(dedent(text).lstrip())
    return read_context(path, bootstrap=b"").warnings


GOOD = {
    "plain": f"FROM python:3.11\n{INSTALL}\n{COPY}",
    "lower case and comments in a continuation": """
        # escape=\\
        from python:3.11
        run pip install \\
            # what the runner needs
            uv \\
            cloudpickle==3.1.1 'google-cloud-storage>=3'
        copy --chown=1:1 ["remote_runner.py", "/app/"]
        """,
    "the backtick as escape": """
        # escape=`
        FROM python:3.11
        RUN pip install uv `
            cloudpickle google-cloud-storage
        COPY remote_runner.py /app/
        """,
    "variables": """
        ARG VERSION=3.11
        FROM python:${VERSION}-slim
        ARG PACKAGES="cloudpickle google-cloud-storage" OTHER
        ENV TOOL=uv HOME_DIR=/app
        RUN pip install ${TOOL:-pip} $PACKAGES
        COPY remote_runner.py ${HOME_DIR}/
        """,
    "a heredoc": f"""
        FROM python:3.11
        RUN <<EOF
        set -e
        pip install uv
        uv pip install --system cloudpickle google-cloud-storage
        EOF
        {COPY}
        """,
    "a requirements file": f"""
        FROM python:3.11
        COPY needs.txt /tmp/requirements.txt
        RUN pip install --no-cache-dir -r /tmp/requirements.txt
        {COPY}
        """,
    "a mounted requirements file and uv's image": f"""
        FROM python:3.11
        COPY --from=ghcr.io/astral-sh/uv:latest /uv /uvx /bin/
        RUN --mount=type=bind,source=needs.txt,target=/n.txt uv pip install --system -r /n.txt
        {COPY}
        """,
    "uv's installer and a project": f"""
        FROM python:3.11
        COPY src /src
        RUN curl -LsSf https://astral.sh/uv/install.sh | sh && cd /src && uv sync --frozen
        {COPY}
        """,
    "an earlier stage as the base": f"""
        FROM python:3.11 AS base
        {INSTALL}
        FROM base
        WORKDIR /app
        COPY remote_runner.py .
        """,
    "an environment copied from an earlier stage": f"""
        FROM python:3.11 AS build
        {INSTALL}
        FROM python:3.11-slim
        COPY --from=build /usr/local /usr/local
        COPY . /app/
        """,
    "a stage whose ONBUILD runs in the next": f"""
        FROM python:3.11 AS base
        ONBUILD {INSTALL}
        FROM base
        {COPY}
        """,
    "our own base": "FROM us-docker.pkg.dev/p/r/base-gpu:1.0-py3.11\nRUN apt-get install -y x",
    "a script": f"FROM python:3.11\nCOPY install.sh /\nRUN bash /install.sh\n{COPY}",
    "a loop": f"""
        FROM python:3.11
        RUN for p in uv cloudpickle google-cloud-storage; do pip install $p; done
        {COPY}
        """,
    "files made by heredocs and an image named by an argument without a default": f"""
        ARG BASE
        FROM ${{BASE}} AS last
        COPY <<here.txt /etc/it's
        apt-get \\
        here.txt
        FUTURE instruction
        {INSTALL}
        {COPY}
        """,
    "exec form": """
        FROM python:3.11
        RUN ["python3", "-m", "pip", "install", "uv", "cloudpickle", "google-cloud-storage"]
        ADD remote_runner.py /app/remote_runner.py
        """,
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_nothing_is_said_of_a_dockerfile_that_mentions_what_the_runner_needs(
    text: str, directory: Path
) -> None:
    assert warnings_of(text, directory) == ()


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        (
            f"FROM registry.example.com/base:1\n{COPY}",
            "installs uv, installs cloudpickle, installs google-cloud-storage;",
            "RUN python3 -m pip install --no-cache-dir uv cloudpickle google-cloud-storage",
        ),
        (
            f"FROM python:3.11\nRUN pip install uv cloudpickle\n{COPY}",
            "installs google-cloud-storage;",
            "RUN python3 -m pip install --no-cache-dir google-cloud-storage",
        ),
        (
            f"FROM python:3.11\n# RUN pip install uv cloudpickle google-cloud-storage\n{COPY}",
            "installs uv",
            "uv cloudpickle google-cloud-storage",
        ),
        (f"FROM python:3.11\n{INSTALL}", "puts remote_runner.py into /app/", COPY),
    ],
)
def test_what_is_mentioned_nowhere_is_a_warning_with_the_line_to_add(
    text: str, problem: str, line: str, directory: Path
) -> None:
    (warning,) = warnings_of(text, directory)

    assert problem in warning
    assert "the build's smoke test decides" in warning
    assert warning.endswith(line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN pip install uv", "line 1: RUN stands before the first FROM"),
        ("ARG A=1\nCOPY a b\nFROM python", "line 2: COPY stands before the first FROM"),
        ("# nothing", "it has no FROM"),
    ],
)
def test_what_is_no_dockerfile_is_refused_with_its_line(
    text: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=words):
        warnings_of(text, tmp_path)


def test_the_arguments_that_it_declares_are_known(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(
        "ARG KINETIC_PYTHON=3.11 OTHER\nFROM python:${KINETIC_PYTHON:-3.12}\nARG LAST\n"
    )
    found = read_context(path, bootstrap=b"").arguments
    assert found == {"KINETIC_PYTHON", "OTHER", "LAST"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("needed.txt", "secret.env", "other.txt", "src/a.py", "src/b.pyc", "run.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / ".dockerignore").write_text("*.env\n**/*.pyc\n!needed.txt\n")
    return tmp_path


def context_of(project: Path, extra: str) -> dict[str, tarfile.TarInfo]:
    path = project / "Dockerfile.own"
    path.write_text(f"FROM python:3.11\n{INSTALL}\n{COPY}\n{extra}\n")
    context = read_context(path, bootstrap=b"bootstrap").files
    assert context.dockerfile == "Dockerfile.own"
    with tarfile.open(fileobj=io.BytesIO(context.archive())) as archive:
        return {entry.name: entry for entry in archive.getmembers()}


def test_only_what_is_copied_and_not_ignored_comes_along(project: Path) -> None:
    assert set(context_of(project, "COPY needed.txt src run.sh /app/")) == {
        *("Dockerfile.own", "needed.txt", "remote_runner.py", "run.sh", "src/a.py"),
    }
    below = context_of(project, "ARG PART\nCOPY src/${PART}/x /app/")
    assert set(below) == {"Dockerfile.own", "remote_runner.py", "src/a.py"}
    everything = context_of(project, "COPY . /app/")
    assert {"other.txt", "src/a.py", ".dockerignore"} <= set(everything)
    assert not {"secret.env", "src/b.pyc"} & set(everything)
    assert everything["run.sh"].mode == 0o755
    assert everything["other.txt"].mode == 0o644


def test_a_dockerfiles_own_ignore_file_takes_the_place_of_the_common_one(project: Path) -> None:
    (project / "Dockerfile.own.dockerignore").write_text("src\n")
    names = set(context_of(project, "COPY . /app/"))
    assert "secret.env" in names
    assert "src/a.py" not in names


def test_a_dockerfile_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"Dockerfile\.none cannot be read"):
        read_context(tmp_path / "Dockerfile.none", bootstrap=b"")
