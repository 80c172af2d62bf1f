"""Layers that are made from layers: upstream's site-packages moved, and some packages left out."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.assembly.leave_out import leave_out
from kinetic_flows.images.assembly.site import make_site_layer
from kinetic_flows.images.layers.archive import LayerWriter
from kinetic_flows.images.layers.model import SITE_PACKAGES, WheelFacts

MINOR = "usr/local/lib/python3.11/site-packages"
METADATA = b"Metadata-Version: 2.1\nName: Pip\nVersion: 24.0\nRequires-Python: >=3.8\n"
PIP = {
    f"{MINOR}/pip/__init__.py": b"",
    f"{MINOR}/pip/__pycache__/__init__.cpython-311.pyc": b"",
    f"{MINOR}/pip-24.0.dist-info/METADATA": METADATA,
    f"{MINOR}/pip-24.0.dist-info/RECORD": b"pip/__init__.py,,\n../../../bin/pip,,\n",
    f"{MINOR}/pip-24.0.dist-info/REQUESTED": b"",
    f"{MINOR}/README.txt": b"of nobody",
}


class Layers:
    """Layers in a directory, as other builders write them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.paths: list[Path] = []

    def add(self, files: Mapping[str, bytes | tarfile.TarInfo], **more: Any) -> None:
        path = self._directory / f"layer{len(self.paths)}"
        with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
            for name, content in files.items():
                if isinstance(content, tarfile.TarInfo):
                    archive.addfile(content)
                    continue
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), more.get("mode", 0o644)
                archive.addfile(entry, io.BytesIO(content))
        self.paths.append(path)


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def tree_of(path: Path) -> dict[str, str | bytes]:
    found: dict[str, str | bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(path.read_bytes()))) as archive:
        for entry in archive:
            if entry.issym():
                found[entry.name] = entry.linkname
            elif file := archive.extractfile(entry):
                found[entry.name] = file.read()
    return found


def made(layers: Layers, tmp_path: Path, **more: Any) -> dict[str, str | bytes]:
    make_site_layer(layers.paths, tmp_path / "site", python="3.11", **more)
    return tree_of(tmp_path / "site")


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    return entry


def test_packages_are_moved_without_bytecode(layers: Layers, tmp_path: Path) -> None:
    layers.add({**PIP, "usr/local/bin/pip": b"#!", "etc/passwd": b"root"})
    tree = made(layers, tmp_path)
    assert sorted(tree) == [
        MINOR,
        f"{SITE_PACKAGES}/README.txt",
        f"{SITE_PACKAGES}/pip-24.0.dist-info/METADATA",
        f"{SITE_PACKAGES}/pip-24.0.dist-info/RECORD",
        f"{SITE_PACKAGES}/pip-24.0.dist-info/REQUESTED",
        f"{SITE_PACKAGES}/pip/__init__.py",
    ]
    assert tree[MINOR] == "../python3/site-packages"


def test_facts_name_each_package(layers: Layers, tmp_path: Path) -> None:
    layers.add({**PIP, "usr/lib/x86_64-linux-gnu/libc.so.6": b"GNU C Library release version 2.36"})
    site = make_site_layer(layers.paths, tmp_path / "site", python="3.11")
    (facts,) = site.layer.facts
    assert (facts.name, facts.version, facts.requires_python) == ("pip", "24.0", ">=3.8")
    assert f"{SITE_PACKAGES}/pip/__init__.py" in facts.files
    assert site.glibc == "2.36"


def test_package_that_is_not_kept_goes_with_its_metadata(layers: Layers, tmp_path: Path) -> None:
    layers.add(PIP)
    assert sorted(made(layers, tmp_path, keeps=())) == [MINOR, f"{SITE_PACKAGES}/README.txt"]


def test_site_layer_can_be_made_from_another_one(layers: Layers, tmp_path: Path) -> None:
    layers.add(PIP)
    first = make_site_layer(layers.paths, tmp_path / "first", python="3.11").layer
    again = make_site_layer([first.path], tmp_path / "again", python="3.11", keeps={"pip"}).layer
    assert again.blob.diff_id == first.blob.diff_id
    assert again.facts == first.facts


