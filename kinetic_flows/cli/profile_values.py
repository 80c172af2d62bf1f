"""What `kinetic profile create` saves: from its options, from questions, from what counts now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kinetic_flows.cli.questions import questionary
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import KineticError, UsageError
from kinetic_flows.core.settings.cloud import CloudSettings, check_value
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.core.settings.table import DEFAULT, rows
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.runs.session import configure

QUESTIONS = {"project": "Google Cloud project", "zone": "Zone", "cluster": "GKE cluster"}


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
    return {name: getattr(cloud, name) for name in rows(CloudSettings) if _is_said(cloud, name)}


def asked_for(given: dict[str, Any]) -> dict[str, str]:
    """Ask for the project, the zone and the cluster, as far as they are not given.

    Raises:
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    answers: dict[str, str] = {}
    for name, question in QUESTIONS.items():
        if name in given:
            continue
        answer = questionary.text(
            question,
            default=_default(name) or "",
            validate=lambda text, name=name: _accepted(name, text),
        ).unsafe_ask()
        answers[name] = answer.strip()
    return {name: answer for name, answer in answers.items() if answer != _default(name)}


def _default(name: str) -> Any:
    return rows(CloudSettings)[name].default


def _accepted(name: str, text: str) -> bool | str:
    try:
        check_value(name, text.strip())
    except KineticError as error:
        return f"{error.message}: {error.hint}"
    return True


def _is_said(cloud: CloudSettings, name: str) -> bool:
    return cloud.sources[name] != DEFAULT
