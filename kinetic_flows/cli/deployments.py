"""`kinetic deployments`: which functions are deployed, how, and taking them back."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from kinetic_flows.api.deployment import find_deployment, list_deployments
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.outcomes import print_launched, print_value
from kinetic_flows.cli.parameters import read_parameters, type_words
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.cli.reading import (
    anything_to_read,
    require_something_known,
    require_something_to_read,
)
from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.display import for_terminal, labelled
from kinetic_flows.core.errors import UsageError

if TYPE_CHECKING:
    from kinetic_flows.api.deployment import Deployment

deployments_app = App(name="deployments", help_format="markdown", help_epilogue="")


@deployments_app.command(name="ls")
def list_(*, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """List the deployments.

    Args:
        as_json: Print a JSON list instead of a table.
    """
    found = list_deployments() if anything_to_read() else []
    if as_json:
        print_json([each.to_json() for each in found])
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
    require_something_to_read()
    found = find_deployment(name)
    if as_json:
        print_json(found.to_json())
        return
    rows = [
        ("name", found.name),
        ("url", found.url),
        ("image", found.image),
        ("runs", _timing(found)),
        ("at once", str(found.concurrency_limit or "any number")),
        ("tags", ", ".join(found.tags)),
        *(("parameter", line) for line in _parameters(found)),
        ("run it", run_command(found)),
        ("worker", found.worker_command),
    ]
    print(labelled((label, for_terminal(text)) for label, text in rows))


@deployments_app.command
def run(
    name: str,
    /,
    *,
    param: Annotated[list[str] | None, Parameter(name=["--param", "-p"], negative="")] = None,
    detach: Annotated[bool, Parameter(negative="--wait")] = False,
    as_json: Json = False,
) -> None:
    """Start a run of a deployment, show its output and print its value.

    A worker has to be there to start it; Ctrl-C leaves the run going.

    Args:
        name: FUNCTION/NAME, or NAME alone where it is the only one.
        param: A parameter, as NAME=VALUE; repeat for several. The deployment's schema says what
            the value is: a text, or JSON.
        detach: Return when the run was asked for, and print its id and where to watch it.
        as_json: Print a JSON object; output goes to standard error.
    """
    require_something_known()
    found = find_deployment(name)
    parameters = read_parameters(param or (), found.parameter_schema, found.parameters)
    started = found.run(**parameters)
    if detach:
        print_launched(started, as_json=as_json)
        return
    print(f"kinetic: {found.name} was asked for run {started.id}: {started.url}", file=sys.stderr)
    print_value(started, as_json=as_json)


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
    require_something_known()
    found = find_deployment(name)
    undone = f"{found.name} was not deleted"
    question = f"Delete {found.name}, and the results of its runs?"
    if not yes and not confirmed(question, undone=undone):
        raise UsageError(undone, value=name, hint="say --yes to delete it")
    found.delete()
    if as_json:
        print_json({"deleted": found.name})
    else:
        print(f"{found.name}: deleted")


def run_command(deployment: Deployment[Any]) -> str:
    """Return the command that runs a deployment, with the parameters that it lacks."""
    schema = deployment.parameter_schema
    missing = [name for name in schema.get("required") or () if name not in deployment.parameters]
    words = ["kinetic", "deployments", "run", deployment.name]
    return shlex.join([*words, *(word for name in missing for word in ("-p", f"{name}=..."))])


def _timing(deployment: Deployment[Any]) -> str:
    when = "; ".join(deployment.schedules) or "on demand"
    return f"{when} (paused)" if deployment.paused else when


def _parameters(deployment: Deployment[Any]) -> Iterator[str]:
    """Yield a line for each parameter: its name, type and value."""
    schema = deployment.parameter_schema
    required = schema.get("required") or ()
    for name, described in (schema.get("properties") or {}).items():
        kind = type_words(described, schema)
        if name in deployment.parameters:
            value = f" = {json.dumps(deployment.parameters[name])}"
        elif "default" in described:
            value = f" = {json.dumps(described['default'])}"
        else:
            value = " (required)" if name in required else ""
        text = described.get("description")
        yield f"{name}: {kind}{value}" + (f"  {text}" if text else "")


add_examples(
    deployments_app,
    {
        "ls": ("kinetic deployments ls",),
        "show": ("kinetic deployments show train/nightly",),
        "run": (
            "kinetic deployments run train/nightly",
            "kinetic deployments run nightly -p rate=0.01 -p layers='[64, 32]' --detach",
        ),
        "delete": ("kinetic deployments delete train/nightly --yes",),
    },
)
