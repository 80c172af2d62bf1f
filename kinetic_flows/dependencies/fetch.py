"""Downloading packages of private indexes, with the credentials uv itself would use.

Credentials come from where uv takes them: the index URLs of its settings and of the
requirements files (variables expanded), `UV_INDEX_<NAME>_USERNAME` and `_PASSWORD`, the netrc
file, and the `keyring` program where uv is told to ask it. They are sent to the host they
belong to, and to no other.
"""

from __future__ import annotations

import netrc
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.errors import LockError
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.dependencies.lines import VARIABLE
from kinetic_flows.dependencies.redaction import without_credentials
from kinetic_flows.dependencies.uv import Runner, run_process
from kinetic_flows.dependencies.uv_settings import Index

if TYPE_CHECKING:
    import httpx
else:
    httpx = LazyModule("httpx")

TIMEOUT_SECONDS = 60.0
KEYRING_TIMEOUT_SECONDS = 30.0
RETRY_PAUSES_SECONDS = (0.3, 1.5)

_SERVER_ERRORS = 500


@dataclass(frozen=True)
class Login:
    """A user name and password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(****)"


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Downloads files from the indexes a project uses.

    Attributes:
        indexes: The indexes, with the credentials their URLs may carry.
        environ: The person's environment.
        asks_keyring: Whether uv asks the `keyring` program for passwords, and so shall we.
        run: What starts that program.
    """

    indexes: tuple[Index, ...]
    environ: Mapping[str, str]
    asks_keyring: bool = False
    run: Runner = run_process

    def fetch(self, url: str, target: Path) -> None:
        """Write the content of a URL to a file.

        Raises:
            LockError: It cannot be had; the message never carries the credentials.
        """
        insist(partial(self._attempt, url, target), RETRY_PAUSES_SECONDS)

    def login(self, url: str) -> Login | None:
        """Return the credentials for a URL: those of the closest index on its host."""
        own = _login_in(url)
        if own is not None:
            return own
        near = [index for index in self._expanded() if _origin(index.url) == _origin(url)]
        near.sort(key=lambda index: -_common_length(index.url, url))
        found = (login for index in near if (login := self._whole_login(index)))
        return next(found, None) or self._netrc_login(url)

    def _attempt(self, url: str, target: Path) -> None:
        login = self.login(url)
        auth = (login.user, login.password) if login else None
        try:
            with (
                self._connect() as client,
                # httpx takes credentials along to no other origin.
                client.stream("GET", _bare(url), auth=auth) as answer,
            ):
                if answer.is_success:
                    with target.open("wb") as file:
                        for piece in answer.iter_raw():
                            pause(0)  # it may be large, and nobody may wait for it any more
                            file.write(piece)
                    return
                code = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _transient(url, without_credentials(str(error) or repr(error))) from None
        if code == HTTPStatus.TOO_MANY_REQUESTS or code >= _SERVER_ERRORS:
            raise _transient(url, f"HTTP {code}")
        raise _refused(without_credentials(url), code)

    def _connect(self) -> httpx.Client:
        return httpx.Client(
            verify=_trust(self.environ.get("SSL_CERT_FILE"), self.environ.get("SSL_CERT_DIR")),
            follow_redirects=True,
            timeout=TIMEOUT_SECONDS,
            headers={"User-Agent": "kinetic-flows", "Accept-Encoding": "identity"},
        )

    def _expanded(self) -> Iterator[Index]:
        for index in self.indexes:
            url = expanded(index.url, self.environ)
            yield Index(url=url, name=index.name)

    def _index_login(self, index: Index) -> Login | None:
        if index.name:
            prefix = f"UV_INDEX_{re.sub(r'[^A-Z0-9]', '_', index.name.upper())}"
            user = self.environ.get(f"{prefix}_USERNAME")
            password = self.environ.get(f"{prefix}_PASSWORD")
            if user or password:
                return Login(user or "", password or "")
        return _login_in(index.url)

    def _whole_login(self, index: Index) -> Login | None:
        """Return the login of an index, its password from the keyring where only that has it."""
        login = self._index_login(index)
        if login is None or login.password or not self.asks_keyring:
            return login
        for service in (_bare(index.url), urlsplit(index.url).hostname or ""):
            password = self._keyring(service, login.user)
            if password:
                return Login(login.user, password)
        return login

    def _keyring(self, service: str, user: str) -> str | None:
        command = ["keyring", "get", service, user]
        try:
            done = self.run(
                command,
                cwd=Path.cwd(),
                environ=self.environ,
                timeout_seconds=KEYRING_TIMEOUT_SECONDS,
            )
        except (OSError, TimeoutError):
            return None
        return done.stdout.strip() if done.exit_code == 0 else None

    def _netrc_login(self, url: str) -> Login | None:
        path = Path(self.environ.get("NETRC") or Path(self.environ.get("HOME", "/")) / ".netrc")
        host = urlsplit(url).hostname
        if host is None or not path.is_file():
            return None
        try:
            entry = netrc.netrc(path).authenticators(host)
        except (netrc.NetrcParseError, OSError, UnicodeDecodeError):
            return None
        return Login(entry[0], entry[2]) if entry else None


def index_options(lines: Iterable[str]) -> Iterator[Index]:
    """Yield the indexes that option lines of requirements files name."""
    for line in lines:
        flag, _, value = line.partition(" ")
        known = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links")
        if flag in known and ("://" in value or "${" in value):
            yield Index(url=value.strip())


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """Return a text with its `${VARIABLES}` replaced."""
    return VARIABLE.sub(lambda match: environ.get(match[1], match[0]), text)


@lru_cache
def _trust(ca_file: str | None, ca_directory: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file or None, capath=ca_directory or None)


def _transient(url: str, problem: str) -> Transient:
    shown = without_credentials(url)
    error = LockError(
        f"{shown} cannot be downloaded: {problem}",
        value=shown,
        hint="check that its host can be reached, and try again",
    )
    return Transient(error)


def _refused(shown: str, code: int) -> LockError:
    hint = "check that the file is still there"
    if code in (401, 403):
        hint = (
            "give the credentials of its index in UV_INDEX_<NAME>_USERNAME and"
            " UV_INDEX_<NAME>_PASSWORD, or in ~/.netrc"
        )
    return LockError(f"{shown} cannot be downloaded: HTTP {code}", value=shown, hint=hint)


def _login_in(url: str) -> Login | None:
    parts = urlsplit(url)
    if parts.username is None and parts.password is None:
        return None
    return Login(unquote(parts.username or ""), unquote(parts.password or ""))


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _common_length(first: str, second: str) -> int:
    pairs = zip(urlsplit(first).path, urlsplit(second).path, strict=False)
    length = 0
    for one, other in pairs:
        if one != other:
            break
        length += 1
    return length
