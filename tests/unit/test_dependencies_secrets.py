"""Credentials are recognised, refused where they are written down, and removed elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.dependencies.fetch import Fetcher, index_options
from kinetic_flows.dependencies.redaction import (
    Redactor,
    without_credentials,
    written_credentials,
)
from kinetic_flows.dependencies.uv_settings import Index, uv_settings

secrets = st.text("abcdefghijkXYZ0123456789_-", min_size=8, max_size=30)


@pytest.mark.parametrize(
    "text",
    [
        "https://joe:hunter22@example.com/simple",
        "git+https://ghp_0123456789@github.com/x/y.git",
        "pkg @ https://u:p@example.com/pkg.whl",
        "https://example.com/pkg.whl?token=abcdef",
        "https://example.com/a/pkg.whl?x=1&access_token=abcdef",
        "https://${USER}:plain@example.com/simple",
    ],
)
def test_a_written_credential_is_found_and_shown_without_itself(text: str) -> None:
    shown = written_credentials(text)
    assert shown is not None
    for secret in ("hunter22", "ghp_0123456789", "abcdef", "plain", "joe"):
        assert secret not in shown


@pytest.mark.parametrize(
    "text",
    [
        "numpy>=2",
        "https://example.com/simple",
        "git+ssh://git@github.com/x/y.git",
        "https://${USER}:${TOKEN}@example.com/simple",
        "https://${TOKEN}@example.com/simple",
        "https://__token__:${TOKEN}@example.com/simple",
        "https://example.com/pkg.whl?token=${TOKEN}",
        "pkg @ file:///home/me@work/pkg",
        "pkg @ git+https://github.com/x/y.git@v1.0",
    ],
)
def test_a_reference_or_a_name_everybody_has_is_no_credential(text: str) -> None:
    assert written_credentials(text) is None


@given(secrets, secrets)
def test_no_url_keeps_its_credentials(user: str, password: str) -> None:
    assert (
        without_credentials(f"x @ https://{user}:{password}@example.com/simple ; y")
        == "x @ https://example.com/simple ; y"
    )


def test_the_user_of_an_ssh_address_stays() -> None:
    assert without_credentials("git+ssh://git@host/x.git") == "git+ssh://git@host/x.git"


@given(secrets)
def test_no_message_keeps_a_secret_of_the_environment(secret: str) -> None:
    redactor = Redactor.of(
        {"UV_INDEX_MINE_PASSWORD": secret, "UV_INDEX": f"https://u:{secret}x@h/"}
    )
    message = redactor(f"failed with {secret} at https://joe:{secret}@host/simple and {secret}x")
    assert secret not in message


def test_uv_settings_carry_no_credential(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.uv.index]]\nname = "mine"\nurl = "https://joe:hunter22@example.com/simple"\n'
    )
    environ = {"UV_EXTRA_INDEX_URL": "https://ann:s3cret-token@other.example/simple"}
    settings = uv_settings(tmp_path, environ)
    text = str(settings.identity())
    assert "hunter22" not in text
    assert "s3cret-token" not in text
    assert "https://example.com/simple" in text
    assert "https://other.example/simple" in text


def test_named_indexes_take_their_login_from_the_environment() -> None:
    fetcher = Fetcher(
        indexes=(Index(url="https://example.com/simple", name="my-index"),),
        environ={"UV_INDEX_MY_INDEX_USERNAME": "u", "UV_INDEX_MY_INDEX_PASSWORD": "p"},
    )
    login = fetcher.login("https://example.com/files/x.whl")
    assert login is not None
    assert (login.user, login.password) == ("u", "p")
    assert "p" not in repr(login).replace("Login", "")


def test_variables_in_an_index_option_are_filled_in_for_the_download() -> None:
    indexes = tuple(index_options(["--extra-index-url https://${U}:${P}@example.com/simple"]))
    login = Fetcher(indexes=indexes, environ={"U": "me", "P": "pw"}).login("https://example.com/x")
    assert login is not None
    assert (login.user, login.password) == ("me", "pw")


def test_the_closest_index_of_a_host_gives_the_login() -> None:
    fetcher = Fetcher(
        indexes=(
            Index(url="https://a:1@example.com/team-a/simple"),
            Index(url="https://b:2@example.com/team-b/simple"),
        ),
        environ={},
    )
    login = fetcher.login("https://example.com/team-b/files/x.whl")
    assert login is not None
    assert login.user == "b"


@pytest.mark.parametrize(
    "url", ["https://other.example/x.whl", "http://example.com/x.whl", "https://example.com:8443/x"]
)
def test_a_login_is_never_sent_to_another_host_port_or_scheme(url: str, tmp_path: Path) -> None:
    fetcher = Fetcher(
        indexes=(Index(url="https://a:1@example.com/simple"),), environ={"HOME": str(tmp_path)}
    )
    assert fetcher.login(url) is None


def test_netrc_is_read_for_hosts_that_no_index_names(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine example.com login me password pw\n")
    netrc.chmod(0o600)
    login = Fetcher(indexes=(), environ={"NETRC": str(netrc)}).login("https://example.com/x.whl")
    assert login is not None
    assert (login.user, login.password) == ("me", "pw")
