"""`[tool.uv]` of a script's inline metadata holds as it does for `uv run`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.dependencies.simple_index import SimpleIndex, serve, wheel
from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.errors import DependencyError, LockError
from kinetic_flows.dependencies.discovery import discover
from kinetic_flows.dependencies.locking import Lock, Locker
from kinetic_flows.dependencies.targets import local_target
from kinetic_flows.dependencies.uv import find_uv

DEPENDS_ON_BETA = "dependencies = ['beta']\n[tool.uv]\n"
CORE = wheel("cloudpickle", "3.1.2")


@pytest.fixture(scope="module")
def public_index() -> Iterator[SimpleIndex]:
    with serve((CORE, wheel("alpha", "9.0"), wheel("beta", "1.0", ["alpha"]))) as served:
        yield served


@pytest.fixture(scope="module")
def company_index() -> Iterator[SimpleIndex]:
    packages = (CORE, wheel("alpha", "1.0"), wheel("alpha", "2.0"), wheel("beta", "1.0", ["alpha"]))
    with serve(packages) as served:
        yield served


def lock(tmp_path: Path, index: SimpleIndex, metadata: str, name: str = "job.py") -> Lock:
    """Lock the script of somebody whose own index is another one."""
    script = write(tmp_path, metadata, name)
    source = discover(
        requirements=None, entry_file=script, start=script.parent, home_directory=tmp_path
    )
    assert source.kind == "script"
    locker = Locker(store=MemoryStore(), home=tmp_path / "home", environ=environ(tmp_path, index))
    return locker.lock(source, local_target())


def write(tmp_path: Path, metadata: str, name: str = "job.py") -> Path:
    project = tmp_path / "project"
    project.mkdir(exist_ok=True)
    lines = "".join(f"# {line}".rstrip() + "\n" for line in metadata.splitlines())
    (project / name).write_text(f"# /// script\n{lines}# ///\n")
    return project / name


def environ(tmp_path: Path, index: SimpleIndex) -> dict[str, str]:
    config = tmp_path / "config" / "uv"
    config.mkdir(parents=True, exist_ok=True)
    (config / "uv.toml").write_text(f'[[index]]\nurl = "{index.url}"\ndefault = true\n')
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "nobody"),
        "XDG_CONFIG_HOME": str(config.parent),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "UV_PYTHON_DOWNLOADS": "never",
    }


def versions(found: Lock) -> dict[str, str]:
    return {package.name: package.version for package in found.packages}


def test_the_default_index_of_a_script_is_the_only_one(
    tmp_path: Path, public_index: SimpleIndex, company_index: SimpleIndex
) -> None:
    metadata = (
        f'dependencies = ["beta"]\n[[tool.uv.index]]\nurl = "{company_index.url}"\ndefault = true\n'
    )

    found = lock(tmp_path, public_index, metadata)

    assert versions(found)["alpha"] == "2.0"
    assert {wheel.filename.partition("-")[0] for wheel in found.wheels} >= {"alpha", "beta"}


def test_constraints_and_overrides_of_a_script_hold(
    tmp_path: Path, public_index: SimpleIndex, company_index: SimpleIndex
) -> None:
    index = f'[[tool.uv.index]]\nurl = "{company_index.url}"\ndefault = true\n'
    constrained = f"{DEPENDS_ON_BETA}constraint-dependencies = ['alpha<2']\n{index}"
    overridden = f"{DEPENDS_ON_BETA}override-dependencies = ['alpha==1.0']\n{index}"

    assert versions(lock(tmp_path, public_index, constrained))["alpha"] == "1.0"
    assert versions(lock(tmp_path, public_index, overridden, "other.py"))["alpha"] == "1.0"


def test_a_script_may_say_how_far_back_it_resolves(
    tmp_path: Path, public_index: SimpleIndex
) -> None:
    metadata = 'dependencies = ["alpha"]\n[tool.uv]\nexclude-newer = "2006-12-02T02:07:43Z"\n'

    with pytest.raises(LockError, match="alpha"):
        lock(tmp_path, public_index, metadata)


def test_a_directory_of_wheels_is_found_beside_the_script(
    tmp_path: Path, public_index: SimpleIndex
) -> None:
    script = write(tmp_path, "")
    filename, content = wheel("special", "0.1")
    (script.parent / "wheels").mkdir()
    (script.parent / "wheels" / filename).write_bytes(content)
    metadata = 'dependencies = ["special"]\n[tool.uv]\nfind-links = ["./wheels"]\n'

    assert versions(lock(tmp_path, public_index, metadata))["special"] == "0.1"


def test_a_setting_that_uv_does_not_know_is_uvs_error(
    tmp_path: Path, public_index: SimpleIndex
) -> None:
    metadata = 'dependencies = ["alpha"]\n[tool.uv]\nindex-strategy = "by-heart"\n'

    with pytest.raises(LockError, match="by-heart"):
        lock(tmp_path, public_index, metadata)


def test_a_credential_in_a_scripts_index_is_refused(
    tmp_path: Path, public_index: SimpleIndex
) -> None:
    metadata = (
        'dependencies = []\n[[tool.uv.index]]\nurl = "https://joe:s3cret@index.example/simple"\n'
    )

    with pytest.raises(DependencyError, match="credential") as caught:
        lock(tmp_path, public_index, metadata)
    assert "s3cret" not in str(caught.value)


def test_the_lock_beside_a_script_is_used_and_must_match(
    tmp_path: Path, company_index: SimpleIndex
) -> None:
    script = write(tmp_path, 'dependencies = ["alpha<2"]\n')
    subprocess.run(
        [find_uv(), "lock", "--quiet", "--script", str(script)],
        env=environ(tmp_path, company_index),
        check=True,
    )

    assert versions(lock(tmp_path, company_index, 'dependencies = ["alpha<2"]\n'))["alpha"] == "1.0"
    with pytest.raises(LockError, match="does not match") as caught:
        lock(tmp_path, company_index, 'dependencies = ["alpha>=2"]\n')
    assert "uv lock --script" in caught.value.hint
