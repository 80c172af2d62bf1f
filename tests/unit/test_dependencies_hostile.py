"""Whatever a dependency file holds, it is read or refused with an error of our own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kinetic_flows.core.errors import DependencyError, LockError
from kinetic_flows.dependencies.declaration import read_declaration
from kinetic_flows.dependencies.discovery import DependencySource, SourceKind
from kinetic_flows.dependencies.inputs import inputs_digest
from kinetic_flows.dependencies.pylock import RemoteFile, read_pylock
from kinetic_flows.dependencies.requirements_file import requirement_list
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv_settings import uv_settings

TARGET = Target(python="3.11", platform="x86_64-manylinux_2_28", category="tpu", base_identity="b")

fragments = st.sampled_from(
    ["-r ", "-c ", "-e ", "--hash=", "\\\n", "\n", " # x", "${HOME}", "~nobody/", "file://",
     "file:", "git+https://", "@", " ; ", "[", "]", "==", "../", "./", "\0", "\x0c", "#egg=",
     "--index-url ", "numpy", "é", "\u2028", "%2f", "'", '"', ".whl"]
)  # fmt: skip
texts = st.lists(fragments | st.text(max_size=5), max_size=12).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.just("x"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("a"), inner, max_size=1),
    max_leaves=4,
)


def _read(directory: Path, name: str, data: bytes, kind: SourceKind) -> None:
    path = directory / name
    path.write_bytes(data)
    source = DependencySource(kind=kind, path=path, project_root=directory)
    declared = read_declaration(source, TARGET, environ={})
    inputs_digest(declared, TARGET, settings=uv_settings(directory, {}), home=directory, environ={})


@given(st.binary(max_size=60) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"-r \0")
@example(b"./\0")
@example(b"-e ~nobody/x")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_requirements_file_is_read_or_refused(tmp_path: Path, data: bytes) -> None:
    directory = tmp_path / "project"
    directory.mkdir(exist_ok=True)
    with suppress(DependencyError):
        _read(directory, "requirements.txt", data, "requirements")


@pytest.mark.parametrize(
    "key",
    [
        "project",
        "project.dependencies",
        "project.optional-dependencies",
        "project.optional-dependencies.x",
        "project.requires-python",
        "project.dynamic",
        "dependency-groups",
        "dependency-groups.g",
        "tool",
        "tool.kinetic",
        "tool.kinetic.extras",
        "tool.kinetic.requirements",
        "tool.poetry",
        "tool.uv",
        "tool.uv.pip",
        "tool.uv.index",
        "tool.uv.sources",
        "tool.uv.sources.numpy",
        "tool.uv.sources.numpy.path",
        "tool.uv.workspace",
        "tool.uv.workspace.members",
    ],
)
@pytest.mark.parametrize(
    "value", ["3", "true", '"x"', "[]", "[1]", '["x"]', "{}", "{ a = 1 }", "[{ a = [] }]", "1.5"]
)
def test_a_table_of_the_wrong_shape_is_read_or_refused(
    tmp_path: Path, key: str, value: str
) -> None:
    select = "" if key.startswith(("tool.kinetic", "tool =")) or key == "tool" else SELECT
    base = "" if key.startswith("project") and key.count(".") == 0 else 'project.name = "x"\n'
    depends = "" if key in ("project", "project.dependencies") else DEPENDS
    text = f"{key} = {value}\n{base}{depends}{select}"
    with suppress(DependencyError):
        _read(tmp_path, "pyproject.toml", text.encode(), "pyproject")


SELECT = 'tool.kinetic.extras = ["x"]\ntool.kinetic.groups = ["g"]\n'
DEPENDS = 'project.dependencies = ["numpy"]\n'


@given(st.lists(texts, min_size=1, max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_item_of_a_list_is_taken_for_an_option(tmp_path: Path, items: list[str]) -> None:
    try:
        found = requirement_list(items, base=tmp_path)
    except DependencyError:
        return
    for line in found.lines:
        assert line.kind != "option"
        assert not line.text.startswith("-")
        assert "\n" not in line.text


@given(st.text(max_size=60) | values.map(lambda value: f"packages = [{{ name = {value!r} }}]"))
def test_any_pylock_is_read_or_refused(text: str) -> None:
    with suppress(LockError):
        read_pylock(f'lock-version = "1.0"\n{text}')


@pytest.mark.parametrize("location", ["https://h/..%2f..%2fevil.whl", "https://h/a/%2fetc%2fx.whl"])
def test_a_quoted_slash_is_no_part_of_a_file_name(location: str) -> None:
    assert "/" not in RemoteFile(location=location, hashes=()).filename
