"""Why an environment is new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.dependencies.explain import (
    HISTORY_LENGTH,
    explain_change,
    package_table,
    remember,
)
from kinetic_flows.dependencies.lockfile import LockedPackage, environment_spec, format_lock
from kinetic_flows.dependencies.targets import Target

TARGET = Target(python="3.11", platform="linux-x86_64", category="cpu", base_identity="b")


def _environment(target: Target = TARGET, **packages: str) -> EnvironmentSpec:
    locked = [
        LockedPackage(name=name, version=version.split("/")[0], hashes=(f"sha256:{_hex(version)}",))
        for name, version in packages.items()
    ]
    return environment_spec(format_lock(locked), target)


def _hex(text: str) -> str:
    return text.encode().hex().ljust(64, "0")


def _after(home: Path, *earlier: EnvironmentSpec, now: EnvironmentSpec) -> tuple[str, ...]:
    for environment in earlier:
        remember(home=home, project_root=home, environment=environment)
    return explain_change(home=home, project_root=home, environment=now)


def test_a_first_environment_says_so(tmp_path: Path) -> None:
    assert "first" in _after(tmp_path, now=_environment(numpy="2.1.0"))[0]


def test_versions_additions_and_removals_are_named(tmp_path: Path) -> None:
    lines = _after(
        tmp_path,
        _environment(numpy="2.1.0", six="1.17"),
        now=_environment(numpy="2.1.1", tqdm="4.0"),
    )
    assert lines == ("numpy 2.1.0 → 2.1.1", "- six 1.17", "+ tqdm 4.0")


def test_a_change_of_python_is_named(tmp_path: Path) -> None:
    now = _environment(replace(TARGET, python="3.12"), numpy="2.1.0")
    assert _after(tmp_path, _environment(numpy="2.1.0"), now=now) == ("python 3.11 → 3.12",)


def test_a_change_of_the_base_is_named_without_its_digests(tmp_path: Path) -> None:
    now = _environment(replace(TARGET, base_identity="c"), numpy="2.1.0")
    assert _after(tmp_path, _environment(numpy="2.1.0"), now=now) == ("the base image changed",)


def test_other_files_under_the_same_version_are_named(tmp_path: Path) -> None:
    lines = _after(tmp_path, _environment(mine="0.1/a"), now=_environment(mine="0.1/b"))
    assert lines == ("mine 0.1: same version, other files",)


def test_the_nearest_earlier_environment_is_compared(tmp_path: Path) -> None:
    near, far = _environment(a="1", b="1", c="1"), _environment(z="9")
    assert _after(tmp_path, near, far, now=_environment(a="1", b="1", c="2")) == ("c 1 → 2",)


def test_the_same_environment_has_no_differences(tmp_path: Path) -> None:
    assert _after(tmp_path, _environment(a="1"), now=_environment(a="1")) == ()


def test_projects_have_histories_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    remember(home=tmp_path, project_root=tmp_path / "other", environment=_environment(a="1"))
    assert "first" in _after(tmp_path, now=_environment(a="2"))[0]


def test_the_history_stays_small(tmp_path: Path) -> None:
    for number in range(HISTORY_LENGTH + 5):
        remember(home=tmp_path, project_root=tmp_path, environment=_environment(a=str(number)))
    lines = explain_change(home=tmp_path, project_root=tmp_path, environment=_environment(a="0"))
    assert lines != ()


def test_a_history_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    remember(home=tmp_path, project_root=tmp_path, environment=_environment(a="1"))
    for path in (tmp_path / "history").iterdir():
        path.write_text("{broken")
    assert "first" in _after(tmp_path, now=_environment(a="2"))[0]


def test_the_table_lists_packages_with_what_they_were(tmp_path: Path) -> None:
    remember(home=tmp_path, project_root=tmp_path, environment=_environment(a="1", b="1"))
    now = _environment(a="2", b="1", c="3")
    rows = package_table(home=tmp_path, project_root=tmp_path, environment=now)
    assert rows == [
        {"package": "a", "version": "2", "before": "1", "from": "index"},
        {"package": "b", "version": "1", "before": "1", "from": "index"},
        {"package": "c", "version": "3", "before": "", "from": "index"},
    ]
