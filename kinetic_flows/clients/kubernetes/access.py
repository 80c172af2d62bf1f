"""How to reach a Kubernetes cluster, and with which credentials."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from kinetic_flows.clients.google.errors import is_credential_error, status_of
from kinetic_flows.clients.google.login import LOGIN_HINT, default_google_credentials, require_login
from kinetic_flows.clients.google.sessions import open_session
from kinetic_flows.core.errors import ConfigurationError, LaunchError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from kubernetes_asyncio.client import Configuration

CONTAINER_API = "https://container.googleapis.com"
GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GOOGLE_TIMEOUT_SECONDS = 15.0
POD_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/"""

_LOGIN_PLUGIN = "gke-gcloud-auth-plugin"

METADATA_HOST = "169.254.169.254"
METADATA_TIMEOUT_SECONDS = 1.0
_FLAVOR = "Metadata-Flavor"


class ClusterAccessDenied(LaunchError):
    """There are no credentials for the cluster, or the cluster refuses them."""


@dataclass(frozen=True, kw_only=True)
class InCluster:
    """The cluster this process is a pod of, as the pod's service account."""


@dataclass(frozen=True, kw_only=True)
class Kubeconfig:
    """A cluster that `kubectl` knows.

    Attributes:
        path: The file, or several joined by `:`, as in `KUBECONFIG`.
        context: Context in it; None for the current one.
        expected: The GKE cluster that the settings name; its context wins over the current
            one if gcloud wrote it into the file.
    """

    path: str
    context: str | None = None
    expected: GkeCluster | None = None


@dataclass(frozen=True, kw_only=True)
class GkeCluster:
    """A GKE cluster, reached with Google credentials; neither gcloud nor kubectl is needed.

    Attributes:
        project: Its Google Cloud project.
        location: Its zone or region.
        name: Its name.
        is_chosen: Whether the settings name it; else it has the names that are the defaults.
        endpoint: Where the Kubernetes Engine API is.
        credentials: Google credentials; None for Application Default Credentials.
    """

    project: str
    location: str
    name: str
    is_chosen: bool = field(default=True, compare=False)
    endpoint: str = CONTAINER_API
    credentials: Credentials | None = field(default=None, repr=False, compare=False)

    @property
    def resource(self) -> str:
        """Its full name in the Kubernetes Engine API."""
        return f"projects/{self.project}/locations/{self.location}/clusters/{self.name}"

    @property
    def context(self) -> str:
        """Name of the context that `gcloud container clusters get-credentials` makes for it."""
        return f"gke_{self.project}_{self.location}_{self.name}"


ClusterAccess: TypeAlias = InCluster | Kubeconfig | GkeCluster


def find_access(
    environ: Mapping[str, str], gke: GkeCluster | None = None, *, pod_token: Path = POD_TOKEN
) -> ClusterAccess:
    """Choose how to reach the cluster, and as whom.

    1. `KUBECONFIG` is set on purpose, so it wins, in a pod too.
    2. A pod that launches on its own cluster does so as its service account, which needs neither
       a kubeconfig nor Google credentials.
    3. The configured cluster, with Google credentials: a pod may launch on another cluster than
       its own, and most who launch are no pods.
    4. `~/.kube/config`.

    Whether a pod's own cluster is the configured one is what Google's metadata server says.
    Where that does not answer, as outside GKE, the pod's own cluster is meant unless the
    settings name one: to launch on a cluster that was not asked for is worse than an error.

    Args:
        environ: This process's variables.
        gke: The cluster that is configured; None when none is.
        pod_token: Where a pod has its service account's token.

    Raises:
        ConfigurationError: Nothing says which cluster.
    """
    if environ.get("KUBECONFIG"):
        return Kubeconfig(path=environ["KUBECONFIG"], expected=gke)
    may_be_pod = bool(environ.get("KUBERNETES_SERVICE_HOST"))
    is_pod = may_be_pod and pod_token.exists()
    if is_pod and (gke is None or _is_around(environ, gke)):
        return InCluster()
    if gke is not None:
        return gke
    usual = Path(environ.get("HOME") or Path.home()) / ".kube" / "config"
    if usual.exists():
        return Kubeconfig(path=str(usual))
    if may_be_pod:
        # Its token is not mounted, which is what the error will say.
        return InCluster()
    raise ConfigurationError(
        "no Kubernetes cluster is configured",
        hint="name the GKE cluster, or set KUBECONFIG",
    )


