"""Prefect's own command line, with the address and the password of the API that calls use."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, NoReturn

from cyclopts import Parameter

from kinetic_flows.clients.prefect.access import credentials_for
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.runs.session import prefect_api_url

API_URL = "PREFECT_API_URL"


def prefect(*arguments: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Run a command of Prefect's own with the address and the password of the API in use.

    Without PREFECT_API_URL that is the background server, which is started if need be.

    Args:
        arguments: The command, such as flow-run ls, with its own options.
    """
    # What only tells of Prefect's commands needs no server.
    is_help = not arguments or "--help" in arguments
    become_prefect(arguments, {} if is_help else prefect_variables(process_environment()))


def prefect_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which Prefect's commands use the API that calls use.

    Args:
        environ: This process's variables.

    Raises:
        PrefectServerError: No API is configured, and the background server does not start.
    """
    settings = load_settings(environ)
    url = prefect_api_url(settings, environ, terminal_progress(settings.progress, environ))
    return {API_URL: url, **credentials_for(url, environ)}


def become_prefect(arguments: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Let Prefect's command take this process's place, so that signals and its exit code are its.

    Args:
        arguments: What follows `prefect`.
        variables: Variables besides this process's.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "prefect", *arguments]
    # It gets the terminal, and what is pressed on it.
    os.execve(sys.executable, command, {**process_environment(), **variables})  # noqa: S606
