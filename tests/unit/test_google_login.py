"""That there are no Google credentials is found out at once, and told first."""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import google.auth
import pytest

import kinetic
from kinetic_flows.clients.google.login import (
    default_google_credentials,
    metadata_answers,
    require_login,
)
from kinetic_flows.core.errors import ConfigurationError

FILE = "application_default_credentials.json"
NOWHERE = {"NO_GCE_CHECK": "true"}


def test_nothing_at_all_says_how_to_log_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="which project 'my-project' needs") as caught:
        require_login("my-project", {"HOME": str(tmp_path), **NOWHERE})
    assert "gcloud auth application-default login" in str(caught.value.hint)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    key = str(tmp_path / "key.json")
    environ = {"HOME": str(tmp_path), "GOOGLE_APPLICATION_CREDENTIALS": key}
    with pytest.raises(ConfigurationError, match=r"key\.json', which does not exist"):
        require_login("my-project", environ)
    Path(key).touch()
    require_login("my-project", environ)


@pytest.mark.parametrize("variable", ["HOME", "CLOUDSDK_CONFIG"])
def test_the_login_of_gcloud_counts(tmp_path: Path, variable: str) -> None:
    folder = tmp_path / ".config" / "gcloud" if variable == "HOME" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).touch()
    require_login("my-project", {variable: str(tmp_path), **NOWHERE})


@pytest.mark.parametrize("variable", ["KUBERNETES_SERVICE_HOST", "K_SERVICE", "GCE_METADATA_HOST"])
def test_where_google_runs_programs_there_may_be_credentials(tmp_path: Path, variable: str) -> None:
    require_login("my-project", {"HOME": str(tmp_path), variable: "10.0.0.1"})


@contextmanager
def answering(flavor: str) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            if flavor:
                self.send_header("Metadata-Flavor", flavor)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_only_a_metadata_server_answers_as_one() -> None:
    with answering("Google") as host:
        assert metadata_answers(host)
    with answering("") as host:
        assert not metadata_answers(host)
    assert not metadata_answers(host), "nobody listens any more"


def test_it_is_the_first_thing_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"HOME": str(tmp_path), "KINETIC_PROJECT": "my-project-123"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)

    @kinetic.run(accelerator="l4", requirements="no-such-file.txt")
    def train() -> None:
        """Do nothing."""

    importlib.import_module("prefect")  # on a busy machine it is told that this takes long
    for call in (train, train.plan, train.submit):
        with pytest.raises(ConfigurationError, match="no Google Cloud credentials"):
            call()
    assert capsys.readouterr() == ("", "")


def test_credentials_that_name_no_project_are_taken_without_a_word(monkeypatch, tmp_path, caplog):
    login = tmp_path / "login.json"
    login.write_text(
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": "gcloud",
                "client_secret": "none",
                "refresh_token": "none",
            }
        )
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(login))
    monkeypatch.setenv("PATH", str(tmp_path))
    google.auth.default()
    assert "No project ID could be determined" in caplog.text, "others are told by the library"
    caplog.clear()
    assert default_google_credentials(["https://www.googleapis.com/auth/cloud-platform"])
    assert caplog.text == ""
