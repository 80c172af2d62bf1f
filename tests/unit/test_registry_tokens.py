"""Tokens for registries: asked for once, for what is needed, and of whom they may be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from kinetic_flows.clients.registry.connections import Answer
from kinetic_flows.clients.registry.credentials import RegistryCredentials
from kinetic_flows.clients.registry.tokens import Challenge, RegistryTokens

REGISTRY = "registry.dev"
ENDPOINT = "https://registry.dev"
PULL = ("repository:p/app:pull",)
PUSH = ("repository:p/app:pull,push",)
MOUNT = ("repository:p/app:pull,push", "repository:p/layers:pull")


class Login:
    """Stands for a login of one kind."""

    def __init__(self, **parts: str) -> None:
        self._credentials = RegistryCredentials(**parts) if parts else None

    def find(self, registry: str) -> RegistryCredentials | None:
        return self._credentials


class TokenServer:
    """Gives tokens, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[tuple[str, str]]]] = []
        self.headers: list[Mapping[str, str]] = []
        self._lock = threading.Lock()

    def __call__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        parameters: Iterable[tuple[str, str]] = (),
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        with self._lock:
            self.asked.append((method, url, [*parameters, *(form or {}).items()]))
            self.headers.append(headers)
            content = {"token": f"t{len(self.asked)}", "expires_in": 300}
        return Answer(status=200, headers={}, body=json.dumps(content).encode())


def challenge(scope: str = "", realm: str = "https://auth.dev/token") -> Challenge:
    told = f',scope="{scope}"' if scope else ""
    return Challenge.read(f'Bearer realm="{realm}",service="{REGISTRY}"{told}')


def renew(
    tokens: RegistryTokens,
    scopes: tuple[str, ...],
    asked: Challenge | None = None,
    refused: str | None = None,
) -> str | None:
    known = asked or challenge(scopes[0])
    return tokens.renew(REGISTRY, scopes, known, endpoint=ENDPOINT, refused=refused)


def test_a_mount_asks_for_both_repositories_though_the_registry_names_one() -> None:
    server = TokenServer()
    tokens = RegistryTokens(Login(), server)

    assert renew(tokens, MOUNT) == "Bearer t1"

    ((method, url, parameters),) = server.asked
    assert (method, url) == ("GET", "https://auth.dev/token")
    assert parameters == [("service", REGISTRY), *(("scope", scope) for scope in MOUNT)]
    assert tokens.header(REGISTRY, MOUNT, ENDPOINT) == "Bearer t1"


def test_a_token_to_push_is_good_for_reading_and_none_is_used_for_more_than_it_allows() -> None:
    server = TokenServer()
    tokens = RegistryTokens(Login(), server)
    renew(tokens, PUSH)

    assert tokens.header(REGISTRY, PULL, ENDPOINT) == "Bearer t1"
    # The registry has named its token server: no request is wasted on being refused first.
    assert tokens.header(REGISTRY, MOUNT, ENDPOINT) == "Bearer t2"
    assert tokens.header("other.dev", PULL, "https://other.dev") is None
    assert len(server.asked) == 2


def test_a_refused_token_is_forgotten() -> None:
    tokens = RegistryTokens(Login(), TokenServer())
    first = renew(tokens, PULL)

    assert renew(tokens, PULL, refused=first) == "Bearer t2"
    assert tokens.header(REGISTRY, PULL, ENDPOINT) == "Bearer t2"


def test_threads_that_are_refused_together_have_one_token() -> None:
    server = TokenServer()
    tokens = RegistryTokens(Login(), server)
    together = threading.Barrier(8)

    def ask(_: int) -> str | None:
        together.wait(10)
        return renew(tokens, PUSH)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"Bearer t1"}
    assert len(server.asked) == 1


def test_a_refresh_token_is_posted_and_never_part_of_a_url() -> None:
    server = TokenServer()
    renew(RegistryTokens(Login(refresh_token="secret"), server), MOUNT)

    ((method, url, form),) = server.asked
    assert method == "POST"
    assert "secret" not in url
    assert dict(form)["scope"] == " ".join(MOUNT)


def test_a_registry_of_passwords_is_sent_them_without_being_refused_each_time() -> None:
    server = TokenServer()
    tokens = RegistryTokens(Login(username="me", password="it"), server)
    header = renew(tokens, PULL, Challenge.read('Basic realm="registry"'))

    assert header == "Basic bWU6aXQ="
    assert tokens.header(REGISTRY, MOUNT, ENDPOINT) == header
    assert not server.asked


@pytest.mark.parametrize(
    "header",
    [
        "",
        'Bearer realm="http://auth.dev/token"',
        'Bearer realm="ftp://auth.dev"',
        'Negotiate realm="https://auth.dev"',
    ],
)
def test_credentials_go_to_no_token_server_over_plain_http(header: str) -> None:
    server = TokenServer()
    tokens = RegistryTokens(Login(username="me", password="it"), server)

    assert renew(tokens, PULL, Challenge.read(header)) is None
    assert not server.asked
