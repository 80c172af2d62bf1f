"""`kinetic config`: every setting in force, and where its value came from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.documents import print_json
from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.cli.tables import print_table
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.settings.settings import (
    ResolvedSetting,
    describe_settings,
    process_environment,
)
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.runs.session import configure


def config(*, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Print every setting in force, and where its value came from.

    Args:
        as_json: Print a JSON object instead of a table.
    """
    environ = process_environment()
    local = local_settings(environ)
    if local.profile and local.platform == "gke":
        require_something_to_read()
    progress = terminal_progress(local.progress, environ)
    settings = configure(local, environ, progress)
    if local.profile and settings.cloud and settings.profile is None:
        project = settings.cloud.sources["project"]
        text = f"the profile {local.profile} ({local.sources['profile']}) is of another project"
        print(f"{text}, and not used: {project} names {settings.cloud.project}", file=sys.stderr)
    rows = describe_settings(settings)
    if as_json:
        print_json({row.name: _as_json(row) for row in rows})
        return
    print_table([(row.name, _shown(row.value), str(row.source)) for row in rows])


def _as_json(row: ResolvedSetting) -> dict[str, object]:
    value = row.value
    plain = value is None or isinstance(value, bool | int | str | Mapping)
    source = {"kind": row.source.kind, "name": row.source.name or None}
    return {"value": value if plain else str(value), "source": source}


def _shown(value: object) -> str:
    if value is None or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return str(value)
