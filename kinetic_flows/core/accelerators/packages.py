"""The accelerator's own packages, told apart in a lock: jax, its plugins, libtpu, CUDA."""

from __future__ import annotations

import re

_PIN = re.compile(r"(?m)^(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)")

_CLOSURE = re.compile(r"^(jax|jaxlib|libtpu|libtpu-nightly|jax-(cuda|rocm)\d.*|nvidia-.*)$")


def accelerator_closure(lock: str) -> tuple[str, ...]:
    """Return the pins of the accelerator's own packages: jax, its plugins, libtpu, CUDA."""
    return tuple(pin for pin in pins_of(lock) if is_accelerator_package(pin.partition("==")[0]))


def is_accelerator_package(name: str) -> bool:
    """Whether a package belongs to the accelerator's closure."""
    return _CLOSURE.match(name) is not None


def pins_of(lock: str) -> tuple[str, ...]:
    """Return every pin of a lock, sorted, without hashes."""
    return tuple(sorted(f"{name}=={version}" for name, version in _PIN.findall(lock)))
