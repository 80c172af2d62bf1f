"""The wheel of each package of a lock: which one is taken, and that it is what was locked."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corpus.dependencies.simple_index import SimpleIndex, serve, wheel
from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.errors import LockError, ObjectNotFoundError
from kinetic_flows.core.interruption import interruptible
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.object_names import wheel_object
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.dependencies.lockfile import LockedPackage, ShippedWheel, format_lock
from kinetic_flows.dependencies.uv import Completed
from kinetic_flows.dependencies.wheel_files import (
    MAX_AGE_SECONDS,
    ChosenWheels,
    WheelDownloads,
    choose_wheels,
)
from kinetic_flows.images.bases import PLATFORM

PUBLIC = "https://files.pythonhosted.org/packages"
MANYLINUX = "manylinux_2_17_x86_64"


@dataclass
class Index:
    """Stands where uv does, and answers with the files that an index has."""

    files: Mapping[str, Mapping[str, str]]
    host: str = PUBLIC
    calls: list[Sequence[str]] = field(default_factory=list)
    environ: Mapping[str, str] = field(default_factory=dict)
    asked: str = ""

    def __call__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        timeout_seconds: float,
    ) -> Completed:
        self.calls.append(command)
        self.environ = environ
        self.asked = Path(command[-1]).read_text()
        lines = ['lock-version = "1.0"', 'created-by = "uv"']
        for name, files in self.files.items():
            lines += ["[[packages]]", f'name = "{name}"', 'version = "1.0"']
            entries = {
                filename: f'{{ url = "{self.host}/{filename}", size = {len(filename)}, '
                f'hashes = {{ sha256 = "{digest}" }} }}'
                for filename, digest in files.items()
            }
            wheels = [entry for filename, entry in entries.items() if filename.endswith(".whl")]
            lines.append(f"wheels = [{', '.join(wheels)}]")
            lines += [f"sdist = {entry}" for name, entry in entries.items() if "tar.gz" in name]
        Path(command[list(command).index("--output-file") + 1]).write_text("\n".join(lines))
        return Completed(exit_code=0, stdout="", stderr="")


def _digest(text: str) -> str:
    return sha256_hex(text.encode())


def _files(*names: str) -> dict[str, str]:
    return {name: _digest(name) for name in names}


def _lock(*packages: str, **hashes: list[str]) -> str:
    """Write a project's lock of packages, each with the hashes of its files."""
    return format_lock(
        LockedPackage(
            name=name, version="1.0", hashes=tuple(f"sha256:{item}" for item in hashes[name])
        )
        for name in packages
    )


def _choose(lock: str, index: Index, home: Path, **environ: str) -> ChosenWheels:
    return choose_wheels(
        lock, python="3.11", platform=PLATFORM, home=home, environ=environ, run=index
    )


def test_the_best_wheel_that_the_lock_allows_is_taken(tmp_path: Path) -> None:
    pure, native = "fast-1.0-py3-none-any.whl", f"fast-1.0-cp311-cp311-{MANYLINUX}.whl"
    index = Index({"fast": _files(pure, native, "fast-1.0-cp311-cp311-win_amd64.whl")})
    both = _lock("fast", fast=[_digest(pure), _digest(native)])
    chosen = _choose(both, index, tmp_path)
    assert chosen.wheels == (
        WheelFile(
            name="fast",
            version="1.0",
            filename=native,
            sha256=_digest(native),
            size_bytes=len(native),
            url=f"{PUBLIC}/{native}",
        ),
    )
    only_pure = _lock("fast", fast=[_digest(pure)])
    assert [item.filename for item in _choose(only_pure, index, tmp_path).wheels] == [pure]


def test_packages_without_a_public_wheel_that_fits_are_named(tmp_path: Path) -> None:
    names = (
        "other-1.0-cp311-cp311-win_amd64.whl",
        "sources-1.0.tar.gz",
        "unlocked-1.0-py3-none-any.whl",
    )
    index = Index({name.partition("-")[0]: _files(name) for name in names})
    lock = _lock(
        "other",
        "sources",
        "unlocked",
        "vanished",
        other=[_digest(names[0])],
        sources=[_digest(names[1])],
        unlocked=[_digest("another file")],
        vanished=[_digest("gone")],
    )
    chosen = _choose(lock, index, tmp_path)
    assert chosen == ChosenWheels(wheels=(), sources=("other", "sources", "unlocked", "vanished"))


def test_a_wheel_that_only_a_private_host_has_is_none_that_anybody_can_have(tmp_path: Path) -> None:
    name = "mine-1.0-py3-none-any.whl"
    index = Index({"mine": _files(name)}, host="https://index.example/files")
    assert _choose(_lock("mine", mine=[_digest(name)]), index, tmp_path).sources == ("mine",)


def test_a_base_lock_is_read_as_it_comes_with_this_package(tmp_path: Path) -> None:
    name = "numpy-1.0-py3-none-any.whl"
    index = Index({"numpy": _files(name)})
    lock = f"# a comment\nnumpy==1.0 \\\n    --hash=sha256:{_digest(name)}\n    # via jax\n"
    assert [item.filename for item in _choose(lock, index, tmp_path).wheels] == [name]


def test_what_was_chosen_is_remembered_for_the_lock_and_the_python(tmp_path: Path) -> None:
    name = "one-1.0-py3-none-any.whl"
    index = Index({"one": _files(name)})
    lock = _lock("one", one=[_digest(name)])
    first = _choose(lock, index, tmp_path)
    assert _choose(lock, index, tmp_path) == first
    assert len(index.calls) == 1
    choose_wheels(lock, python="3.12", platform=PLATFORM, home=tmp_path, environ={}, run=index)
    assert len(index.calls) == 2


