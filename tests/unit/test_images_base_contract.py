"""Dockerfiles of somebody's own: read as Docker reads them, and held to the contract."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from textwrap import dedent

import pytest

from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.base_contract import doubts
from kinetic_flows.images.docker_context import read_context
from kinetic_flows.images.dockerfile_parser import read_dockerfile, replace_variables

INSTALL = "RUN pip install uv cloudpickle google-cloud-storage"
COPY = "COPY remote_runner.py /app/"


def check(text: str, files: dict[str, bytes] | None = None) -> tuple[str, ...]:
    """Return what cannot be seen in a Dockerfile's text."""
    dockerfile = read_dockerfile(dedent(text).lstrip(), {"KINETIC_CATEGORY": "gpu"})
    return doubts(dockerfile, files or {}, path="Dockerfile.own")


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
        ARG PACKAGES="cloudpickle google-cloud-storage"
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
    "exec form": """
        FROM python:3.11
        RUN ["python3", "-m", "pip", "install", "uv", "cloudpickle", "google-cloud-storage"]
        ADD remote_runner.py /app/remote_runner.py
        """,
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_a_dockerfile_that_keeps_the_contract_passes(text: str) -> None:
    files = {
        "needs.txt": b"# ours\nuv\ncloudpickle>=3 # pickles\ngoogle_cloud_storage==3.1 --hash=x\n",
        "pyproject.toml": b'dependencies = ["cloudpickle>=3", "google-cloud-storage"]',
    }
    assert check(text, files) == ()


@pytest.mark.parametrize(
    "text",
    [
        f"FROM registry.example.com/base:1\n{COPY}",
        f"FROM python:3.11\nCOPY . /src\nRUN make -C /src deps\n{COPY}",
        f"FROM python:3.11\nCOPY setup.sh /\nRUN bash setup.sh\n{COPY}",
        f"FROM python:3.11\nRUN for p in uv cloudpickle; do pip install $p; done\n{COPY}",
    ],
)
def test_what_a_script_or_the_image_below_may_bring_is_no_more_than_a_warning(text: str) -> None:
    (warning,) = check(text)

    assert "the build's smoke test decides" in warning
    assert "remote_runner.py" not in warning


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        (
            f"FROM python:3.11\nRUN pip install uv cloudpickle\n{COPY}",
            "installs google-cloud-storage",
            "RUN python3 -m pip install --no-cache-dir google-cloud-storage",
        ),
        (
            f"FROM python:3.11\n# RUN pip install uv cloudpickle google-cloud-storage\n{COPY}",
            "installs uv",
            "RUN python3 -m pip install --no-cache-dir uv cloudpickle google-cloud-storage",
        ),
        (
            f"FROM python:3.11\nRUN echo uv cloudpickle google-cloud-storage\n{COPY}",
            "installs cloudpickle",
            "uv cloudpickle google-cloud-storage",
        ),
        (f"FROM python:3.11\n{INSTALL}", "puts remote_runner.py into /app/", COPY),
        (
            f"FROM python:3.11\n{INSTALL}\nCOPY remote_runner.py /app",
            "puts remote_runner.py",
            COPY,
        ),
        (
            f"FROM python:3.11 AS build\n{INSTALL}\n{COPY}\nFROM python:3.11-slim\nUSER 1",
            "installs uv",
            "after line 5",
        ),
        (
            f"FROM python:3.11\nONBUILD {INSTALL}\n{COPY}",
            "(line 2 does so ONBUILD: only in images made from this one)",
            "after line 3",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_line_to_add(text: str, problem: str, line: str) -> None:
    (warning,) = check(text)
    assert problem in warning
    assert line in warning


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN pip install uv", "line 1: RUN stands before the first FROM"),
        ("# nothing", "it has no FROM"),
        ("FROM python\nCOPPY a b", "did you mean 'copy'"),
        ("ARG BASE=\nFROM ${BASE}", "line 2: the image in"),
    ],
)
def test_what_is_no_dockerfile_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ImageError, match=words.replace("$", r"\$")):
        check(text)


def test_variables_are_replaced_as_docker_does() -> None:
    known = {"A": "1", "EMPTY": ""}
    text = r"$A ${A} ${EMPTY:-2} ${B:-3} ${A:+4} \$A $B"
    assert replace_variables(text, known) == r"1 1 2 3 4 \$A $B"


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
    context, _, _ = read_context(path, bootstrap=b"bootstrap", arguments={})
    assert context.dockerfile == "Dockerfile.own"
    with tarfile.open(fileobj=io.BytesIO(context.archive())) as archive:
        return {entry.name: entry for entry in archive.getmembers()}


def test_only_what_is_copied_and_not_ignored_comes_along(project: Path) -> None:
    assert set(context_of(project, "COPY needed.txt src run.sh /app/")) == {
        *("Dockerfile.own", "needed.txt", "remote_runner.py", "run.sh", "src/a.py"),
    }
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
        read_context(tmp_path / "Dockerfile.none", bootstrap=b"", arguments={})
