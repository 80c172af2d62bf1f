"""Every dependency file of the corpus gives the right lock, or an error that says where."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpus.dependencies.simple_index import SimpleIndex, sdist, serve, wheel
from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.discovery import discover
from kinetic_flows.dependencies.locking import Lock, Locker
from kinetic_flows.dependencies.targets import Target, cloud_target, local_target

CORPUS = Path(__file__).parent.parent / "corpus" / "dependencies" / "cases"
CASES = sorted(path.name for path in CORPUS.iterdir())

CORE = {"cloudpickle"}
CLOUD_CORE = {"cloudpickle": "3.1.2", "google-cloud-storage": "3.2"}
RUNTIME = {"jax": "0.5.0", "jaxlib": "0.5.0", "libtpu": "0.1"}
BASE_LOCK = "alpha==1.1\ncloudpickle==3.1.2\njax==0.5.0\njaxlib==0.5.0\nlibtpu==0.1\n"

PACKAGES = (
    *(wheel("alpha", version) for version in ("1.0", "1.1", "2.0")),
    wheel("beta", "1.0", ["alpha>=1"]),
    wheel("gamma", "1.0", extras={"x": ["delta"]}),
    wheel("delta", "0.1"),
    wheel("epsilon", "0.9"),
    wheel("epsilon", "1.0rc1"),
    wheel("Mixed_Case.Pkg", "1.0"),
    wheel("maconly", "1.0", tag="cp311-cp311-macosx_11_0_arm64"),
    sdist("sourceonly", "1.0"),
    wheel("jax", "0.4.0", ["jaxlib==0.4.0"], extras={"tpu": ["libtpu"], "k8s": ["delta"]}),
    wheel("jax", "0.5.0", ["jaxlib==0.5.0"], extras={"tpu": ["libtpu"], "k8s": ["delta"]}),
    wheel("jaxlib", "0.4.0"),
    wheel("jaxlib", "0.5.0"),
    wheel("libtpu", "0.1"),
    wheel("libtpu", "0.2"),
    wheel("flaxlike", "1.0", ["jax>=0.4"]),
    wheel("oldjaxuser", "1.0", ["jax<0.5"]),
    wheel("cloudpickle", "3.1.2"),
    wheel("google-cloud-storage", "3.2"),
)


@pytest.fixture(scope="module")
def index() -> Iterator[SimpleIndex]:
    with serve(PACKAGES) as served:
        yield served


@pytest.fixture(scope="module")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uv-cache")


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("name", CASES)
def test_dependency_file_of_the_corpus_gives_its_lock_or_its_error(
    name: str, tmp_path: Path, index: SimpleIndex, uv_cache: Path
) -> None:
    expected = json.loads((CORPUS / name / "expect.json").read_text())
    project = _unpacked(CORPUS / name / "project", tmp_path / "project", index)
    environ = _environ(expected, index, uv_cache, tmp_path)

    if "error" in expected:
        with pytest.raises(DependencyError) as caught:
            _lock(project, expected, environ, tmp_path)
        for part in expected["error"]:
            assert part in caught.value.message
        assert "hunter2secret" not in str(caught.value)
        return

    lock = _lock(project, expected, environ, tmp_path)

    found = {package.name: package.version for package in lock.packages}
    assert found == _expected_packages(expected)
    for part in expected.get("warnings", ()):
        assert part in "\n".join(lock.warnings)
    if "warnings" not in expected:
        assert lock.warnings == ()


def _lock(project: Path, expected: dict[str, Any], environ: dict[str, str], tmp: Path) -> Lock:
    source = discover(
        requirements=expected.get("requirements"),
        entry_file=project / expected["entry"] if "entry" in expected else None,
        start=project / expected.get("start", "."),
        home_directory=tmp,
    )
    locker = Locker(store=MemoryStore(), home=tmp / "home", environ=environ)
    return locker.lock(source, _target(expected), write=False)


def _target(expected: dict[str, Any]) -> Target:
    if expected.get("target") == "tpu":
        return cloud_target("tpu", "3.11", base_lock=BASE_LOCK, base_identity="base")
    return local_target()


def _expected_packages(expected: dict[str, Any]) -> dict[str, str]:
    packages = dict(expected["packages"])
    if expected.get("target") == "tpu":
        packages = {**RUNTIME, **CLOUD_CORE, **packages}
    else:
        packages = {"cloudpickle": "3.1.2", **packages}
    absent = {name[1:] for name in packages if name.startswith("-")}
    return {
        name: version
        for name, version in packages.items()
        if name not in absent and not name.startswith("-")
    }


def _environ(
    expected: dict[str, Any], index: SimpleIndex, uv_cache: Path, tmp: Path
) -> dict[str, str]:
    own = {key: _filled(value, index) for key, value in expected.get("environ", {}).items()}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp / "nobody"),
        "UV_CACHE_DIR": str(uv_cache),
        "UV_DEFAULT_INDEX": index.url,
        "UV_PYTHON_DOWNLOADS": "never",
        **own,
    }


def _unpacked(source: Path, target: Path, index: SimpleIndex) -> Path:
    """Copy a case, as git keeps it, and write the index's address into its files."""
    shutil.copytree(source, target, symlinks=True)
    for path in target.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if b"{index}" in data:
                path.write_bytes(
                    data.replace(b"{index}", index.url.removesuffix("/simple").encode())
                )
    return target


def _filled(text: str, index: SimpleIndex) -> str:
    return text.replace("{index}", index.url.removesuffix("/simple"))
