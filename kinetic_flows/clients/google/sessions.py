"""Sessions for Google's REST APIs, which send credentials to nobody who could be overheard."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Session

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


def may_have_credentials(url: str) -> bool:
    """Whether credentials may be sent to a URL: over TLS, or without leaving this machine."""
    parts = urlsplit(url)
    return parts.scheme != "http" or parts.hostname in _THIS_MACHINE


def open_session(credentials: Credentials, url: str) -> Session:
    """Return a session for an API.

    Args:
        credentials: Google credentials, which requests carry where they may.
        url: Where the API is.
    """
    from google.auth.transport.requests import AuthorizedSession
    from requests import Session

    return AuthorizedSession(credentials) if may_have_credentials(url) else Session()
