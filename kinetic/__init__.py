"""`import kinetic`: the public names of kinetic_flows, loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kinetic_flows import *  # noqa: F403
    from kinetic_flows import __version__ as __version__

import kinetic_flows

__all__ = kinetic_flows.__all__


def __getattr__(name: str) -> object:
    return getattr(kinetic_flows, name)


def __dir__() -> list[str]:
    return dir(kinetic_flows)
