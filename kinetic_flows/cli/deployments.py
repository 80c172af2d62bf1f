"""`kinetic deployments`: which functions are deployed, how, and taking them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from kinetic_flows.api.deployment import find_deployment, list_deployments
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.display import for_terminal, labelled
from kinetic_flows.core.errors import UsageError

if TYPE_CHECKING:
    from kinetic_flows.api.deployment import Deployment

deployments_app = App(name="deployments")


@deployments_app.command(name="ls")
def list_(*, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """List the deployments.

    Args:
        as_json: Print a JSON list instead of a table.
    """
    found = list_deployments()
    if as_json:
        print(json.dumps([each.to_json() for each in found], indent=2))
        return
    if not found:
        print("no deployments: train.deploy(...) makes one")
        return
    header = ("name", "runs", "work pool", "image")
    print_table(
        [header, *((each.name, _timing(each), each.work_pool, each.image) for each in found)]
    )


@deployments_app.command
def show(name: str, /, *, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Show a deployment: what it runs, when, and what it can be called with.

    Args:
        name: FUNCTION/NAME, or NAME alone where it is the only one.
        as_json: Print a JSON object instead of text.
    """
    found = find_deployment(name)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        return
    rows = [
        ("name", found.name),
        ("url", found.url),
        ("image", found.image),
        ("runs", _timing(found)),
        ("at once", str(found.concurrency_limit or "any number")),
        ("tags", ", ".join(found.tags)),
        *(("parameter", line) for line in _parameters(found)),
        ("run it", f"prefect deployment run '{found.name}'"),
        ("worker", found.worker_command),
    ]
    print(labelled((label, for_terminal(text)) for label, text in rows))


@deployments_app.command
def delete(
    name: str,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Delete a deployment and what its runs need; results of its runs cannot be read afterwards.

    Args:
        name: FUNCTION/NAME, or NAME alone where it is the only one.
        yes: Do not ask.
        as_json: Print a JSON object instead of text.
    """
    found = find_deployment(name)
    undone = f"{found.name} was not deleted"
    question = f"Delete {found.name}, and the results of its runs?"
    if not yes and not confirmed(question, undone=undone):
        raise UsageError(undone, value=name, hint="say --yes to delete it")
    found.delete()
    print(json.dumps({"deleted": found.name}) if as_json else f"{found.name}: deleted")


def _timing(deployment: Deployment[Any]) -> str:
    when = "; ".join(deployment.schedules) or "on demand"
    return f"{when} (paused)" if deployment.paused else when


def _parameters(deployment: Deployment[Any]) -> Iterator[str]:
    """Yield a line for each parameter: its name, type and value."""
    schema = deployment.parameter_schema
    required = schema.get("required") or ()
    for name, described in (schema.get("properties") or {}).items():
        kind = described.get("type", "any")
        if name in deployment.parameters:
            value = f" = {json.dumps(deployment.parameters[name])}"
        elif "default" in described:
            value = f" = {json.dumps(described['default'])}"
        else:
            value = " (required)" if name in required else ""
        text = described.get("description")
        yield f"{name}: {kind}{value}" + (f"  {text}" if text else "")
