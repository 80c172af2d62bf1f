"""The credentials that Prefect's API is used with, here and in a run's own process."""

from __future__ import annotations

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

from kinetic_flows.clients.prefect.access import api_settings, credentials_for
from kinetic_flows.clients.prefect.server_access import remember_access

API = "https://prefect.example/api"


def test_credentials_of_the_active_profile_are_found() -> None:
    with temporary_settings({PREFECT_API_KEY: "pnu_key", PREFECT_API_AUTH_STRING: "me:pass"}):
        assert credentials_for(API, {}) == {
            "PREFECT_API_KEY": "pnu_key",
            "PREFECT_API_AUTH_STRING": "me:pass",
        }


def test_variables_come_before_the_profile() -> None:
    with temporary_settings({PREFECT_API_KEY: "pnu_key"}):
        assert credentials_for(API, {"PREFECT_API_KEY": "pnu_new"}) == {
            "PREFECT_API_KEY": "pnu_new"
        }


def test_without_credentials_there_are_none() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_KEY, PREFECT_API_AUTH_STRING}):
        assert credentials_for(API, {}) == {}
        assert PREFECT_API_AUTH_STRING not in api_settings(API)


def test_a_background_server_gets_its_own_password_and_no_other_credentials() -> None:
    own = "http://127.0.0.1:14242/api"
    remember_access(own, "kinetic:secret")
    environ = {"PREFECT_API_AUTH_STRING": "me:pass", "PREFECT_API_KEY": "pnu_key"}
    assert credentials_for(own, environ) == {"PREFECT_API_AUTH_STRING": "kinetic:secret"}
    assert api_settings(own)[PREFECT_API_AUTH_STRING] == "kinetic:secret"
    assert credentials_for(API, environ) == environ
