"""Wheels that ship: which fit, what their bytes depend on, how they are installed."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from corpus.dependencies.simple_index import wheel
from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.dependencies.fit import best_wheel, misfit
from kinetic_flows.dependencies.local_wheels import normalized_wheel
from kinetic_flows.dependencies.lockfile import LockedPackage, ShippedWheel
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.trees import tree_digest
from kinetic_flows.dependencies.wheels import fetch_wheels, install_arguments, local_wheels
from kinetic_flows.images.bases import GLIBC, PLATFORM

CLOUD = Target(python="3.11", platform=PLATFORM, category="tpu", base_identity="b")


@pytest.mark.parametrize(
    "filename",
    [
        "x-1-py3-none-any.whl",
        "x-1-py2.py3-none-any.whl",
        "x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "x-1-cp311-cp311-manylinux_2_31_x86_64.whl",
        f"x-1-cp311-cp311-manylinux_{GLIBC.replace('.', '_')}_x86_64.whl",
        "x-1-cp39-abi3-manylinux_2_17_x86_64.whl",
        "x-1-py3-none-manylinux1_x86_64.whl",
    ],
)
def test_wheels_that_fit_the_images(filename: str) -> None:
    assert misfit(filename, CLOUD) is None


@pytest.mark.parametrize(
    ("filename", "word"),
    [
        ("x-1-cp311-cp311-macosx_11_0_arm64.whl", "macosx_11_0_arm64"),
        ("x-1-cp311-cp311-win_amd64.whl", "win_amd64"),
        ("x-1-cp311-cp311-manylinux_2_28_aarch64.whl", "aarch64"),
        ("x-1-cp311-cp311-manylinux_2_99_x86_64.whl", "manylinux_2_99"),
        ("x-1-cp311-cp311-musllinux_1_2_x86_64.whl", "musllinux"),
        ("x-1-cp312-cp312-manylinux_2_28_x86_64.whl", "Python 3.11"),
        ("x-1-py2-none-any.whl", "py2"),
        ("x.whl", "not the name of a wheel"),
    ],
)
def test_wheels_that_do_not_fit_are_refused_with_the_reason(filename: str, word: str) -> None:
    assert word in (misfit(filename, CLOUD) or "")


def test_the_most_specific_wheel_is_the_best() -> None:
    names = [
        "x-1-py3-none-any.whl",
        "x-1-cp311-cp311-manylinux_2_17_x86_64.whl",
        "x-1-cp311-cp311-win_amd64.whl",
    ]
    assert best_wheel(names, CLOUD) == names[1]
    assert best_wheel(names[2:], CLOUD) is None


def _zipped(members: list[tuple[str, str]], *, year: int, compression: int, mode: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, text in members:
            info = zipfile.ZipInfo(name, date_time=(year, 1, 1, 0, 0, 0))
            info.external_attr = mode << 16
            archive.writestr(info, text)
    return out.getvalue()


def test_order_times_permissions_and_compression_do_not_change_a_normalized_wheel() -> None:
    members = [("pkg/a.py", "A"), ("pkg/b.py", "B" * 99), ("pkg-1.dist-info/METADATA", "M")]
    one = _zipped(members, year=2020, compression=zipfile.ZIP_STORED, mode=0o100644)
    two = _zipped(members[::-1], year=1999, compression=zipfile.ZIP_DEFLATED, mode=0o100660)
    assert one != two
    assert normalized_wheel(one) == normalized_wheel(two)


def test_content_and_executable_bits_do_change_a_normalized_wheel() -> None:
    plain = _zipped([("run.sh", "x")], year=2020, compression=0, mode=0o100644)
    script = _zipped([("run.sh", "x")], year=2020, compression=0, mode=0o100755)
    other = _zipped([("run.sh", "y")], year=2020, compression=0, mode=0o100644)
    assert len({normalized_wheel(item) for item in (plain, script, other)}) == 3


def test_install_arguments_check_every_hash_and_find_shipped_wheels(tmp_path: Path) -> None:
    lock, wheels = tmp_path / "lock.txt", tmp_path / "wheels"
    bare = install_arguments(lock, wheels)
    wheels.mkdir()
    assert "--require-hashes" in bare
    assert "--find-links" not in bare
    assert install_arguments(lock, wheels)[-4:] == [
        "--find-links",
        str(wheels),
        "--requirements",
        str(lock),
    ]


def test_a_wheel_from_the_store_must_match_its_digest(tmp_path: Path) -> None:
    filename, data = wheel("mine", "1.0")
    digest = sha256_hex(data)
    package = LockedPackage(
        name="mine",
        version="1.0",
        hashes=(f"sha256:{digest}",),
        wheel=ShippedWheel(filename=filename, sha256=digest, size_bytes=len(data)),
    )
    store = MemoryStore()
    wheels = local_wheels([package], home=tmp_path)
    store.objects[f"wheels/{digest}/{filename}"] = data + b"!"
    with pytest.raises(LockError, match="digest"):
        fetch_wheels(wheels, store=store)
    store.objects[f"wheels/{digest}/{filename}"] = data
    fetch_wheels(wheels, store=store)
    assert wheels[0].path.read_bytes() == data


def _sources(root: Path) -> Path:
    (root / "pkg").mkdir(parents=True)
    (root / "pkg" / "__init__.py").write_text("A = 1")
    (root / "pyproject.toml").write_text("[project]")
    return root


def test_what_is_no_source_does_not_change_a_tree(tmp_path: Path) -> None:
    tree = _sources(tmp_path / "tree")
    before = tree_digest(tree, home=tmp_path / "home")
    for name in ("build/x", "dist/x.whl", ".git/HEAD", "pkg/__pycache__/a.pyc", "x.egg-info/y"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    (tree / "env").mkdir()
    (tree / "env" / "pyvenv.cfg").write_text("")
    (tree / "env" / "big.py").write_text("x")
    assert tree_digest(tree, home=tmp_path / "home") == before


def test_content_names_and_additions_change_a_tree(tmp_path: Path) -> None:
    tree = _sources(tmp_path / "tree")
    home = tmp_path / "home"
    found = [tree_digest(tree, home=home)]
    (tree / "pkg" / "__init__.py").write_text("A = 2")
    found.append(tree_digest(tree, home=home))
    (tree / "pkg" / "more.py").write_text("")
    found.append(tree_digest(tree, home=home))
    (tree / "pkg" / "more.py").rename(tree / "pkg" / "less.py")
    found.append(tree_digest(tree, home=home))
    assert len(set(found)) == 4


def test_an_edit_that_keeps_size_and_time_within_one_tick_is_seen(tmp_path: Path) -> None:
    tree = _sources(tmp_path / "tree")
    path = tree / "pkg" / "__init__.py"
    before = tree_digest(tree, home=tmp_path / "home")
    status = path.stat()
    path.write_text("A = 3")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert tree_digest(tree, home=tmp_path / "home") != before


def test_an_unchanged_settled_tree_is_not_read_again(tmp_path: Path) -> None:
    tree = _sources(tmp_path / "tree")
    for path in (tree / "pkg" / "__init__.py", tree / "pyproject.toml"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    before = tree_digest(tree, home=tmp_path / "home")
    (cached,) = (tmp_path / "home" / "trees").iterdir()
    cached.write_text(cached.read_text().replace(before, "0" * 64))
    assert tree_digest(tree, home=tmp_path / "home") == "0" * 64


def test_a_damaged_cache_of_digests_is_ignored(tmp_path: Path) -> None:
    tree = _sources(tmp_path / "tree")
    for path in (tree / "pkg" / "__init__.py", tree / "pyproject.toml"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    before = tree_digest(tree, home=tmp_path / "home")
    (cached,) = (tmp_path / "home" / "trees").iterdir()
    cached.write_text("{")
    assert tree_digest(tree, home=tmp_path / "home") == before
