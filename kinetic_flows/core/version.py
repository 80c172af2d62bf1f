"""The version of this package; runs without it have their client's."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("kinetic-flows")
