"""What `kinetic profile create` saves: from its options, and from what counts now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.core.settings.table import DEFAULT, rows
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.runs.session import configure


def pairs(written: Iterable[str]) -> dict[str, str]:
    """Return settings that are written as `NAME=VALUE`.

    Raises:
        UsageError: One of them is not.
    """
    found = {}
    for each in written:
        name, equals, value = each.partition("=")
        if not equals or not value.strip():
            raise UsageError(
                f"--set {each!r} is not NAME=VALUE", value=each, hint="such as retention_days=90"
            )
        found[name.strip().lower().removeprefix("kinetic_")] = value.strip()
    return found


def in_force() -> dict[str, Any]:
    """Return what somebody said of Google Cloud's settings, as it counts now.

    Raises:
        UsageError: Functions run on this machine.
    """
    environ = process_environment()
    local = local_settings(environ)
    cloud = configure(local, environ, terminal_progress(local.progress, environ)).cloud
    if cloud is None:
        raise UsageError(
            "nothing says where on Google Cloud functions run",
            value="--current",
            hint="see `kinetic config`; leave --current out and give --project",
        )
    said = [name for name in rows(CloudSettings) if cloud.sources[name] != DEFAULT]
    return {name: getattr(cloud, name) for name in said}
