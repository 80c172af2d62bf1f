"""The tree of an image, made from its layers as the image specification says.

It knows nothing of the product: blobs are asked for over HTTP, inflated by the system's `gzip`,
and applied one after the other by the rules of
https://github.com/opencontainers/image-spec/blob/main/layer.md, where that leaves a choice as
containerd does (`archive.Apply`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import httpx

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@dataclass(frozen=True, kw_only=True)
class PulledImage:
    """An image as a registry has it.

    Attributes:
        manifest: Its manifest.
        config: Its configuration.
        layers: The inflated layers, the lowest first.
    """

    manifest: dict[str, Any]
    config: dict[str, Any]
    layers: tuple[bytes, ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """Digests of its layers as they are in the registry."""
        return tuple(layer["digest"] for layer in self.manifest["layers"])

    def apply_to(self, root: Path) -> None:
        """Make its tree in an empty directory."""
        root.mkdir(parents=True)
        for layer in self.layers:
            apply_layer(layer, root)


def read_image(registry_url: str, path: str, version: str) -> dict[str, Any]:
    """Return an image's manifest from an open registry."""
    url = f"{registry_url}/v2/{path}/manifests/{version}"
    answer = httpx.get(url, headers={"Accept": ACCEPT})
    answer.raise_for_status()
    manifest: dict[str, Any] = answer.json()
    return manifest


def pull_image(registry_url: str, path: str, version: str) -> PulledImage:
    """Return an image from an open registry, everything compared with its digest.

    Args:
        registry_url: The registry.
        path: The repository's path.
        version: Tag or digest.
    """
    manifest = read_image(registry_url, path, version)

    def blob(described: dict[str, Any]) -> bytes:
        answer = httpx.get(f"{registry_url}/v2/{path}/blobs/{described['digest']}")
        answer.raise_for_status()
        assert _digest(answer.content) == described["digest"]
        assert len(answer.content) == described["size"]
        return answer.content

    config = json.loads(blob(manifest["config"]))
    layers = tuple(_inflated(blob(layer)) for layer in manifest["layers"])
    assert [_digest(layer) for layer in layers] == config["rootfs"]["diff_ids"]
    return PulledImage(manifest=manifest, config=config, layers=layers)


def apply_layer(layer: bytes, root: Path) -> None:
    """Apply one layer, an inflated tar archive, to a tree."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        own: set[Path] = set()
        for entry in archive:
            name = PurePosixPath("/", entry.name)
            folder = _resolved(root, name.parent)
            if name.name == OPAQUE:
                _empty(folder, own)
            elif name.name.startswith(WHITEOUT):
                _remove(folder / name.name.removeprefix(WHITEOUT))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                own.add(_put(archive, entry, folder / name.name if name.name else root, root))


def tree_of(root: Path, *places: str) -> dict[str, tuple[str, ...]]:
    """Return what each path below places of a tree is: kind, mode, and content or target."""
    found: dict[str, tuple[str, ...]] = {}
    for place in places:
        for path in sorted((root / place).rglob("*")):
            found[str(path.relative_to(root))] = _described(path)
    return found


def _described(path: Path) -> tuple[str, ...]:
    mode = oct(path.lstat().st_mode & 0o7777)
    if path.is_symlink():
        return ("link", str(path.readlink()))
    if path.is_dir():
        return ("directory", mode)
    return ("file", mode, _digest(path.read_bytes()))


def _put(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path, root: Path) -> Path:
    """Put one entry in place of whatever is there; only a directory goes into a directory."""
    if not (entry.isdir() and target.is_dir() and not target.is_symlink()):
        _remove(target)
    if entry.isdir():
        target.mkdir(exist_ok=True)
    elif entry.issym():
        target.symlink_to(entry.linkname)
    elif entry.islnk():
        source = PurePosixPath("/", entry.linkname)
        os.link(_resolved(root, source.parent) / source.name, target, follow_symlinks=False)
    else:
        content = archive.extractfile(entry)
        assert content is not None, f"{entry.name} is a device"
        target.write_bytes(content.read())
    if not entry.issym():
        target.chmod(entry.mode)
    return target


def _resolved(root: Path, folder: PurePosixPath) -> Path:
    """Return where a directory of the image is, its links followed inside the tree."""
    found = root
    for part in folder.parts[1:]:
        found = found / part
        for _ in range(40):
            if not found.is_symlink():
                break
            target = PurePosixPath("/", found.parent.relative_to(root), found.readlink())
            found = _resolved(root, PurePosixPath(os.path.normpath(target)))
    return found


def _empty(folder: Path, own: set[Path]) -> None:
    for path in folder.iterdir():
        if path not in own:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _inflated(blob: bytes) -> bytes:
    """Inflate a layer with the system's own program; one that is not compressed is as it is."""
    if blob[:2] != b"\x1f\x8b":
        return blob
    return subprocess.run(["gzip", "-dc"], input=blob, capture_output=True, check=True).stdout


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