def test_upper_layers_delete_and_replace(layers: Layers, tmp_path: Path) -> None:
    layers.add({f"{MINOR}/{name}.py": b"1" for name in ("a", "b")})
    layers.add({f"{MINOR}/old/{name}.py": b"1" for name in ("c", "d")})
    layers.add(
        {
            f"{MINOR}/.wh.a.py": b"",
            f"{MINOR}/b.py": b"2",
            f"{MINOR}/old/.wh..wh..opq": b"",
            f"{MINOR}/old/e.py": b"3",
        }
    )
    tree = made(layers, tmp_path)
    below = {path.removeprefix(f"{SITE_PACKAGES}/"): data for path, data in tree.items()}
    assert below == {"b.py": b"2", "old/e.py": b"3", MINOR: "../python3/site-packages"}


def test_deleted_folder_above_takes_all_with_it(layers: Layers, tmp_path: Path) -> None:
    layers.add(PIP)
    layers.add({"usr/local/lib/.wh.python3.11": b""})
    assert list(made(layers, tmp_path)) == [MINOR]


def test_links_stay_links_and_hard_links_become_files(layers: Layers, tmp_path: Path) -> None:
    layers.add(
        {
            f"{MINOR}/a.so.1": b"code",
            "1": link(f"./{MINOR}/a.so", "a.so.1"),
            "2": link(f"{MINOR}/b.so", f"./{MINOR}/a.so.1", tarfile.LNKTYPE),
        }
    )
    tree = made(layers, tmp_path)
    assert tree[f"{SITE_PACKAGES}/a.so"] == "a.so.1"
    assert tree[f"{SITE_PACKAGES}/b.so"] == b"code"


def test_layer_of_another_compression_is_refused(layers: Layers, tmp_path: Path) -> None:
    path = tmp_path / "zstd"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(ImageError, match="a layer of the image cannot be read"):
        make_site_layer([path], tmp_path / "site", python="3.11")
    assert not (tmp_path / "site").exists()


def facts(name: str, files: Mapping[str, str]) -> WheelFacts:
    return WheelFacts(
        name=name,
        version="1",
        sha256=name * 3,
        requires=(),
        requires_python="",
        files={f"{SITE_PACKAGES}/{path}": content for path, content in files.items()},
        source_bytes=0,
    )


def left(tmp_path: Path, files: list[str], gone: WheelFacts, kept: WheelFacts) -> list[str]:
    with LayerWriter(tmp_path / "all") as writer:
        for path in files:
            writer.add_file(f"{SITE_PACKAGES}/{path}", b"")
        writer.close()
    leave_out(tmp_path / "all", tmp_path / "rest", gone=[gone], kept=[kept], python="3.11")
    return [path.removeprefix(f"{SITE_PACKAGES}/") for path in tree_of(tmp_path / "rest")]


def test_files_of_what_goes_go_with_their_bytecode(tmp_path: Path) -> None:
    gone = facts("a", {"a/x.py": "1", "ns/__init__.py": "1", "a-1.dist-info/METADATA": "1"})
    kept = facts("b", {"b.py": "1", "ns/__init__.py": "1"})
    files = [
        "a-1.dist-info/METADATA",
        "a-1.dist-info/RECORD",
        "a/x.py",
        "a/__pycache__/x.cpython-311.pyc",
        "b.py",
        "__pycache__/b.cpython-311.pyc",
        "ns/__init__.py",
        "ns/__pycache__/__init__.cpython-311.pyc",
    ]
    assert left(tmp_path, files, gone, kept) == files[4:]


def test_bytecode_of_a_shared_file_of_other_content_goes(tmp_path: Path) -> None:
    gone, kept = facts("a", {"s.py": "1"}), facts("b", {"s.py": "2"})
    files = ["s.py", "__pycache__/s.cpython-311.pyc"]
    assert left(tmp_path, files, gone, kept) == ["s.py"]


def test_shared_file_whose_content_is_lost_is_refused(tmp_path: Path) -> None:
    gone, kept = facts("b", {"s.py": "1"}), facts("a", {"s.py": "2"})
    with pytest.raises(ImageError, match=r"in one layer both have /usr/local/.*/s\.py"):
        left(tmp_path, ["s.py"], gone, kept)
    assert not (tmp_path / "rest").exists()