def _is_around(environ: Mapping[str, str], gke: GkeCluster) -> bool:
    """Whether the configured cluster is the one that this pod is in."""
    around = own_cluster(environ)
    return not gke.is_chosen if around is None else around == gke.resource


async def load_configuration(access: ClusterAccess) -> Configuration:
    """Read addresses, certificates and tokens.

    Raises:
        ConfigurationError: They cannot be read.
        LaunchError: Google does not hand them out.
    """
    if isinstance(access, GkeCluster):
        return await asyncio.to_thread(_google_configuration, access)
    return await _kubernetes_configuration(access)


async def _kubernetes_configuration(access: InCluster | Kubeconfig) -> Configuration:
    from kubernetes_asyncio import config
    from kubernetes_asyncio.client import Configuration

    found = Configuration()
    try:
        if isinstance(access, InCluster):
            config.load_incluster_config(client_configuration=found)
        else:
            # The path is always given: the library reads KUBECONFIG once, at its import.
            await config.load_kube_config(
                config_file=access.path,
                context=access.context or expected_context(access),
                client_configuration=found,
            )
    except (config.ConfigException, OSError, ValueError, TypeError) as error:
        raise _unreadable(access, error) from error
    return found


def expected_context(access: Kubeconfig) -> str | None:
    """Return the context of the GKE cluster that the settings name, if the file has it."""
    from kubernetes_asyncio import config

    if access.expected is None:
        return None
    contexts, _ = config.list_kube_config_contexts(config_file=access.path)
    names = {str(each["name"]) for each in contexts}
    return access.expected.context if access.expected.context in names else None


def _unreadable(access: InCluster | Kubeconfig, error: Exception) -> ConfigurationError:
    if isinstance(access, InCluster):
        return ConfigurationError(
            f"this pod's service account cannot be used: {error}",
            hint="mount its token (automountServiceAccountToken), or set KUBECONFIG",
        )
    hint = "does `kubectl version` work with it?"
    if _LOGIN_PLUGIN in str(error):
        hint = f"install {_LOGIN_PLUGIN}, or name the GKE cluster, which needs no plugin"
    return ConfigurationError(
        f"the kubeconfig {access.path} cannot be used: {error}", value=access.path, hint=hint
    )


def _google_configuration(access: GkeCluster) -> Configuration:
    from kubernetes_asyncio.client import Configuration

    described = describe_gke_cluster(access)
    credentials = google_credentials(access)
    found = Configuration()
    host, certificate = _endpoint(described)
    found.host = host
    if certificate:
        found.ssl_ca_cert = _certificate_file(certificate)

    def use_token(configuration: Any) -> None:
        configuration.api_key["BearerToken"] = _fresh_token(credentials)
        configuration.api_key_prefix["BearerToken"] = "Bearer"  # the scheme

    async def refresh(configuration: Any) -> None:
        if not credentials.valid:
            await asyncio.to_thread(use_token, configuration)

    use_token(found)
    found.refresh_api_key_hook = refresh
    return found


