"""Credentials go over TLS, or nowhere but to this machine."""

from __future__ import annotations

import pytest
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials

from kinetic_flows.clients.google.identity import identify
from kinetic_flows.clients.google.sessions import may_have_credentials, open_session


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://container.googleapis.com", True),
        ("https://10.0.0.5:8443", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080", True),
        ("http://10.0.0.5:8080", False),
        ("http://localhost.example.com", False),
    ],
)
def test_a_token_is_sent_over_tls_or_to_this_machine(url: str, may: bool) -> None:
    credentials = Credentials(token="ya29.secret")  # type: ignore[no-untyped-call]

    assert may_have_credentials(url) is may
    with open_session(credentials, url) as session:
        assert isinstance(session, AuthorizedSession) is may


def test_who_somebody_is_is_not_asked_where_the_token_could_be_overheard() -> None:
    credentials = Credentials(token="ya29.secret")  # type: ignore[no-untyped-call]

    assert identify(credentials, "http://10.0.0.5:8080").email is None
