"""Build contexts: Dockerfiles rendered from templates, with the files they copy. Pure."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.images.labels import (
    LABEL_BASE_IDENTITY,
    LABEL_BASE_NAME,
    LABEL_CATEGORY,
    LABEL_DEPENDENCY_HASH,
    LABEL_KIND,
    LABEL_LOCK_DIGEST,
    LABEL_PYTHON,
    LABEL_TITLE,
    LABEL_VERSION,
)

DOCKERFILE = "Dockerfile"

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """The files of a build.

    Attributes:
        files: Their contents by their path.
        executable: Those that can be executed.
        dockerfile: Which of them is the Dockerfile.
    """

    files: Mapping[str, bytes]
    executable: frozenset[str] = frozenset()
    dockerfile: str = DOCKERFILE

    def archive(self) -> bytes:
        """Return the files as a tar.gz: equal files give equal bytes."""
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(self.files):
                entry = tarfile.TarInfo(path)
                entry.size = len(self.files[path])
                entry.mode = 0o755 if path in self.executable else 0o644
                tar.addfile(entry, io.BytesIO(self.files[path]))
        return gzip.compress(plain.getvalue(), mtime=0)


def project_context(
    environment: EnvironmentSpec,
    *,
    base: str,
    template: str,
    wheels: Mapping[str, bytes],
    version: str,
) -> BuildContext:
    """Return the build context of a project's image.

    Args:
        environment: What the image contains.
        base: The base image, by digest.
        template: Text of the Dockerfile's template.
        wheels: The wheels that ship, by file name.
        version: This product's version, for the labels.
    """
    labels = project_labels(environment, base=base, version=version)
    dockerfile = render(template, {"base": base, "labels": _pairs(labels)})
    shipped = {f"wheels/{name}": content for name, content in wheels.items()}
    return BuildContext(
        files={
            DOCKERFILE: dockerfile.encode(),
            "lock.txt": environment.lock.encode(),
            # uv refuses to look for wheels in a directory that does not exist.
            "wheels/.keep": b"",
            **shipped,
        }
    )


def project_labels(environment: EnvironmentSpec, *, base: str, version: str) -> dict[str, str]:
    """Return the labels of a project's image.

    Args:
        environment: What the image contains.
        base: The base image, by digest.
        version: This product's version.
    """
    return {
        LABEL_KIND: "project",
        LABEL_CATEGORY: environment.category,
        LABEL_PYTHON: environment.python,
        LABEL_BASE_IDENTITY: environment.base_identity,
        LABEL_DEPENDENCY_HASH: environment.dependency_hash,
        LABEL_LOCK_DIGEST: _digest(environment.lock),
        LABEL_VERSION: version,
        LABEL_TITLE: f"kinetic project on {environment.category}",
        LABEL_BASE_NAME: base,
    }


def packages_labels(environment: EnvironmentSpec, *, version: str) -> dict[str, str]:
    """Return the labels of an image of packages that is mounted beside a base image.

    Args:
        environment: What the image contains.
        version: This product's version.
    """
    return {
        LABEL_KIND: "packages",
        LABEL_PYTHON: environment.python,
        LABEL_DEPENDENCY_HASH: environment.dependency_hash,
        LABEL_LOCK_DIGEST: _digest(environment.lock),
        LABEL_VERSION: version,
        LABEL_TITLE: "packages of a kinetic project",
    }


def controller_context(
    template: str, *, upstream: str, wheel: str, content: bytes, python: str, version: str
) -> BuildContext:
    """Return the build context of the image that the product's own flows run in.

    Args:
        template: Text of the Dockerfile's template.
        upstream: Reference of the image it starts from.
        wheel: File name of the product's wheel.
        content: The wheel.
        python: Python minor version of the image.
        version: This product's version, for the labels.
    """
    labels = {
        LABEL_KIND: "controller",
        LABEL_PYTHON: python,
        LABEL_VERSION: version,
        LABEL_TITLE: "kinetic-flows",
        LABEL_BASE_NAME: upstream,
    }
    values = {"upstream": upstream, "wheel": wheel, "labels": _pairs(labels)}
    return BuildContext(files={DOCKERFILE: render(template, values).encode(), wheel: content})


def render(template: str, values: Mapping[str, str]) -> str:
    """Fill a template's `{{placeholders}}`.

    Raises:
        ImageError: A placeholder has no value, or a value has no placeholder.
    """
    wanted = set(_PLACEHOLDER.findall(template))
    if wanted != set(values):
        odd = ", ".join(sorted(wanted ^ set(values)))
        raise ImageError(f"the Dockerfile template and its values disagree about: {odd}", value=odd)
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def _pairs(values: Mapping[str, str]) -> str:
    """Return `name="value"` pairs, one a line, as ENV and LABEL take them."""
    return " \\\n    ".join(f"{name}={json.dumps(value)}" for name, value in values.items())


def _digest(text: str) -> str:
    return f"sha256:{sha256_hex(text.encode())}"


@dataclass(frozen=True, kw_only=True)
class BuildRecipe:
    """The arguments of a build, and the smoke test its image must pass before it is pushed.

    Attributes:
        dockerfile: Path of the Dockerfile in the source.
        arguments: Values of its `ARG`s.
        labels: Labels that the image gets beside the Dockerfile's own.
        smoke_tests: Commands that are run in the image; one that fails keeps it unpublished.
        from_scratch: Whether to use no layer of an earlier build, and to pull the base anew.
    """

    dockerfile: str = "Dockerfile"
    arguments: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    smoke_tests: tuple[tuple[str, ...], ...] = ()
    from_scratch: bool = False
