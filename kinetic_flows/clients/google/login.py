"""Whether there can be Google credentials here at all, found out without waiting for anybody.

Google's own library asks the metadata server that virtual machines of Google have, three times for
three seconds each, before it says that there are none; and every client asks anew.
https://cloud.google.com/docs/authentication/application-default-credentials
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.core.errors import ConfigurationError, known_to_doctor
from kinetic_flows.core.settings.settings import process_environment

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

LOGIN_HINT = "log in with: gcloud auth application-default login"
KEY_FILE = "GOOGLE_APPLICATION_CREDENTIALS"

METADATA_HOST = "169.254.169.254"
METADATA_SECONDS = 0.5

_METADATA_VARIABLES = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")
_OF_GOOGLE = ("KUBERNETES_SERVICE_HOST", "K_SERVICE", "CLOUD_RUN_JOB", "GAE_ENV", "CLOUD_SHELL")
_PRODUCT = Path("/sys/class/dmi/id/product_name")
_FILE = "application_default_credentials.json"


def require_login(project: str | None = None, environ: Mapping[str, str] | None = None) -> None:
    """Go on where there may be Google credentials; whether they are good, Google says.

    Args:
        project: The project that they are wanted for; None where it is not known.
        environ: Variables; None for this process's.

    Raises:
        ConfigurationError: There are none.
    """
    env = process_environment() if environ is None else environ
    named = env.get(KEY_FILE)
    if named and not Path(named).expanduser().exists():
        raise ConfigurationError(
            f"{KEY_FILE} names {named!r}, which does not exist",
            value=named,
            hint=f"set it to a key file that does, or unset it and {LOGIN_HINT}",
        )
    if named or login_file(env).exists() or _may_be_at_google(env):
        return
    for_project = f", which project {project!r} needs" if project else ""
    error = ConfigurationError(
        f"there are no Google Cloud credentials on this machine{for_project}",
        value=project,
        hint=f"{LOGIN_HINT}, or set {KEY_FILE} to the key file of a service account; "
        "KINETIC_PLATFORM=local runs functions on this machine instead",
    )
    raise known_to_doctor(error)


def gcloud_folder(env: Mapping[str, str]) -> Path:
    """Return the folder that gcloud keeps its settings and a person's login in."""
    if env.get("CLOUDSDK_CONFIG"):
        return Path(env["CLOUDSDK_CONFIG"])
    if os.name == "nt":
        return Path(env.get("APPDATA") or "C:/") / "gcloud"
    home = env.get("HOME")
    return (Path(home) if home else Path.home()) / ".config" / "gcloud"


def default_google_credentials(scopes: Sequence[str]) -> Credentials:
    """Return Application Default Credentials, whatever project they are for.

    Google's library warns where they name none, which is nobody's business: calls name theirs.

    Args:
        scopes: What they are wanted for.

    Raises:
        google.auth.exceptions.GoogleAuthError: There are none.
    """
    import google.auth

    ours = threading.get_ident()

    def is_of_others(record: logging.LogRecord) -> bool:
        return record.thread != ours

    logger = logging.getLogger("google.auth._default")
    logger.addFilter(is_of_others)
    try:
        credentials: Credentials = google.auth.default(scopes=list(scopes))[0]
    finally:
        logger.removeFilter(is_of_others)
    return credentials


def login_file(env: Mapping[str, str]) -> Path:
    """Return where gcloud leaves the login of a person."""
    return gcloud_folder(env) / _FILE


def _may_be_at_google(env: Mapping[str, str]) -> bool:
    """Whether there may be a metadata server, which has credentials."""
    if any(env.get(name) for name in _METADATA_VARIABLES):
        return True
    if env.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    if any(env.get(name) for name in _OF_GOOGLE) or _is_machine_of_google():
        return True
    return metadata_answers(METADATA_HOST)


def metadata_answers(host: str) -> bool:
    """Whether a metadata server answers, which others than Google's do not do like this."""
    connection = HTTPConnection(host, timeout=METADATA_SECONDS)
    try:
        connection.request("GET", "/", headers={"Metadata-Flavor": "Google"})
        return connection.getresponse().getheader("Metadata-Flavor") == "Google"
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _is_machine_of_google() -> bool:
    try:
        return _PRODUCT.read_text().startswith("Google")
    except OSError:
        return False
