"""`-e` lines mean what uv takes them to mean: uv itself is the judge."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.lines import Line, normalized
from kinetic_flows.dependencies.requirements_file import read_requirements
from kinetic_flows.dependencies.uv import find_uv

PYPROJECT = """\
[project]
name = "{name}"
version = "0.1"
dependencies = []
optional-dependencies.x = []
"""

FLAGS = st.sampled_from(["-e ", "-e  ", "-e=", "-e = ", "--editable ", "--editable="])
TARGETS = st.sampled_from(
    (
        *("lib", "lib/", "./lib", "sub/lib2", "sub/../lib", "${HERE}/lib", "./", "absent"),
        *("file:lib", "file:./sub/lib2", "lib @ ./lib", "lib@./lib", "lib @ file:${HERE}/lib"),
        *("numpy", "lib==0.1"),
    )
)
EXTRAS = st.sampled_from(["", "", "[x]"])
MARKERS = st.sampled_from(
    (
        *("", "", ' ; python_version >= "3.9"', "; python_version >= '3.9'"),
        *(" ;python_version>='3'", ';python_version>="3"', ' ; python_version < "3.9"'),
        "; sys_platform == 'linux' and os_name == \"posix\"",
    )
)
COMMENTS = st.sampled_from(["", "  # why", "\t# -e other"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("editable")
    for place in ("lib", "sub/lib2"):
        (root / place).mkdir(parents=True)
        name = Path(place).name
        (root / place / "pyproject.toml").write_text(PYPROJECT.format(name=name))
    return root


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flag=FLAGS, target=TARGETS, extras=EXTRAS, marker=MARKERS, comment=COMMENTS)
def test_an_editable_line_leads_where_uv_is_led(
    project: Path, flag: str, target: str, extras: str, marker: str, comment: str
) -> None:
    line = f"{flag}{target}{extras}{marker}{comment}"
    expected = uv_places(project, line)
    try:
        (found,) = read(project, line)
    except DependencyError:
        # A directory that is not there is refused here even where its marker does not hold.
        assert not expected, line
    else:
        assert expected is not None, f"uv refuses {line!r}"
        assert found.kind == "local", line
        # What is handed on must lead there, too, with the marker still in force.
        assert uv_places(project, normalized(found)) == expected


def test_a_bare_name_is_the_directory_and_not_the_package_of_an_index(project: Path) -> None:
    (found,) = read(project, "-e lib")

    assert (found.kind, found.path) == ("local", project / "lib")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_the_whole_path_go_and_those_of_a_marker_stay(
    project: Path, quote: str
) -> None:
    (quoted,) = read(project, f"-e {quote}./lib{quote}")
    (marked,) = read(project, f"-e ./lib ; python_version >= {quote}3.9{quote}")

    assert quoted.path == marked.path == project / "lib"
    assert marked.text.endswith(f"python_version >= {quote}3.9{quote}")


def test_a_package_of_an_index_cannot_be_editable(project: Path) -> None:
    with pytest.raises(DependencyError, match="cannot be editable") as caught:
        read(project, "-e lib==0.1")
    assert "lib==0.1" in caught.value.hint


def read(project: Path, line: str) -> tuple[Line, ...]:
    file = project / "requirements.txt"
    file.write_text(f"{line}\n")
    environ = {"HERE": str(project)}
    return read_requirements(file, working_directory=project, environ=environ).lines


def uv_places(project: Path, line: str) -> list[Path] | None:
    """Return the directories that uv resolves a line to; None where it refuses the line."""
    (project / "asked.txt").write_text(f"{line}\n")
    command = [find_uv(), "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    done = subprocess.run(
        [*command, "--no-deps", "--offline", "--no-config", "asked.txt"],
        cwd=project,
        env={"PATH": os.environ["PATH"], "HOME": str(project), "HERE": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return None
    return list(_paths(project, done.stdout.replace("${HERE}", str(project))))


def _paths(project: Path, output: str) -> Iterator[Path]:
    for line in output.splitlines():
        location = line.removeprefix("-e ").rpartition(" @ ")[2].partition(" ; ")[0]
        location = unquote(location.removeprefix("file://").removeprefix("file:"))
        yield (project / location).resolve()
