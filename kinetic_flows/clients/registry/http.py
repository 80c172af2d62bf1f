"""Requests to an OCI registry: where they go, what authorizes them, and that they are tried again.

See https://github.com/opencontainers/distribution-spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from kinetic_flows.clients.registry.connections import (
    Answer,
    Body,
    Connections,
    OpenAnswer,
    RegistryLimits,
    RegistryUnreachable,
)
from kinetic_flows.clients.registry.credentials import CredentialSource, RegistryCredentials
from kinetic_flows.clients.registry.tokens import Challenge, RegistryTokens, basic, read_token
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.image_reference import DOCKER_HUB, ImageReference
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.waits import try_failed, waiting_for

if TYPE_CHECKING:
    import httpx

DOCKER_HUB_API = "https://registry-1.docker.io"
MOST_REDIRECTS = 5

Sleep: TypeAlias = Callable[[float], None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RegistryRequest:
    """A request about an image's repository.

    Attributes:
        method: The method.
        image: Whose repository.
        path: Path below the repository, such as `manifests/latest`, or a URL that the registry
            gave.
        headers: Headers beside the authorization.
        body: Opens what is sent, for every try anew; None for nothing.
        body_bytes: How much that is.
        actions: What the token has to allow.
        reads_too: Another repository of the registry that it has to let us read.
        read_seconds: Until the answer begins; None for the limit of all requests.
    """

    method: str
    image: ImageReference
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    body_bytes: int = 0
    actions: str = "pull"
    reads_too: str = ""
    read_seconds: float | None = None

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a token has to allow."""
        own = f"repository:{self.image.repository}:{self.actions}"
        return (own, f"repository:{self.reads_too}:pull") if self.reads_too else (own,)

    @property
    def all_headers(self) -> dict[str, str]:
        """Its headers, with the length of what is sent."""
        sends = self.method in ("POST", "PUT", "PATCH")
        return {**self.headers, **({"Content-Length": str(self.body_bytes)} if sends else {})}


