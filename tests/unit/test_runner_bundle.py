"""The runner as it is sent."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from textwrap import dedent

from kinetic_flows.code.runner_bundle import PACKAGE, STUBS, runner_bundle
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.images.bases import read_bootstrap

SHOW_DIGEST = (
    "from kinetic_flows.code.runner_bundle import runner_bundle; print(runner_bundle().sha256)"
)
ALLOWED = frozenset(sys.stdlib_module_names) | {"cloudpickle", "google", "google_crc32c"}


def _sources() -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(runner_bundle().data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_another_process_at_another_time_makes_the_same_bytes() -> None:
    environ = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    shown = subprocess.run(
        [sys.executable, "-c", SHOW_DIGEST], capture_output=True, text=True, check=True, env=environ
    )
    assert shown.stdout.strip() == runner_bundle().sha256 == sha256_hex(runner_bundle().data)


def test_members_are_sorted_and_carry_no_time() -> None:
    with zipfile.ZipFile(io.BytesIO(runner_bundle().data)) as archive:
        members = archive.infolist()
    assert [item.filename for item in members] == sorted(item.filename for item in members)
    assert {item.date_time for item in members} == {(1980, 1, 1, 0, 0, 0)}
    assert not any(item.filename.endswith(".pyc") for item in members)


WHERE_THERE = {
    *("certifi", "compression", "debugpy", "google_crc32c", "jax", "jaxlib"),
    *("prefect", "pydantic", "typing_extensions"),
}
"""For functions that are flows, and for parameters of other types than JSON has, in images that
have them; pydantic brings typing_extensions along, and google-cloud-storage certifi (through
requests) and google_crc32c. debugpy comes with the runs that ask for it,
and jax is where a rehearsal compiles with it. compression is Python's own since 3.14."""


def _imported_by(sources: dict[str, str]) -> set[str]:
    imported = set()
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source, name)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
    return imported


def test_the_runner_imports_the_standard_library_cloudpickle_and_google_alone() -> None:
    sources = {k: v for k, v in _sources().items() if not k.startswith(f"{STUBS}/")}
    imported = _imported_by({**sources, "bootstrap": read_bootstrap().decode()})
    assert imported - ALLOWED - WHERE_THERE == {PACKAGE}


def test_what_runs_have_of_this_package_imports_the_standard_library_and_itself_alone() -> None:
    sources = {k: v for k, v in _sources().items() if k.startswith(f"{STUBS}/")}
    assert _imported_by(sources) - frozenset(sys.stdlib_module_names) == {"kinetic_flows"}


def test_cloud_storage_is_imported_only_where_it_is_used() -> None:
    for name, source in {**_sources(), "bootstrap": read_bootstrap().decode()}.items():
        for node in ast.parse(source, name).body:
            names = ast.dump(node) if isinstance(node, ast.Import | ast.ImportFrom) else ""
            assert "google" not in names
            assert "cloudpickle" not in names


def test_the_sources_say_what_an_old_python_understands() -> None:
    for name, source in {**_sources(), "bootstrap": read_bootstrap().decode()}.items():
        ast.parse(source, name, feature_version=(3, 9))


def test_the_bootstrap_is_small_enough_for_a_command_line() -> None:
    # Linux takes at most 128 KiB in one argument: MAX_ARG_STRLEN in execve(2).
    assert len(read_bootstrap().decode()) < 10_000


def in_a_run_without_this_package(tmp_path: Path, program: str) -> str:
    """Return what a program prints that has of this package what runs have of it."""
    archive = tmp_path / "runner.pyz"
    archive.write_bytes(runner_bundle().data)
    begin = f"import sys; sys.path.insert(0, {f'{archive}/stubs'!r})\n"
    # Without site-packages, where this package is.
    command = [sys.executable, "-I", "-S", "-c", begin + dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_who_looks_at_every_module_of_a_run_is_not_stopped_by_ours(tmp_path: Path) -> None:
    shown = in_a_run_without_this_package(
        tmp_path,
        """
        import inspect
        import kinetic
        asked = [hasattr(module, "__file__") for module in list(sys.modules.values())]
        print(len(asked) > 9, inspect.getframeinfo(sys._getframe()).function)
        print(hasattr(kinetic, "run_async"), hasattr(kinetic, "__wrapped__"))
        print(hasattr(sys.modules["kinetic_flows.clients.kubernetes_client"], "Job"))
        """,
    )
    assert shown.split("\n")[:3] == ["True <module>", "False False", "False"]


def test_data_is_written_and_refused_in_a_run_as_elsewhere(tmp_path: Path) -> None:
    shown = in_a_run_without_this_package(
        tmp_path,
        """
        import kinetic
        print(kinetic.Data("gs://bucket/x").kind)
        try:
            kinetic.Data("gs://bucket/x", fuse=True)
        except kinetic.KineticError as error:
            print(error)
        """,
    )
    assert shown.startswith("bucket\nkinetic.Data() has no option 'fuse'\n")
    assert 'mode="mount"' in shown
