"""Logging in to a Prefect API: what is asked, what is refused, and what Prefect keeps of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import (
    PREFECT_API_KEY,
    PREFECT_API_URL,
    PREFECT_CLOUD_API_URL,
    PREFECT_PROFILES_PATH,
    load_profiles,
    temporary_settings,
)

from kinetic_flows.clients.prefect.logins import Login, log_in, save_login
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError
from loopback.wire import Request, Response, WireServer

PASSWORD = "kinetic:let-me-in"
KEY = "pnu_0123456789"
ACCOUNT, WORKSPACE = "5c1e0a1e-0000-4000-8000-000000000001", "5c1e0a1e-0000-4000-8000-000000000002"


def as_json(value: Any, status: int = 200) -> Response:
    headers = {"Content-Type": "application/json"}
    return Response(status=status, headers=headers, body=json.dumps(value).encode())


def answer(request: Request) -> Response:
    """Answer as a server with a password does, and as Prefect Cloud."""
    if request.path == "/api/me/workspaces":
        return as_json(workspaces if allowed(request) else {}, 200 if allowed(request) else 401)
    if request.path.startswith("/page"):
        return Response(body=b"<!doctype html>")
    if not allowed(request):
        return as_json({"exception_message": "Unauthorized"}, 401)
    if request.path.endswith("/work_pools/filter"):
        return as_json([], statuses.get("pools", 200))
    if request.path == "/api/admin/version":
        return as_json("3.8.8")
    return as_json({"detail": "Not Found"}, 404)


workspaces: list[dict[str, str]] = []
statuses: dict[str, int] = {}


def allowed(request: Request) -> bool:
    basic = base64.b64encode(PASSWORD.encode()).decode()
    return request.headers.get("Authorization") in (f"Basic {basic}", f"Bearer {KEY}")


@pytest.fixture
def server() -> Iterator[WireServer]:
    workspaces[:] = []
    statuses.clear()
    server = WireServer(answer).start()
    yield server
    server.stop()


@pytest.fixture
def profiles(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "prefect" / "profiles.toml"
    with temporary_settings({PREFECT_PROFILES_PATH: path}):
        yield path


@pytest.mark.parametrize("copied", ["", "/", "/api", "/api/", "/dashboard", "/runs?tab=flow"])
def test_a_server_is_found_by_whatever_address_was_copied(server: WireServer, copied: str) -> None:
    login = log_in(f"{server.url}{copied}", PASSWORD)
    assert (login.url, login.version) == (f"{server.url}/api", "3.8.8")
    assert login.variables() == {"PREFECT_API_AUTH_STRING": PASSWORD}
    assert PASSWORD not in repr(login)


@pytest.mark.parametrize(
    ("secret", "words"), [(None, "does not accept"), ("kinetic:wrong", "does not accept")]
)
def test_a_wrong_password_is_told(server: WireServer, secret: str | None, words: str) -> None:
    with pytest.raises(PrefectServerError, match=words) as refused:
        log_in(server.url, secret)
    assert "wrong" not in str(refused.value)


def test_a_key_that_may_not_look_is_told(server: WireServer) -> None:
    statuses["pools"] = 403
    with pytest.raises(PrefectServerError, match="does not let this key look at work pools"):
        log_in(server.url, KEY)


def test_what_is_no_prefect_api_is_told(server: WireServer) -> None:
    with pytest.raises(PrefectServerError, match="no Prefect API"):
        log_in(f"{server.url}/page/api", PASSWORD)


def test_what_does_not_answer_is_told_at_once() -> None:
    with pytest.raises(PrefectServerError, match=r"127\.0\.0\.1:9/api cannot be reached"):
        log_in("http://127.0.0.1:9", PASSWORD)


@pytest.mark.parametrize("url", ["prefect.example", "ftp://prefect.example", "https://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is no URL of a Prefect API"):
        log_in(url, PASSWORD)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="has a password in it") as caught:
        log_in(f"https://{PASSWORD}@prefect.example/api")
    assert "let-me-in" not in f"{caught.value} {caught.value.value}"


def a_workspace(name: str) -> dict[str, str]:
    return {
        "account_id": ACCOUNT,
        "account_handle": "us",
        "workspace_id": WORKSPACE,
        "workspace_handle": name,
    }


def cloud_of(server: WireServer) -> dict[Any, Any]:
    # Known by its name, whatever answers there.
    return {PREFECT_CLOUD_API_URL: f"{server.url}/api"}


@pytest.mark.parametrize(
    "page",
    [
        f"https://app.prefect.cloud/account/{ACCOUNT}/workspace/{WORKSPACE}/dashboard",
        "https://app.prefect.cloud",
    ],
)
def test_a_workspace_of_prefect_cloud_is_found_by_its_page_or_its_key(
    server: WireServer, page: str
) -> None:
    workspaces[:] = [a_workspace("research")]
    with temporary_settings(cloud_of(server)):
        login = log_in(page, KEY)
    assert login.url == f"{server.url}/api/accounts/{ACCOUNT}/workspaces/{WORKSPACE}"
    assert login.variables() == {"PREFECT_API_KEY": KEY}


def test_a_key_for_several_workspaces_needs_one_named(server: WireServer) -> None:
    workspaces[:] = [a_workspace("research"), a_workspace("production")]
    with (
        temporary_settings(cloud_of(server)),
        pytest.raises(ConfigurationError, match="2 workspaces") as refused,
    ):
        log_in("https://api.prefect.cloud/api", KEY)
    assert "us/production at" in str(refused.value.hint)


def test_prefect_cloud_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="API key"):
        log_in("https://app.prefect.cloud")


def test_a_login_becomes_prefects_active_profile_and_leaves_the_others(profiles: Path) -> None:
    own = Login(url="https://prefect.example/api", auth_string=PASSWORD)
    save_login(own, "mine")
    saved = save_login(Login(url="https://api.prefect.cloud/api/x", key=KEY), "kinetic")
    assert (saved.path, saved.before) == (profiles, "mine")
    found = load_profiles(include_defaults=False)
    assert found.active_name == "kinetic"
    assert found["mine"].to_environment_variables() == {
        "PREFECT_API_URL": own.url,
        "PREFECT_API_AUTH_STRING": PASSWORD,
    }
    assert found["kinetic"].settings[PREFECT_API_KEY] == KEY
    assert profiles.stat().st_mode & 0o777 == 0o600


def test_logging_in_again_replaces_the_profile_whole(profiles: Path) -> None:
    save_login(Login(url="https://api.prefect.cloud/api/x", key=KEY), "kinetic")
    saved = save_login(Login(url="https://prefect.example/api"), "kinetic")
    assert saved.before is None
    settings = load_profiles(include_defaults=False)["kinetic"].settings
    assert dict(settings) == {PREFECT_API_URL: "https://prefect.example/api"}


def test_a_login_can_be_kept_aside(profiles: Path) -> None:
    save_login(Login(url="https://prefect.example/api"), "mine")
    save_login(Login(url="https://other.example/api"), "kinetic-team", is_active=False)
    found = load_profiles(include_defaults=False)
    assert found.active_name == "mine"
    assert "kinetic-team" in found.names
