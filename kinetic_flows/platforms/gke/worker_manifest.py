"""The manifest of a Prefect worker in the cluster, made from the one that ships."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings.cloud import check_value
from kinetic_flows.core.settings.cloud_names import WORK_POOL
from kinetic_flows.platforms.gke.manifests import WORK_POOL_TYPE as WORK_POOL_TYPE
from kinetic_flows.platforms.gke.reach import is_loopback

API_SECRET = "kinetic-prefect-api"  # noqa: S105 - the name of a Secret
OBSERVED = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"
API_CREDENTIALS = ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")

_SHIPPED_API_URL = "value: http://prefect-server.prefect.svc/api\n"
_SHIPPED_POOL = "--pool, kinetic-gke,"
_SHIPPED_NAMESPACE = f"- name: {OBSERVED}\n              value: default\n"


def worker_settings(namespace: str) -> dict[str, str]:
    """Return the variables that a worker of a cluster needs besides its API's, as in the manifest.

    Args:
        namespace: Kubernetes namespace of its runs.
    """
    return {
        # A worker leaves runs alone that are cancelled while it submits them, unless told.
        "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
        "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "10",
        # Keys of runs and of the API do not stand in Jobs.
        "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_STORE_ENV_AS_SECRET": "true",
        # The observer looks at every namespace unless it is told which.
        OBSERVED: namespace,
        # Creating a Job again after an answer was lost would make a second one.
        "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_CREATE_JOB_RETRY_MAX_RETRIES": "1",
    }


@dataclass(frozen=True, kw_only=True)
class WorkerManifest:
    """What a worker in the cluster is made from.

    Attributes:
        text: The manifest, YAML.
        notes: What is to be done besides applying it, a line each.
    """

    text: str
    notes: tuple[str, ...]


def worker_manifest(
    *, pool: str | None, namespace: str | None, api_url: str, environ: Mapping[str, str]
) -> WorkerManifest:
    """Return the manifest of a worker.

    Args:
        pool: The work pool it takes runs from; None for `kinetic-gke`.
        namespace: Kubernetes namespace of the worker and of its runs; None for `default`.
        api_url: The Prefect API, as pods reach it.
        environ: Variables, for the credentials of the API that the worker needs as well.

    Raises:
        ConfigurationError: The API is out of the cluster's reach, or a name cannot be.
    """
    pool = check_value("work_pool", pool or WORK_POOL)
    namespace = check_value("namespace", namespace or "default")
    _check_reach(api_url)
    parts = (_shipped("rbac.yaml"), _adapted(_shipped("worker.yaml"), pool, namespace, api_url))
    text = "---\n".join(_in_namespace(part, namespace) for part in parts)
    return WorkerManifest(text=text, notes=tuple(_notes(pool, namespace, environ)))


def _check_reach(api_url: str) -> None:
    if not api_url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"{api_url!r} is no address of a Prefect API",
            value=api_url,
            hint="give one such as http://prefect-server.prefect.svc/api",
        )
    if is_loopback(api_url):
        raise ConfigurationError(
            f"the Prefect API at {api_url} is this machine's own: a worker in the cluster cannot "
            "reach it",
            value=api_url,
            hint="give the address that pods reach with --api-url, or set PREFECT_API_URL to a "
            "server that both reach; on this machine `kinetic worker start` starts a worker",
        )


def _adapted(text: str, pool: str, namespace: str, api_url: str) -> str:
    """Return the shipped worker for another pool, namespace and API."""
    _, _, text = text.partition("apiVersion:")
    for shipped, wanted in (
        (_SHIPPED_API_URL, f"value: {json.dumps(api_url)}\n"),
        (_SHIPPED_POOL, f"--pool, {json.dumps(pool)},"),
        (_SHIPPED_NAMESPACE, _SHIPPED_NAMESPACE.replace("default", json.dumps(namespace))),
    ):
        if text.count(shipped) != 1:
            raise LookupError(f"the worker's manifest that ships lacks {shipped!r}")
        text = text.replace(shipped, wanted)
    return f"apiVersion:{text}"


def _in_namespace(text: str, namespace: str) -> str:
    """Return manifests whose objects are all in a namespace."""
    return re.sub(
        r"^metadata:\n  name: (.+)\n",
        lambda found: f"{found[0]}  namespace: {json.dumps(namespace)}\n",
        text,
        flags=re.MULTILINE,
    )


def _notes(pool: str, namespace: str, environ: Mapping[str, str]) -> Iterator[str]:
    for name in API_CREDENTIALS:
        if environ.get(name):
            yield (
                "the worker needs the API's credentials: kubectl create secret generic "
                f'{API_SECRET} --namespace {namespace} --from-literal={name}="${name}"'
            )
    yield f"its work pool is made, once, by: kinetic pool create --name {pool}"


def _shipped(name: str) -> str:
    folder = resources.files("kinetic_flows.deployments")
    return folder.joinpath("worker", name).read_text(encoding="utf-8")