class RegistryTransport:
    """Sends requests to registries, with the credentials of a source; several threads may.

    Args:
        credentials: Where credentials come from.
        endpoints: Other URLs for registries, by host: mirrors and private endpoints.
        limits: How patient to be.
        sleep: Waits between tries.

    Attributes:
        limits: How patient it is.
        connections: What its requests go over.
    """

    def __init__(
        self,
        *,
        credentials: CredentialSource,
        endpoints: Mapping[str, str],
        limits: RegistryLimits,
        sleep: Sleep = pause,
    ) -> None:
        self.limits = limits
        self.connections = Connections(limits)
        self._endpoints = endpoints
        self._sleep = sleep
        self._tokens = RegistryTokens(credentials, self._ask_token_server)

    def close(self) -> None:
        """Close the connections."""
        self.connections.close()

    def ask(
        self, method: str, image: ImageReference, path: str, accept: tuple[str, ...] = ()
    ) -> Answer:
        """Send a request that changes nothing, with a token if one is asked for.

        Args:
            method: `GET` or `HEAD`.
            image: Whose repository.
            path: Path below the repository, such as `manifests/latest`.
            accept: Media types that are understood.

        Raises:
            RegistryUnreachable: No usable answer came.
        """
        headers = {"Accept": ", ".join(accept)} if accept else {}
        return self.send(RegistryRequest(method=method, image=image, path=path, headers=headers))

    def send(self, request: RegistryRequest) -> Answer:
        """Send a request until an answer comes that is worth having.

        Raises:
            RegistryUnreachable: None came.
        """
        return self.insist(self.endpoint(request.image.registry), partial(self.send_once, request))

    def send_once(self, request: RegistryRequest) -> Answer:
        """Send a request once, twice when a token has to be had first.

        Raises:
            Transient: There is no answer, or the registry is busy.
            RegistryUnreachable: The answer cannot be used.
        """
        with self.open(request) as opened:
            return opened.read()

    def insist(self, url: str, attempt: Callable[[], T], *, moves_data: bool = False) -> T:
        """Try something with a server, as often as the limits allow, while it is `Transient`.

        Args:
            url: Of the server.
            attempt: One try.
            moves_data: Whether it may take long because much is sent.
        """
        with waiting_for(f"registry {urlsplit(url).hostname}", moves_data=moves_data):
            return insist(attempt, self.limits.pauses_seconds, sleep=self._sleep)

    def wait(self, failed: Transient, tries: int) -> None:
        """Wait after a try that failed, as long as the registry wants, or longer each time.

        Args:
            failed: How it failed.
            tries: How many have failed, one after the other.
        """
        try_failed()
        usual = self.limits.backoff_seconds * 2 ** (tries - 1)
        self._sleep(usual if failed.wait_seconds is None else failed.wait_seconds)

    @contextmanager
    def open(self, request: RegistryRequest) -> Iterator[OpenAnswer]:
        """Send a request once, and give its answer before all of it has come.

        Raises:
            Transient: There is no answer, it breaks off, or the registry is busy.
        """
        registry = request.image.registry
        authorization = self._tokens.header(registry, request.scopes, self.endpoint(registry))
        response = self._start(request, authorization)
        if response.status_code == 401:
            response = self._authorized(request, response, authorization)
        with closing(response):
            yield self.connections.opened(response)

    def accepts(self, registry: str, credentials: RegistryCredentials) -> bool:
        """Whether a registry's token server knows a user name and password.

        Raises:
            RegistryUnreachable: No usable answer came.
        """
        endpoint = self.endpoint(registry)
        answer = self._ask_anybody("GET", f"{endpoint}/v2/", {})
        challenge = Challenge.read(answer.headers.get("www-authenticate", ""))
        if not challenge.may_be_answered(endpoint):
            raise RegistryUnreachable(f"it answered {answer.status} and names no token server")
        headers = {"Authorization": basic(credentials)}
        named = (("service", challenge.service), ("account", credentials.username))
        answer = self._ask_token_server("GET", challenge.realm, headers, parameters=named)
        if answer.status not in (200, 401, 403):
            raise RegistryUnreachable(f"its token server answered {answer.status}")
        return read_token(answer) is not None

    def endpoint(self, registry: str) -> str:
        """Return the URL of a registry: plain http for this machine's own, as Docker has it."""
        configured = self._endpoints.get(registry)
        if configured:
            return configured.rstrip("/")
        if registry == DOCKER_HUB:
            return DOCKER_HUB_API
        host = urlsplit(f"//{registry}").hostname or ""
        local = host == "localhost" or host.startswith("127.") or host == "::1"
        return f"{'http' if local else 'https'}://{registry}"

    def url(self, request: RegistryRequest) -> str:
        """Return where a request goes."""
        if "://" in request.path:
            return request.path
        endpoint = self.endpoint(request.image.registry)
        return f"{endpoint}/v2/{request.image.repository}/{request.path}"

    def _start(self, request: RegistryRequest, authorization: str | None) -> httpx.Response:
        """Send a request where it goes, and on to where the registry says that it should."""
        url, endpoint = self.url(request), self.endpoint(request.image.registry)
        for _ in range(MOST_REDIRECTS):
            # Its tokens are for the registry alone, not for where it keeps its blobs.
            authorized = authorization is not None and _is_of(url, endpoint)
            response = self.connections.start(
                request.method,
                url,
                body=request.body,
                headers=request.all_headers
                | ({"Authorization": str(authorization)} if authorized else {}),
                timeout=self.connections.timeout(request.read_seconds),
            )
            if response.status_code not in (307, 308):
                return response
            response.close()
            url = urljoin(url, response.headers.get("location", ""))
        raise RegistryUnreachable(f"it redirected a request {MOST_REDIRECTS} times")

    def _authorized(
        self, request: RegistryRequest, response: httpx.Response, refused: str | None
    ) -> httpx.Response:
        """Send a request again that was refused, if something can authorize it."""
        try:
            renewed = self._answer_challenge(request, response, refused)
        except BaseException:
            response.close()
            raise
        if renewed is None:
            return response
        response.close()
        return self._start(request, renewed)

    def _answer_challenge(
        self, request: RegistryRequest, response: httpx.Response, refused: str | None
    ) -> str | None:
        """Return what to authorize a request with; None when nothing can be done."""
        registry = request.image.registry
        endpoint = self.endpoint(registry)
        if not _is_of(str(response.url), endpoint):
            return None
        challenge = Challenge.read(response.headers.get("www-authenticate", ""))
        return self._tokens.renew(
            registry, request.scopes, challenge, endpoint=endpoint, refused=refused
        )

    def _ask_token_server(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        parameters: Iterable[tuple[str, str]] = (),
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        joint = "&" if "?" in url else "?"
        query = urlencode(list(parameters))
        return self._ask_anybody(method, f"{url}{joint}{query}" if query else url, headers, form)

    def _ask_anybody(
        self, method: str, url: str, headers: Mapping[str, str], form: object = None
    ) -> Answer:
        """Send a request until an answer comes that is worth having."""

        def attempt() -> Answer:
            response = self.connections.start(method, url, headers=headers, data=form)
            with closing(response):
                return self.connections.opened(response).read()

        return self.insist(url, attempt)


def _is_of(url: str, endpoint: str) -> bool:
    """Whether a URL is of the server at an endpoint."""
    one, other = urlsplit(url), urlsplit(endpoint)
    return (one.scheme, one.hostname, _port(one)) == (other.scheme, other.hostname, _port(other))


def _port(url: SplitResult) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)
