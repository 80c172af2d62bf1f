"""The credentials that a run's own reports to Prefect are made with."""

from __future__ import annotations

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, temporary_settings

from kinetic_flows.clients.prefect_api import configured_credentials


def test_credentials_of_the_active_profile_are_found() -> None:
    with temporary_settings({PREFECT_API_KEY: "pnu_key", PREFECT_API_AUTH_STRING: "me:pass"}):
        assert configured_credentials() == {
            "PREFECT_API_KEY": "pnu_key",
            "PREFECT_API_AUTH_STRING": "me:pass",
        }


def test_without_credentials_there_are_none() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_KEY, PREFECT_API_AUTH_STRING}):
        assert not any(configured_credentials().values())
