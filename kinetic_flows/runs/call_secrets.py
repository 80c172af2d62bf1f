"""Finding the secrets of a call, before anything is made for it."""

from __future__ import annotations

from collections.abc import Mapping

from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.core.job import JobTemplate
from kinetic_flows.core.options import RunOptions
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.secret_look import (
    FoundSecrets,
    Surroundings,
    look_for_secrets,
    read_again,
)
from kinetic_flows.plans.secrets import secret_sources
from kinetic_flows.runs.session import Session


def find_secrets(draft: Draft, session: Session, *, deployed: bool) -> FoundSecrets:
    """Return what is sealed for a call's runs, and what is missing.

    Args:
        draft: The call.
        session: Where it runs and reports.
        deployed: Whether the runs are a deployment's.
    """
    if not secret_sources(draft):
        return FoundSecrets(values=draft.captured)
    found = look_for_secrets(draft, secret_surroundings(session), deployed=deployed)
    for warning in found.warnings:
        session.progress.warning(warning)
    return found


def secret_values_again(template: JobTemplate, session: Session) -> Mapping[str, str]:
    """Return what is sealed for a run that is started once more: values as they are here and now.

    Args:
        template: What it was started as.
        session: Where it runs and reports.

    Raises:
        SecretError: Some are not to be had; all of them are named.
    """
    if not template.secrets:
        return {}
    options = RunOptions().updated(template.launch.options if template.launch else {})
    return read_again(template.secrets, options.secrets or {}, secret_surroundings(session))


def secret_surroundings(session: Session) -> Surroundings:
    """Return where the secrets of a session's calls are looked for."""
    return Surroundings(
        settings=session.settings,
        environ=session.environ,
        platform=session.platform,
        blocks=SecretBlocks(session.api),
    )
