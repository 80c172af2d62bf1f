"""Tokens for registries, by what they allow.

See https://distribution.github.io/distribution/spec/auth/token/ and, for scopes,
https://distribution.github.io/distribution/spec/auth/scope/.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from kinetic_flows.clients.registry.credentials import CredentialSource, RegistryCredentials
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    import httpx

    from kinetic_flows.clients.registry.connections import Answer
else:
    httpx = LazyModule("httpx")

TOKEN_MARGIN_SECONDS = 10.0
TOKEN_LIFE_SECONDS = 60.0
"""How long a token lives that does not say so (the token specification's default)."""

_CHALLENGE_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a registry wants to see (RFC 9110, section 11.6.1).

    Attributes:
        scheme: `basic` or `bearer`; something else, or empty, for what nothing answers.
        realm: URL of the token server.
        service: The registry's name there.
        scopes: What the token has to allow; empty when the registry does not say.
    """

    scheme: str
    realm: str
    service: str
    scopes: tuple[str, ...]

    @classmethod
    def read(cls, header: str) -> Challenge:
        """Read a `WWW-Authenticate` header."""
        scheme, _, rest = header.partition(" ")
        found = dict(_CHALLENGE_PARAMETER.findall(rest))
        return cls(
            scheme=scheme.lower(),
            realm=found.get("realm", ""),
            service=found.get("service", ""),
            scopes=tuple(found.get("scope", "").split()),
        )

    def may_be_answered(self, endpoint: str) -> bool:
        """Whether credentials may be sent to its token server: over https, or where all is http."""
        return self.scheme == "bearer" and (
            self.realm.startswith("https://")
            or (self.realm.startswith("http://") and endpoint.startswith("http://"))
        )


class AskTokenServer(Protocol):
    """Sends a request to a token server, as patiently as any."""

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        parameters: Iterable[tuple[str, str]] = (),
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer."""
        ...


@dataclass(frozen=True, kw_only=True)
class Token:
    """What a request is authorized with.

    Attributes:
        header: Value of `Authorization`.
        expires: When it is worth nothing any more, by the monotonic clock.
        scopes: What it was given for; None when it is good for everything.
    """

    header: str
    expires: float
    scopes: frozenset[tuple[str, str]] | None = frozenset()

    def allows(self, wanted: frozenset[tuple[str, str]]) -> bool:
        """Whether it is good for something, and still will be in a moment."""
        covers = self.scopes is None or wanted <= self.scopes
        return covers and time.monotonic() < self.expires


class RegistryTokens:
    """The tokens of one client, shared by its threads.

    Args:
        credentials: Where credentials come from.
        ask: Asks token servers.
    """

    def __init__(self, credentials: CredentialSource, ask: AskTokenServer) -> None:
        self._credentials = credentials
        self._ask = ask
        self._tokens: dict[str, list[Token]] = {}
        self._challenges: dict[str, Challenge] = {}
        self._lock = threading.Lock()
        self._renewing: dict[str, threading.Lock] = {}

    def header(self, registry: str, scopes: tuple[str, ...], endpoint: str) -> str | None:
        """Return what authorizes a request; None when nothing does, or nothing has to.

        Where a registry has named its token server once, a token for something else is had before
        it is asked for.

        Args:
            registry: Who is asked.
            scopes: What the request needs.
            endpoint: The registry's URL.
        """
        known = self._known(registry, scopes)
        challenge = self._challenges.get(registry)
        if known is not None or challenge is None:
            return known
        return self._renew(registry, scopes, replace(challenge, scopes=()), endpoint, None)

    def renew(
        self,
        registry: str,
        scopes: tuple[str, ...],
        challenge: Challenge,
        *,
        endpoint: str,
        refused: str | None,
    ) -> str | None:
        """Return what to authorize a request with that was refused; None when nothing helps.

        Args:
            registry: Who refused.
            scopes: What the request needs.
            challenge: What the registry wants.
            endpoint: Its URL.
            refused: What the request was authorized with, which is worth nothing any more.
        """
        with self._lock:
            self._forget(registry, refused)
        header = self._renew(registry, scopes, challenge, endpoint, refused)
        if header is not None:
            self._challenges[registry] = challenge
        return header

    def _renew(
        self,
        registry: str,
        scopes: tuple[str, ...],
        challenge: Challenge,
        endpoint: str,
        refused: str | None,
    ) -> str | None:
        with self._lock:
            renewing = self._renewing.setdefault(registry, threading.Lock())
        # Threads that lack the same token wait for one.
        with renewing:
            known = self._known(registry, scopes)
            if known is not None and known != refused:
                return known
            token = self._obtain(registry, scopes, challenge, endpoint)
            if token is None:
                return None
            with self._lock:
                self._tokens.setdefault(registry, []).insert(0, token)
            return token.header

    def _known(self, registry: str, scopes: Iterable[str]) -> str | None:
        wanted = _actions(scopes)
        with self._lock:
            known = self._tokens.get(registry, [])
            return next((token.header for token in known if token.allows(wanted)), None)

    def _forget(self, registry: str, refused: str | None) -> None:
        known = self._tokens.get(registry, [])
        now = time.monotonic()
        self._tokens[registry] = [
            token for token in known if token.header != refused and now < token.expires
        ]

    def _obtain(
        self, registry: str, scopes: tuple[str, ...], challenge: Challenge, endpoint: str
    ) -> Token | None:
        credentials = self._credentials.find(registry)
        if challenge.scheme == "basic":
            if credentials is None:
                return None
            return Token(header=basic(credentials), expires=float("inf"), scopes=None)
        if not challenge.may_be_answered(endpoint):
            return None
        # The registry knows what it wants to see for this request; that blobs of another
        # repository are to be mounted, not every one says.
        wanted = dict.fromkeys((*challenge.scopes, *scopes[1:])) if challenge.scopes else scopes
        answer = self._request(challenge, tuple(wanted), credentials)
        return read_token(answer, _actions((*wanted, *scopes)))

    def _request(
        self,
        challenge: Challenge,
        scopes: tuple[str, ...],
        credentials: RegistryCredentials | None,
    ) -> Answer:
        if credentials and credentials.refresh_token:
            form = {
                "service": challenge.service,
                "scope": " ".join(scopes),
                "grant_type": "refresh_token",
                "refresh_token": credentials.refresh_token,
                "client_id": "kinetic",
            }
            return self._ask("POST", challenge.realm, {}, form=form)
        headers = {"Authorization": basic(credentials)} if credentials else {}
        parameters = [("service", challenge.service), *(("scope", scope) for scope in scopes)]
        return self._ask("GET", challenge.realm, headers, parameters=parameters)


def basic(credentials: RegistryCredentials) -> str:
    """Return the `Authorization` of a user name and password."""
    request = httpx.Request("GET", "http://registry")
    login = httpx.BasicAuth(credentials.username, credentials.password)
    return str(next(login.sync_auth_flow(request)).headers["Authorization"])


def read_token(answer: Answer, scopes: frozenset[tuple[str, str]] = frozenset()) -> Token | None:
    """Read what a token server gives; None when it gives no token."""
    if answer.status != 200:
        return None
    try:
        content = json.loads(answer.body)
        text = content.get("token") or content["access_token"]
        life = float(content.get("expires_in") or TOKEN_LIFE_SECONDS)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    margin = min(TOKEN_MARGIN_SECONDS, life / 2)
    return Token(header=f"Bearer {text}", expires=time.monotonic() + life - margin, scopes=scopes)


def _actions(scopes: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Return the single actions of scopes such as `repository:NAME:pull,push`."""
    pairs = (scope.rpartition(":") for scope in scopes)
    return frozenset(
        (resource, action) for resource, _, actions in pairs for action in actions.split(",")
    )
