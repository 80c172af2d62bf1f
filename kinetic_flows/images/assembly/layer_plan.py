"""A layer of an image, as a value, and the line of the image's history that tells of it.

An image's history (https://github.com/opencontainers/image-spec/blob/main/config.md) has an entry
for each layer. Those of ours are strict, so that what an image holds is read back from it:

    kinetic site sha256:UPSTREAM pip==24.0 py3.11
    kinetic wheel numpy==2.1.0 sha256:DIGEST py3.11
    kinetic wheel jax==0.6.0 sha256:DIGEST any
    kinetic merged attrs==25.1.0 sha256:DIGEST rich==14.0.0 sha256:DIGEST py3.11
    kinetic merged certifi==2026.1.4 sha256:DIGEST idna==3.11 sha256:DIGEST any
    kinetic bytecode jax==0.6.0 sha256:DIGEST py3.11
    kinetic files /app/constraints.txt
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.images.layers.model import FORMAT_VERSION
from kinetic_flows.images.layers.names import bytecode_tag, merged_tag, site_tag, wheel_tag

LayerKind = Literal["site", "wheel", "merged", "bytecode", "files"]

PREFIX = "kinetic "
ANY_PYTHON = "any"

_PACKAGE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>\S+)")
_DIGEST = re.compile(r"sha256:(?P<hex>[0-9a-f]{64})")
_PYTHON = re.compile(r"py(?P<minor>3\.\d+)")


@dataclass(frozen=True, kw_only=True, order=True)
class HeldPackage:
    """A package that a layer holds.

    Attributes:
        name: Its canonical name.
        version: Its version.
        sha256: Digest of its wheel; empty for one that came with the image of Python.
    """

    name: str
    version: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """A layer that is wanted.

    Attributes:
        kind: What it is.
        python: Python minor version; None for any.
        packages: What it holds, sorted.
        upstream: Of a site layer: digest of the manifest of the image of Python.
        is_part: Whether it is a site layer without some of the packages of that image.
        files: Of a layer of files: their paths.
        content_sha256: Of a layer of files: what tells their contents apart.
    """

    kind: LayerKind
    python: str | None = None
    packages: tuple[HeldPackage, ...] = ()
    upstream: str = ""
    is_part: bool = False
    files: tuple[str, ...] = ()
    content_sha256: str = ""

    @property
    def tag(self) -> str:
        """The tag under which the registry keeps it."""
        digests = [package.sha256 for package in self.packages]
        python = self.python or ""
        if self.kind == "site":
            return site_tag(self._site_identity(), python)
        if self.kind == "wheel":
            return wheel_tag(digests[0], self.python)
        if self.kind == "merged":
            return merged_tag(digests, self.python)
        if self.kind == "bytecode":
            return bytecode_tag(digests, python)
        return f"files-{self.content_sha256}-l{FORMAT_VERSION}"

    @property
    def title(self) -> str:
        """What it is, for people."""
        if self.kind == "site":
            return "site-packages of the image of Python"
        if self.kind == "files":
            return f"files {', '.join(self.files)}"
        if self.kind == "wheel":
            return str(self.packages[0])
        what = f"{len(self.packages)} packages" if self.packages[1:] else str(self.packages[0])
        return f"bytecode of {what}" if self.kind == "bytecode" else what

    def to_history(self) -> str:
        """Return the line of an image's history that tells of it."""
        words = [self.kind, self.upstream, *self.files]
        for package in self.packages:
            words += [f"{package.name}=={package.version}"]
            words += [f"sha256:{package.sha256}"] if package.sha256 else []
        words.append("" if self.kind == "files" else _python_word(self.python))
        return PREFIX + " ".join(word for word in words if word)

    def _site_identity(self) -> str:
        if not self.is_part:
            return self.upstream
        parts = [f"{package.name}=={package.version}" for package in self.packages]
        return " ".join([self.upstream, "with", *parts])


def files_plan(files: Iterable[tuple[str, bytes]]) -> LayerPlan:
    """Return the layer of some files, by their absolute paths."""
    digests = {path: sha256_hex(content) for path, content in files}
    return LayerPlan(
        kind="files",
        files=tuple(sorted(digests)),
        content_sha256=sha256_hex(canonical_json(digests)),
    )


def read_history(line: str) -> LayerPlan | None:
    """Return the layer that a line of a history tells of; None for one that is not of ours.

    Raises:
        ImageError: It begins as ours do, and goes on otherwise.
    """
    if not line.startswith(PREFIX):
        return None
    kind, *words = line.removeprefix(PREFIX).split(" ")
    if kind == "files" and words:
        return LayerPlan(kind="files", files=tuple(words))
    if kind not in get_args(LayerKind) or len(words) < 2:
        raise _unreadable(line)
    upstream = words.pop(0) if kind == "site" and _DIGEST.fullmatch(words[0]) else ""
    *packages, python = words
    plan = LayerPlan(
        kind=cast("LayerKind", kind),
        upstream=upstream,
        packages=_packages(line, packages),
        python=_python(line, python),
    )
    if plan.to_history() != line or (kind == "wheel" and len(plan.packages) != 1):
        raise _unreadable(line)
    return plan


def _packages(line: str, words: Sequence[str]) -> tuple[HeldPackage, ...]:
    found: list[HeldPackage] = []
    for word in words:
        package, digest = _PACKAGE.fullmatch(word), _DIGEST.fullmatch(word)
        if package:
            found.append(HeldPackage(name=package["name"], version=package["version"]))
        elif digest and found and not found[-1].sha256:
            last = found.pop()
            found.append(HeldPackage(name=last.name, version=last.version, sha256=digest["hex"]))
        else:
            raise _unreadable(line)
    return tuple(found)


def _python(line: str, word: str) -> str | None:
    if word == ANY_PYTHON:
        return None
    match = _PYTHON.fullmatch(word)
    if match is None:
        raise _unreadable(line)
    return match["minor"]


def _python_word(python: str | None) -> str:
    return f"py{python}" if python else ANY_PYTHON


def _unreadable(line: str) -> ImageError:
    return ImageError(
        f"the image's history has a line that cannot be read: {line}",
        value=line,
        hint="the image is damaged, or another version of kinetic assembled it: build it again",
    )
