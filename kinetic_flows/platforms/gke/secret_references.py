"""Values of Kubernetes Secrets in a run's pods, by reference: neither we nor Prefect see them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused, core_path
from kinetic_flows.core.job import SECRET_REFERENCE_PREFIX
from kinetic_flows.core.job_parts import SecretSpec
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.secret_sources import SecretSource
from kinetic_flows.core.settings.pool_variables import unknown_variables

SECRET_VARIABLE = "secret_env"  # noqa: S105 - the name of a variable of the template


def secrets_of_pod(options: RunOptions) -> tuple[SecretSource, ...]:
    """Return which keys of Kubernetes Secrets a run's pods are to have."""
    sources = (options.secrets or {}).values()
    return tuple(source for source in sources if source.kind == "k8s")


def secret_variables(secrets: Iterable[SecretSpec]) -> dict[str, Any]:
    """Return the template's variable by which a container has values of Secrets.

    They are in variables of other names than the function finds them by, so that none of them
    means anything to the runner, or to the Python that it is started with.

    Args:
        secrets: The job's.
    """
    entries = [
        {
            "name": f"{SECRET_REFERENCE_PREFIX}{spec.variable}",
            "valueFrom": {"secretKeyRef": {"name": spec.name, "key": spec.key}},
        }
        for spec in secrets
        if spec.kind == "k8s"
    ]
    return {SECRET_VARIABLE: entries} if entries else {}


def secret_obstacle(secrets: Iterable[SecretSource], template: Mapping[str, Any]) -> str:
    """Say that a work pool's template has no place for Secrets; empty where it has, or needs none.

    Args:
        secrets: What pods are to have.
        template: The work pool's base job template.
    """
    named = ", ".join(source.variable for source in secrets)
    if not named or not unknown_variables([SECRET_VARIABLE], template):
        return ""
    return (
        f"the work pool's template has no variable {SECRET_VARIABLE}, by which pods get {named} "
        "from Kubernetes Secrets; `kinetic pool create` brings it up to date"
    )


async def check_secrets(
    client: KubernetesClient, namespace: str, secrets: Iterable[SecretSource]
) -> Preflight:
    """Look for the Secrets that pods are to have values of, and for the keys in them."""
    names: dict[str, list[SecretSource]] = {}
    for source in secrets:
        names.setdefault(source.name, []).append(source)
    asked = (_check_secret(client, namespace, name, wanted) for name, wanted in names.items())
    found = await asyncio.gather(*asked)
    return Preflight(
        problems=tuple(each for one in found for each in one.problems),
        warnings=tuple(each for one in found for each in one.warnings),
    )


async def _check_secret(
    client: KubernetesClient, namespace: str, name: str, wanted: list[SecretSource]
) -> Preflight:
    variables = ", ".join(source.variable for source in wanted)
    try:
        secret = await client.ask_within("GET", core_path(namespace, "secrets", name))
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.FORBIDDEN:
            told = f"Secret {name!r}, for {variables}, cannot be looked up (you may not get secrets"
            return Preflight(warnings=(f"{told} in namespace {namespace!r}); the pod will tell",))
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise
        first, *others = dict.fromkeys(source.key for source in wanted)
        more = "".join(f" --from-literal={key}=VALUE" for key in others)
        told = f"{variables}: there is no Secret {name!r} in namespace {namespace!r}; make it with "
        command = (
            f"`kubectl create secret generic {name} --namespace {namespace} "
            f"--from-literal={first}=VALUE{more}`"
        )
        return Preflight(problems=(told + command,))
    # Its values come along: Kubernetes has no way to ask for the names of keys alone.
    known = sorted({*(secret.get("data") or {})})
    return Preflight(
        problems=tuple(
            f"{source.variable}: Secret {name!r} in namespace {namespace!r} has no key "
            f"{source.key!r}; it has {', '.join(known) or 'none'}"
            for source in wanted
            if source.key not in known
        )
    )
