"""What keeps the background Prefect server its user's own: a password in a private file.

The password is Prefect's auth string. It is sent only to a server that has proved that it knows
it: another program at the port learns nothing. A browser is let in by a link that can be used
once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from kinetic_flows.core.files import write_atomically

AUTH_STRING_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
"""Prefect's variable for what its server asks for, as `user:password`."""

PROOF_PATH = "/kinetic/proof"
SIGN_IN_PATH = "/kinetic/sign-in"
LINK_SECONDS = 120.0

_USER = "kinetic"
_FILE = "password"

_known: dict[str, str] = {}
"""The auth strings of APIs that are not among Prefect's own settings, by the API's URL."""

_keys: dict[str, str] = {}
"""Likewise their API keys."""

_chosen: list[str] = []
"""The API that this process was told to use, whatever Prefect's own settings say; or none."""


def read_auth_string(directory: Path) -> str | None:
    """Return the auth string of the server in a directory; None when it has none yet."""
    try:
        return (directory / _FILE).read_text().strip() or None
    except OSError:
        return None


def make_auth_string(directory: Path) -> str:
    """Return the auth string of the server in a directory, made if there is none yet."""
    known = read_auth_string(directory)
    if known:
        return known
    made = f"{_USER}:{secrets.token_urlsafe(32)}"
    write_atomically(directory / _FILE, f"{made}\n".encode())
    return made


def remember_access(api_url: str, auth_string: str) -> None:
    """Let this process use an API with an auth string."""
    _known[api_url] = auth_string


def access_to(api_url: str) -> str | None:
    """Return the auth string of an API; None where Prefect's own settings are to say."""
    return _known.get(api_url)


def key_of(api_url: str) -> str | None:
    """Return the API key of an API; None where Prefect's own settings are to say."""
    return _keys.get(api_url)


def choose_api(api_url: str, *, key: str | None = None, auth_string: str | None = None) -> None:
    """Let this process use an API, from now on and before any other.

    Args:
        api_url: The API.
        key: Its API key; None for none.
        auth_string: What it asks of everybody; None for nothing.
    """
    _chosen[:] = [api_url]
    if key:
        _keys[api_url] = key
    if auth_string:
        _known[api_url] = auth_string


def chosen_api() -> str | None:
    """Return the API that this process was told to use; None where nobody told."""
    return _chosen[0] if _chosen else None


def proof(auth_string: str, port: int, nonce: str) -> str:
    """Return what only a server that knows the auth string can answer.

    Args:
        auth_string: The server's.
        port: The port at which it is asked, so that the question cannot be passed on.
        nonce: What the asker has made up for this one question.
    """
    return _sign(auth_string, f"proof:{port}:{nonce}")


def make_link_token(auth_string: str, now: float) -> str:
    """Return a token for a link that lets one browser in, once and soon.

    Args:
        auth_string: The server's.
        now: Seconds of the clock that server and asker share.
    """
    said = f"{int(now + LINK_SECONDS)}.{secrets.token_urlsafe(16)}"
    return f"{said}.{_sign(auth_string, f'sign-in:{said}')}"


class LinkTokens:
    """The tokens of links, each good for one use.

    Args:
        auth_string: The server's.
    """

    def __init__(self, auth_string: str) -> None:
        self._auth_string = auth_string
        self._used: dict[str, float] = {}

    def redeem(self, token: str, now: float) -> bool:
        """Return whether a token lets its bearer in; it does so once."""
        said, _, signature = token.rpartition(".")
        genuine = hmac.compare_digest(
            signature.encode(), _sign(self._auth_string, f"sign-in:{said}").encode()
        )
        if not genuine:
            return False
        expires = float(said.partition(".")[0])
        self._used = {used: until for used, until in self._used.items() if until > now}
        if expires <= now or said in self._used:
            return False
        self._used[said] = expires
        return True


def _sign(auth_string: str, text: str) -> str:
    return hmac.new(auth_string.encode(), text.encode(), hashlib.sha256).hexdigest()
