"""The accelerator's own packages, told apart in a lock: jax, its plugins, libtpu, CUDA."""

from __future__ import annotations

import re

from kinetic_flows.core.errors import ImageError

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


def pin_of(lock: str, name: str) -> str:
    r"""Return one package's part of a lock: its pin and its hashes, joined by `\`."""
    lines = iter(lock.splitlines())
    found: list[str] = []
    for line in lines:
        if found or line.startswith(f"{name}=="):
            found.append(line)
            if not line.endswith("\\"):
                return "\n".join(found) + "\n"
    raise ImageError(f"the base image's lock lacks {name}", value=name)
