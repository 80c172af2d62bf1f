"""Whether a base that was assembled can do what runs need of it, told from its facts. Pure.

What a base from a Dockerfile is asked by a program that runs in it (`smoke_test.py`), is known
here of every file: nothing has to be run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from kinetic_flows.images.assembly.bases import BOOTSTRAP
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.bases import GLIBC, bootstrap_version
from kinetic_flows.images.labels import LABEL_CATEGORY, LABEL_KIND, LABEL_VARIANT
from kinetic_flows.images.layers.model import SCRIPTS, SITE_PACKAGES, WheelFacts

_PLUGINS: Mapping[str, tuple[str, ...]] = {
    "cpu": (),
    "gpu": ("jax-cuda12-plugin", "jax-cuda13-plugin"),
    "tpu": ("libtpu",),
}
"""The packages of which a category's jax needs one."""

_NEEDED = {
    "cloudpickle": f"{SITE_PACKAGES}/cloudpickle/__init__.py",
    "google.cloud.storage": f"{SITE_PACKAGES}/google/cloud/storage/__init__.py",
    "uv": f"{SCRIPTS}/uv",
}
_GLIBC_RELEASE = re.compile(rb"GNU C Library [^\n]{0,60}release version (\d+\.\d+)")


def is_base(assembly: Assembly) -> bool:
    """Whether what is assembled is a base."""
    return assembly.labels.get(LABEL_KIND) == "base"


def base_problems(
    assembly: Assembly, facts: Iterable[WheelFacts], *, python: str | None, glibc: str | None
) -> tuple[str, ...]:
    """Return why a base must not be published, a sentence each.

    Args:
        assembly: The base.
        facts: What its wheels put into it.
        python: Python minor version of the image that it starts from; None where it does not say.
        glibc: Its glibc, such as `2.36`; None where it has none.
    """
    return tuple(_problems(assembly, tuple(facts), python, glibc))


def _problems(
    assembly: Assembly, facts: tuple[WheelFacts, ...], python: str | None, glibc: str | None
) -> Iterator[str]:
    if python != assembly.python:
        yield f"it has Python {python or 'unknown'}, and its tag is to say {assembly.python}"
    files = {path for wheel in facts for path in wheel.files}
    for what, path in _NEEDED.items():
        if path not in files:
            yield f"it lacks {what}: none of its packages has {path}"
    if f'VERSION = "{bootstrap_version()}"'.encode() not in assembly.files.get(BOOTSTRAP, b""):
        yield f"{BOOTSTRAP} is not the bootstrap of version {bootstrap_version()}"
    if assembly.labels.get(LABEL_VARIANT) != "lean":
        yield from _framework_problems(assembly, {wheel.name for wheel in facts})
    if _numbers(glibc or "0") < _numbers(GLIBC):
        yield f"it has glibc {glibc or 'unknown'}, and packages are resolved for {GLIBC}"


def _framework_problems(assembly: Assembly, packages: set[str]) -> Iterator[str]:
    if "jax" not in packages:
        yield "it lacks jax"
    wanted = _PLUGINS.get(assembly.labels.get(LABEL_CATEGORY, ""), ())
    if wanted and not packages & set(wanted):
        yield f"its jax has none of {', '.join(wanted)}"


def glibc_of(library: bytes) -> str | None:
    """Return the release that a C library says it is; None where it is no glibc.

    Args:
        library: The content of `libc.so.6`.
    """
    match = _GLIBC_RELEASE.search(library)
    return match[1].decode() if match else None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
