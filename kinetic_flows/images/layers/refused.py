"""The error about a wheel that no layer is made of."""

from __future__ import annotations

from typing import Any

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.files import printable

HINT = (
    "nothing of it was sent; take another version of the package, and tell its makers "
    "if it came from an index"
)


class WheelRefused(ImageError):
    """A wheel is damaged, is not what its name says, or would write where it must not."""


def refused(filename: str, why: str, *, value: Any = None) -> WheelRefused:
    """Return the error about a wheel.

    Args:
        filename: The wheel's file name.
        why: What is wrong with it, in words that follow the name.
        value: The offending part of it.
    """
    message = f"the wheel {printable(filename)} cannot become a layer: {why}"
    return WheelRefused(message, value=filename if value is None else value, hint=HINT)