def _endpoint(described: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the control plane's URL and its certificate; None for a publicly trusted one.

    The DNS endpoint is reached from anywhere, its access is IAM's, and Google signs it.
    https://cloud.google.com/kubernetes-engine/docs/concepts/network-isolation
    """
    dns = (described.get("controlPlaneEndpointsConfig") or {}).get("dnsEndpointConfig") or {}
    if dns.get("endpoint") and dns.get("allowExternalTraffic"):
        return f"https://{dns['endpoint']}", None
    address = str(described.get("endpoint") or "")
    host = address if "://" in address else f"https://{address}"
    return host, (described.get("masterAuth") or {}).get("clusterCaCertificate")


def _certificate_file(encoded: str) -> str:
    # The client takes a path; the file is public and lives as long as the process's client.
    with tempfile.NamedTemporaryFile(prefix="kinetic-ca-", suffix=".crt", delete=False) as file:
        file.write(base64.b64decode(encoded))
    return file.name


def google_credentials(access: GkeCluster) -> Any:
    """Return the Google credentials to ask with.

    Raises:
        LaunchError: There are none.
    """
    from google.auth.exceptions import GoogleAuthError

    if access.credentials is not None:
        return access.credentials
    require_login(access.project)
    try:
        return default_google_credentials([GOOGLE_SCOPE])
    except GoogleAuthError as error:
        raise ClusterAccessDenied(
            f"there are no Google credentials to reach cluster {access.name!r} with: {error}",
            value=access.name,
            hint=LOGIN_HINT,
        ) from error


def _fresh_token(credentials: Any) -> str:
    from google.auth.transport.requests import Request

    if not credentials.valid:
        credentials.refresh(Request())
    return str(credentials.token)


def describe_gke_cluster(access: GkeCluster) -> dict[str, Any]:
    """Return a cluster as the Kubernetes Engine API describes it.

    https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters

    Raises:
        LaunchError: It cannot be read.
    """
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    session = open_session(google_credentials(access), access.endpoint)
    url = f"{access.endpoint.rstrip('/')}/v1/{access.resource}"
    try:
        with session:
            answer = session.get(url, timeout=GOOGLE_TIMEOUT_SECONDS)
            answer.raise_for_status()
            described: dict[str, Any] = answer.json()
    except (RequestException, GoogleAuthError, ValueError) as error:
        raise _google_refusal(access, error) from error
    return described


def _google_refusal(access: GkeCluster, error: Exception) -> LaunchError:
    status = status_of(error)
    if status == 404:
        return LaunchError(
            f"project {access.project} has no GKE cluster {access.name!r} in {access.location}",
            value=access.name,
            hint=f"list them with: gcloud container clusters list --project {access.project}",
        )
    kind: type[LaunchError] = ClusterAccessDenied
    if status == 401 or is_credential_error(error):
        hint = LOGIN_HINT
    elif status == 403:
        hint = "grant roles/container.developer on the project, and enable the GKE API there"
    else:
        kind, hint = LaunchError, "check the network and the proxy; try again"
    return kind(
        f"Google does not describe the GKE cluster {access.name!r}: {error}",
        value=access.name,
        hint=hint,
    )


def own_cluster(environ: Mapping[str, str]) -> str | None:
    """Return the cluster's full name in the Kubernetes Engine API; None when nothing tells it.

    On GKE every pod can ask, with Workload Identity Federation and without:
    https://cloud.google.com/kubernetes-engine/docs/concepts/workload-identity#metadata_server

    Args:
        environ: This process's variables; `GCE_METADATA_HOST` is the server's address, as it is
            for Google's own clients.
    """
    try:
        return _asked(environ.get("GCE_METADATA_HOST") or METADATA_HOST)
    except (OSError, HTTPException):
        return None


@lru_cache(maxsize=1)
def _asked(host: str) -> str:
    """Ask once; a server that does not answer is asked again the next time."""
    project = _read(host, "project/project-id")
    location = _read(host, "instance/attributes/cluster-location")
    name = _read(host, "instance/attributes/cluster-name")
    return f"projects/{project}/locations/{location}/clusters/{name}"


def _read(host: str, path: str) -> str:
    # Never through a proxy: the address is a pod's own.
    connection = HTTPConnection(host, timeout=METADATA_TIMEOUT_SECONDS)
    try:
        url = f"/computeMetadata/v1/{path}"
        connection.request("GET", url, headers={_FLAVOR: "Google"})
        answer = connection.getresponse()
        if answer.status != 200 or answer.getheader(_FLAVOR) != "Google":
            raise HTTPException(f"{host} answers {answer.status}")
        return answer.read().decode().strip()
    finally:
        connection.close()
