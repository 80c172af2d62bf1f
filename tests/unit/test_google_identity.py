"""Whose Google credentials there are, and of which project, found in the files that say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinetic_flows.clients.google.identity import Identity, application_default, default_project

KEY = "GOOGLE_APPLICATION_CREDENTIALS"
CLOUD_SDK_CLIENT_ID = "764086051850-6qr4p6gpi6hn506pt8ejuq83di341hur.apps.googleusercontent.com"
"""Of gcloud, whose logins Google's library warns of: google.auth._cloud_sdk."""


@pytest.fixture
def gcloud(tmp_path: Path) -> Path:
    """The folder of gcloud, in which the configuration `work` is active."""
    folder = tmp_path / "gcloud"
    (folder / "configurations").mkdir(parents=True)
    (folder / "active_config").write_text("work\n")
    (folder / "configurations" / "config_work").write_text("[core]\nproject = work-project\n")
    (folder / "configurations" / "config_home").write_text("[core]\naccount = me@example.com\n")
    return folder


def test_a_service_account_is_told_from_a_person() -> None:
    robot = Identity(email="ci@my-project.iam.gserviceaccount.com")
    person = Identity(email="alice@example.com")

    assert robot.member == "serviceAccount:ci@my-project.iam.gserviceaccount.com"
    assert person.member == "user:alice@example.com"
    assert Identity(email=None).member is None


def test_calls_of_a_login_that_names_no_project_count_for_the_one_they_are_made_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login = {
        "type": "authorized_user",
        "client_id": CLOUD_SDK_CLIENT_ID,
        "client_secret": "none",
        "refresh_token": "none",
    }
    found = []
    for project in (None, "of-the-login"):
        (tmp_path / "login.json").write_text(json.dumps({**login, "quota_project_id": project}))
        monkeypatch.setenv(KEY, str(tmp_path / "login.json"))
        found.append(application_default("my-project").quota_project_id)

    assert found == ["my-project", "of-the-login"], "and no warning is shown"


def test_the_project_is_that_of_gclouds_active_configuration(gcloud: Path) -> None:
    where = {"CLOUDSDK_CONFIG": str(gcloud)}

    assert default_project(where) == "work-project"
    assert default_project({**where, "CLOUDSDK_CORE_PROJECT": "other"}) == "other"
    assert default_project({**where, "GOOGLE_CLOUD_PROJECT": "third"}) == "third"


def test_a_configuration_without_a_project_leaves_it_to_the_login(gcloud: Path) -> None:
    where = {"CLOUDSDK_CONFIG": str(gcloud), "CLOUDSDK_ACTIVE_CONFIG_NAME": "home"}
    assert default_project(where) is None

    login = gcloud / "application_default_credentials.json"
    login.write_text(json.dumps({"type": "authorized_user", "quota_project_id": "mine"}))

    assert default_project(where) == "mine"


def test_a_key_files_project_goes_before_gclouds(gcloud: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text(json.dumps({"type": "service_account", "project_id": "of-the-key"}))

    assert default_project({"CLOUDSDK_CONFIG": str(gcloud), KEY: str(key)}) == "of-the-key"


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"project_id": 7}'])
def test_files_that_say_nothing_are_passed_over(gcloud: Path, tmp_path: Path, content: str) -> None:
    key = tmp_path / "key.json"
    key.write_text(content)
    where = {"CLOUDSDK_CONFIG": str(gcloud), KEY: str(key)}
    assert default_project(where) == "work-project"

    (gcloud / "configurations" / "config_work").write_text("[core\nproject")

    assert default_project(where) is None
