"""The questions of `kinetic profile create` on a terminal, each answer checked as it is typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.cli.questions import questionary
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.settings.cloud import CloudSettings, check_value
from kinetic_flows.core.settings.table import rows

QUESTIONS = {"project": "Google Cloud project", "zone": "Zone", "cluster": "GKE cluster"}


def asked_for(given: Mapping[str, Any]) -> dict[str, str]:
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
