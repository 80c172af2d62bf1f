"""Tags of the layers that a registry keeps, each by what makes its bytes."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from kinetic_flows.images.layers.model import FORMAT_VERSION


def wheel_tag(digest: str, python: str | None) -> str:
    """Tag of a wheel's layer.

    Args:
        digest: SHA-256 of the wheel, in hexadecimal digits.
        python: The Python minor version whose bytecode is with it; None without bytecode.
    """
    return _tag("whl", digest, python)


def bytecode_tag(digests: Iterable[str], python: str) -> str:
    """Tag of the layer with the bytecode, for one minor version, of wheels that any Python takes.

    Args:
        digests: SHA-256 of each wheel; their order does not matter.
        python: Python minor version.
    """
    return _tag("pyc", _of_all(digests), python)


def merged_tag(digests: Iterable[str], python: str | None) -> str:
    """Tag of one layer with several wheels.

    Args:
        digests: SHA-256 of each wheel; their order does not matter.
        python: As for `wheel_tag`.
    """
    return _tag("set", _of_all(digests), python)


def site_tag(upstream_digest: str, python: str) -> str:
    """Tag of the layer that prepares an upstream image of Python for the layers of wheels.

    Args:
        upstream_digest: Digest of its manifest (`sha256:…`).
        python: Python minor version.
    """
    return _tag("site", sha256(upstream_digest.encode()).hexdigest(), python)


def _of_all(digests: Iterable[str]) -> str:
    return sha256("\n".join(sorted(set(digests))).encode()).hexdigest()


def _tag(kind: str, digest: str, python: str | None) -> str:
    seen_by = "any" if python is None else f"py{python}"
    return f"{kind}-{digest}-{seen_by}-l{FORMAT_VERSION}"