def test_a_spoilt_memory_is_asked_for_again(tmp_path: Path) -> None:
    name = "one-1.0-py3-none-any.whl"
    index = Index({"one": _files(name)})
    lock = _lock("one", one=[_digest(name)])
    first = _choose(lock, index, tmp_path)
    (kept,) = (tmp_path / "locks").iterdir()
    for text in ("{", "[]", json.dumps({"wheels": [{"name": "one"}], "sources": []})):
        kept.write_text(text)
        assert _choose(lock, index, tmp_path) == first


def test_only_the_public_index_is_asked_and_nothing_else_decides(tmp_path: Path) -> None:
    index = Index({"one": _files("one-1.0-py3-none-any.whl")})
    _choose(
        _lock("one", one=["0" * 64]),
        index,
        tmp_path,
        UV_INDEX_URL="https://index.example/simple",
        UV_EXCLUDE_NEWER="2020-01-01",
        HTTPS_PROXY="http://proxy.example",
    )
    assert "--index-url https://pypi.org/simple" in index.asked
    assert not {"UV_INDEX_URL", "UV_EXCLUDE_NEWER"} & set(index.environ)
    assert index.environ["HTTPS_PROXY"] == "http://proxy.example"


def test_a_wheel_that_ships_is_taken_as_it_is_and_no_index_is_asked(tmp_path: Path) -> None:
    filename, data = wheel("mine", "1.0")
    store, digest = MemoryStore(), sha256_hex(data)
    shipped = ShippedWheel(filename=filename, sha256=digest, size_bytes=len(data))
    package = LockedPackage(name="mine", version="1.0", hashes=(f"sha256:{digest}",), wheel=shipped)
    index = Index({})
    (chosen,) = _choose(format_lock([package]), index, tmp_path).wheels
    assert (chosen.url, chosen.sha256, index.calls) == ("", digest, [])
    downloads = WheelDownloads(tmp_path, {}, store)
    with pytest.raises(ObjectNotFoundError):
        downloads.fetch(chosen)
    store.objects[wheel_object(digest, filename)] = data
    assert downloads.fetch(chosen).read_bytes() == data


def _on_index(index: SimpleIndex, filename: str, data: bytes, sha256: str = "") -> WheelFile:
    return WheelFile(
        name="mine",
        version="1.0",
        filename=filename,
        sha256=sha256 or sha256_hex(data),
        size_bytes=len(data),
        url=f"{index.url.removesuffix('/simple')}/files/mine/{filename}",
    )


def _kept(home: Path) -> list[Path]:
    return [path for path in (home / "layers" / "wheels").rglob("*") if path.is_file()]


def test_a_download_is_kept_until_it_is_discarded(tmp_path: Path) -> None:
    filename, data = wheel("mine", "1.0")
    with serve([(filename, data)]) as index:
        wanted = _on_index(index, filename, data)
        downloads = WheelDownloads(tmp_path, os.environ)
        path = downloads.fetch(wanted)
        assert path.read_bytes() == data
        assert path.name == filename
        asked = len(index.requests)
        assert WheelDownloads(tmp_path, os.environ).fetch(wanted) == path
        assert len(index.requests) == asked
        downloads.discard()
        assert not path.parent.exists()


def test_a_download_that_another_assembly_reads_is_left_for_that_to_discard(
    tmp_path: Path,
) -> None:
    filename, data = wheel("mine", "1.0")
    with serve([(filename, data)]) as index:
        wanted = _on_index(index, filename, data)
        several = [WheelDownloads(tmp_path, os.environ) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            (path,) = set(pool.map(lambda each: each.fetch(wanted), several))
        assert len(index.requests) == 1
    for each in several:
        assert path.read_bytes() == data
        each.discard()
    assert not path.parent.exists()


def test_a_download_that_is_something_else_is_refused_and_not_kept(tmp_path: Path) -> None:
    filename, data = wheel("mine", "1.0")
    with serve([(filename, data)]) as index:
        wanted = _on_index(index, filename, data, sha256="0" * 64)
        with pytest.raises(LockError, match="does not match its sha256 digest") as refused:
            WheelDownloads(tmp_path, os.environ).fetch(wanted)
    assert refused.value.value == filename
    assert not _kept(tmp_path)


def test_what_nobody_came_back_for_goes_with_the_next_downloads(tmp_path: Path) -> None:
    kept = tmp_path / "layers" / "wheels"
    for name in ("old", "new"):
        (kept / name).mkdir(parents=True)
        (kept / name / "a-1-py3-none-any.whl").write_bytes(b"")
    long_ago = time.time() - MAX_AGE_SECONDS - 60
    os.utime(kept / "old", (long_ago, long_ago))
    WheelDownloads(tmp_path, {}).discard()
    assert [path.name for path in kept.iterdir()] == ["new"]


def test_a_download_that_nobody_waits_for_any_more_ends_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    filename, data = wheel("mine", "1.0")
    given_up = threading.Event()
    given_up.set()

    def fetch() -> None:
        interruptible(given_up)
        WheelDownloads(tmp_path, os.environ).fetch(wanted)

    with serve([(filename, data)]) as index:
        wanted = _on_index(index, filename, data)
        with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
            pool.submit(fetch).result()
    assert not _kept(tmp_path)
