"""Requests to an OCI registry: tokens, retries and limits.

See https://github.com/opencontainers/distribution-spec and, for the token flow,
https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from kinetic_flows.clients.registry.credentials import CredentialSource, RegistryCredentials
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.image_reference import DOCKER_HUB, ImageReference
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.waits import waiting_for

if TYPE_CHECKING:
    import httpx
else:
    httpx = LazyModule("httpx")

DOCKER_HUB_API = "https://registry-1.docker.io"
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
MAX_BODY_BYTES = 16 << 20
TOKEN_MARGIN_SECONDS = 10.0
TOKEN_LIFE_SECONDS = 60.0
"""How long a token lives that does not say so (the token specification's default)."""

_CHALLENGE_PARAMETER = re.compile(r'(\w+)="([^"]*)"')

Sleep: TypeAlias = Callable[[float], None]


class RegistryUnreachable(Exception):
    """No usable answer came within the tries and the time allowed."""


@dataclass(frozen=True, kw_only=True)
class RegistryLimits:
    """Timeouts, tries and pauses of requests to a registry.

    Attributes:
        connect_seconds: Until a connection stands.
        read_seconds: Until the next byte arrives.
        total_seconds: For one question, all its requests and tries together.
        tries: How often one request is sent.
        backoff_seconds: Pause after the first failed try; doubled after each.
        max_retry_after_seconds: The longest `Retry-After` that is waited for.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    total_seconds: float = 120.0
    tries: int = 5
    backoff_seconds: float = 0.5
    max_retry_after_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A registry's answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class _Token:
    header: str
    expires: float


class RegistryTransport:
    """Sends requests to registries, with the credentials of a source.

    Args:
        credentials: Where credentials come from.
        endpoints: Other URLs for registries, by host: mirrors and private endpoints.
        limits: How patient to be.
        sleep: Waits between tries.
    """

    def __init__(
        self,
        *,
        credentials: CredentialSource,
        endpoints: Mapping[str, str],
        limits: RegistryLimits,
        sleep: Sleep = pause,
    ) -> None:
        self._credentials = credentials
        self._endpoints = endpoints
        self._limits = limits
        self._sleep = sleep
        self._client: httpx.Client | None = None
        self._tokens: dict[tuple[str, str], _Token] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def ask(
        self, method: str, image: ImageReference, path: str, accept: tuple[str, ...] = ()
    ) -> Answer:
        """Send a request about an image's repository, with a token if one is asked for.

        Args:
            method: `GET` or `HEAD`.
            image: Whose repository.
            path: Path below the repository, such as `manifests/latest`.
            accept: Media types that are understood.

        Raises:
            RegistryUnreachable: No usable answer came.
        """
        url = f"{self.endpoint(image.registry)}/v2/{image.repository}/{path}"
        headers = {"Accept": ", ".join(accept)} if accept else {}
        key = (image.registry, image.repository)
        answer = self._try(method, url, {**headers, **self._authorization(key)})
        if answer.status != 401:
            return answer
        authorization = self._answer_challenge(image, answer.headers.get("www-authenticate", ""))
        if authorization is None:
            return answer
        return self._try(method, url, {**headers, "Authorization": authorization})

    def accepts(self, registry: str, credentials: RegistryCredentials) -> bool:
        """Whether a registry's token server knows a user name and password.

        Raises:
            RegistryUnreachable: No usable answer came.
        """
        answer = self._try("GET", f"{self.endpoint(registry)}/v2/", {})
        scheme, _, rest = answer.headers.get("www-authenticate", "").partition(" ")
        parameters = dict(_CHALLENGE_PARAMETER.findall(rest))
        realm = parameters.get("realm", "")
        if scheme.lower() != "bearer" or not _may_ask(realm, self.endpoint(registry)):
            raise RegistryUnreachable(f"it answered {answer.status} and names no token server")
        headers = {"Authorization": _basic(credentials)}
        named = {"service": parameters.get("service", ""), "account": credentials.username}
        answer = self._try("GET", realm, headers, parameters=named)
        if answer.status not in (200, 401, 403):
            raise RegistryUnreachable(f"its token server answered {answer.status}")
        return _read_token(answer) is not None

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

    def _authorization(self, key: tuple[str, str]) -> dict[str, str]:
        token = self._tokens.get(key)
        if token is None or token.expires < time.monotonic():
            return {}
        return {"Authorization": token.header}

    def _answer_challenge(self, image: ImageReference, challenge: str) -> str | None:
        """Return what to authorize a request with; None when nothing can be done."""
        scheme, _, rest = challenge.partition(" ")
        credentials = self._credentials.find(image.registry)
        if scheme.lower() == "basic":
            return _basic(credentials) if credentials else None
        parameters = dict(_CHALLENGE_PARAMETER.findall(rest))
        realm = parameters.get("realm", "")
        if scheme.lower() != "bearer" or not _may_ask(realm, self.endpoint(image.registry)):
            return None
        scope = parameters.get("scope") or f"repository:{image.repository}:pull"
        token = self._fetch_token(realm, parameters.get("service", ""), scope, credentials)
        if token is not None:
            self._tokens[image.registry, image.repository] = token
        return token.header if token else None

    def _fetch_token(
        self, realm: str, service: str, scope: str, credentials: RegistryCredentials | None
    ) -> _Token | None:
        parameters = {"service": service, "scope": scope}
        if credentials and credentials.refresh_token:
            form = {
                **parameters,
                "grant_type": "refresh_token",
                "refresh_token": credentials.refresh_token,
                "client_id": "kinetic",
            }
            answer = self._try("POST", realm, {}, form=form)
        else:
            headers = {"Authorization": _basic(credentials)} if credentials else {}
            answer = self._try("GET", realm, headers, parameters=parameters)
        return _read_token(answer)

    def _try(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        parameters: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request until an answer comes that is worth having."""
        limits = self._limits
        attempt = partial(self._attempt, method, url, headers=headers, params=parameters, data=form)
        with waiting_for(f"registry {httpx.URL(url).host}"):
            return insist(
                attempt,
                [limits.backoff_seconds * 2**number for number in range(limits.tries - 1)],
                sleep=self._sleep,
            )

    def _attempt(self, method: str, url: str, **parts: Any) -> Answer:
        try:
            answer = self._send(self._connect().build_request(method, url, **parts))
        except (httpx.HTTPError, OSError) as error:
            raise self._transient(f"{type(error).__name__}: {error}") from error
        if answer.status in RETRIED_STATUSES:
            raise self._transient(f"it answered {answer.status}", self._retry_after(answer))
        return answer

    def _transient(self, problem: str, wait_seconds: float | None = None) -> Transient:
        unreachable = RegistryUnreachable(f"{problem} ({self._limits.tries} tries)")
        return Transient(unreachable, wait_seconds)

    def _retry_after(self, answer: Answer) -> float | None:
        """Return the seconds an answer asks to wait for (RFC 9110, section 10.2.3)."""
        text = answer.headers.get("retry-after", "")
        if text.isdigit():
            return min(float(text), self._limits.max_retry_after_seconds)
        try:
            wanted = parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
        return min(max(wanted, 0.0), self._limits.max_retry_after_seconds)

    def _send(self, request: httpx.Request) -> Answer:
        with closing(self._connect().send(request, stream=True)) as response:
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise RegistryUnreachable(f"it answered with more than {MAX_BODY_BYTES} bytes")
            return Answer(status=response.status_code, headers=response.headers, body=bytes(body))

    def _connect(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                limits = self._limits
                timeout = httpx.Timeout(limits.read_seconds, connect=limits.connect_seconds)
                # Blobs are often served elsewhere; httpx drops the token when the host changes.
                self._client = httpx.Client(
                    timeout=timeout,
                    follow_redirects=True,
                    headers={"User-Agent": "kinetic", "Accept-Encoding": "identity"},
                )
            return self._client


def _basic(credentials: RegistryCredentials) -> str:
    request = httpx.Request("GET", "http://registry")
    login = httpx.BasicAuth(credentials.username, credentials.password)
    return str(next(login.sync_auth_flow(request)).headers["Authorization"])


def _may_ask(realm: str, endpoint: str) -> bool:
    """Whether credentials may be sent to a token server: over https, or where all is http."""
    return realm.startswith("https://") or (
        realm.startswith("http://") and endpoint.startswith("http://")
    )


def _read_token(answer: Answer) -> _Token | None:
    if answer.status != 200:
        return None
    try:
        content = json.loads(answer.body)
        text = content.get("token") or content["access_token"]
        life = float(content.get("expires_in") or TOKEN_LIFE_SECONDS)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    margin = min(TOKEN_MARGIN_SECONDS, life / 2)
    return _Token(header=f"Bearer {text}", expires=time.monotonic() + life - margin)
