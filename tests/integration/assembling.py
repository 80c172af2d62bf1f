"""Assembling images in a test: wheels of a few bytes, an image of Python, homes and registries."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from kinetic_flows.clients.registry.credentials import RegistryCredentials
from kinetic_flows.clients.registry.documents import digest_of
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.assemble import assemble
from kinetic_flows.images.assembly.compose import OCI_CONFIG, OCI_LAYER
from kinetic_flows.images.assembly.preview import AssemblyPreview, Survey, look_at
from kinetic_flows.images.assembly.records import LayerRecords
from kinetic_flows.images.assembly.spec import Assembly

PYTHON = "3.11"
MINOR = f"usr/local/lib/python{PYTHON}/site-packages"
PIP = {
    f"{MINOR}/pip/__init__.py": b"__version__ = '24.0'\n",
    f"{MINOR}/pip/__pycache__/__init__.cpython-311.pyc": b"bytecode",
    f"{MINOR}/pip-24.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: pip\nVersion: 24.0\n",
    f"{MINOR}/pip-24.0.dist-info/RECORD": b"pip/__init__.py,,\npip-24.0.dist-info/METADATA,,\n",
}
SETUPTOOLS = {
    f"{MINOR}/setuptools/__init__.py": b"",
    f"{MINOR}/setuptools/old.py": b"",
    f"{MINOR}/setuptools-65.5.dist-info/METADATA": b"Metadata-Version: 2.1\nName: setuptools\n"
    b"Version: 65.5\n",
    f"{MINOR}/setuptools-65.5.dist-info/RECORD": b"setuptools/__init__.py,,\nsetuptools/old.py,,\n",
}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of files, and of deletions, which are files whose names say so."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def push_image(registry: RegistryWriter, name: str, *layers: Mapping[str, bytes]) -> str:
    """Push an image of Python with some layers, and return its reference by digest."""
    plain = [tar_of(files) for files in layers]
    packed = [gzip.compress(data, mtime=0) for data in plain]
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {"Env": ["PATH=/usr/local/bin:/bin", f"PYTHON_VERSION={PYTHON}.9"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in plain]},
    }
    kinds = (OCI_LAYER, OCI_CONFIG)
    blobs = [*packed, json.dumps(config).encode()]
    for blob in blobs:
        registry.upload_document(name, blob)
    described = [
        {"mediaType": kinds[index == len(packed)], "digest": digest_of(blob), "size": len(blob)}
        for index, blob in enumerate(blobs)
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described[-1],
        "layers": described[:-1],
    }
    content = json.dumps(manifest).encode()
    digest = registry.put_manifest(f"{name}:upstream", content, manifest["mediaType"])
    return f"{name}@{digest}"


@dataclass
class Wheels:
    """Wheels in a directory, which remembers what was fetched."""

    directory: Path
    fetched: list[str] = field(default_factory=list)
    before: Callable[[WheelFile], None] = lambda wheel: None

    def fetch(self, wheel: WheelFile) -> Path:
        self.before(wheel)
        self.fetched.append(wheel.name)
        return self.directory / wheel.filename


@dataclass
class Bench:
    """A machine that assembles: its home, its wheels, and what it printed."""

    registry: RegistryWriter
    wheels: Wheels
    home: Path
    lines: list[str] = field(default_factory=list)

    def assemble(self, assembly: Assembly, survey: Survey | None = None) -> str:
        return assemble(
            assembly,
            self.registry,
            self.wheels,
            home=self.home,
            environ=os.environ,
            on_output=self.lines.append,
            survey=survey,
        )

    def look_at(self, assembly: Assembly) -> AssemblyPreview:
        return look_at(assembly, self.registry, LayerRecords(self.registry, self.home))

    @property
    def left_behind(self) -> list[str]:
        """Made layers that lie in the home."""
        return sorted(path.name for path in (self.home / "layers" / "blobs").iterdir())


def manifest_of(registry: RegistryWriter, reference: str) -> dict[str, Any]:
    found = registry.manifest(reference)
    assert found is not None, reference
    content: dict[str, Any] = json.loads(found.content)
    return content


def config_of(registry: RegistryWriter, name: str, reference: str) -> dict[str, Any]:
    digest = manifest_of(registry, reference)["config"]["digest"]
    content: dict[str, Any] = json.loads(registry.document(name, digest))
    return content


def tree_of(registry: RegistryWriter, name: str, digest: str) -> dict[str, bytes | str]:
    """Return what an image's layers make, one on top of the other; links by what they say."""
    tree: dict[str, bytes | str] = {}
    for layer in manifest_of(registry, f"{name}@{digest}")["layers"]:
        data = b"".join(registry.download(name, layer["digest"]))
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
            for entry in archive:
                if entry.issym():
                    tree[entry.name] = entry.linkname
                elif entry.isfile():
                    file = archive.extractfile(entry)
                    assert file is not None
                    tree[entry.name] = file.read()
    return tree


class Login:
    """Stands for `docker login`."""

    def find(self, registry: str) -> RegistryCredentials | None:
        return RegistryCredentials(username="me", password="secret")


def lose(name: str, digest: str) -> None:
    """Have a registry lose a blob of an image."""
    host, _, path = name.partition("/")
    httpx.delete(f"http://{host}/v2/{path}/blobs/{digest}").raise_for_status()


def recompress(registry: RegistryWriter, layers: str, tag: str) -> str:
    """Have a layer's record name other compressed bytes of the same layer; return their digest."""
    manifest = manifest_of(registry, tag)
    data = b"".join(registry.download(layers, manifest["layers"][0]["digest"]))
    packed = gzip.compress(gzip.decompress(data), 1, mtime=0)
    registry.upload_document(layers, packed)
    manifest["layers"][0] |= {"digest": digest_of(packed), "size": len(packed)}
    registry.put_manifest(tag, json.dumps(manifest).encode(), manifest["mediaType"])
    return digest_of(packed)


def copy_blobs(registry: RegistryWriter, name: str, reference: str) -> None:
    """Have an image's repository get all blobs of another image."""
    manifest = manifest_of(registry, reference)
    source = parse_reference(reference).name
    for blob in (manifest["config"], *manifest["layers"]):
        registry.copy(name, blob["digest"], blob["size"], source)
