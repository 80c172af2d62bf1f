"""Who the Google credentials here are, and which project they were made for.

https://cloud.google.com/docs/authentication/application-default-credentials
"""

from __future__ import annotations

import configparser
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.google.login import (
    KEY_FILE,
    LOGIN_HINT,
    default_google_credentials,
    gcloud_folder,
    login_file,
    require_login,
)
from kinetic_flows.clients.google.sessions import may_have_credentials
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings.settings import process_environment

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

SCOPES = (
    "https://www.googleapis.com/auth/cloud-platform",
    # Whose token it is, is told for this one only.
    "https://www.googleapis.com/auth/userinfo.email",
)
TIMEOUT_SECONDS = 15.0
_SERVICE_ACCOUNT_SUFFIX = ".gserviceaccount.com"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who credentials are.

    Attributes:
        email: The address; None where Google does not tell it, as for logins that did not ask for
            it and for identities of other providers.
    """

    email: str | None

    @property
    def is_service_account(self) -> bool:
        """Whether it is one of Google's service accounts."""
        return bool(self.email and self.email.endswith(_SERVICE_ACCOUNT_SUFFIX))

    @property
    def member(self) -> str | None:
        """Who it is, as IAM writes it; None where that is not known."""
        if self.email is None:
            return None
        return f"{'serviceAccount' if self.is_service_account else 'user'}:{self.email}"


def application_default(project: str | None) -> Credentials:
    """Return Application Default Credentials.

    Args:
        project: The project that they are wanted for, on which the calls of a person's login
            count that names no other; None for none.

    Raises:
        ConfigurationError: There are none, or they cannot be read.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2.credentials import Credentials as PersonsCredentials

    require_login(project)
    if project:
        # That it is said of a login that names no project is mended below.
        warnings.filterwarnings("ignore", "Your application has authenticated using end user")
    try:
        found = default_google_credentials(SCOPES)
    except (GoogleAuthError, OSError, ValueError) as error:
        raise ConfigurationError(
            f"the Google Cloud credentials of this machine cannot be used: {error}",
            hint=LOGIN_HINT,
        ) from error
    # https://cloud.google.com/docs/quotas/set-quota-project
    if project and isinstance(found, PersonsCredentials) and not found.quota_project_id:
        found = found.with_quota_project(project)
    credentials: Credentials = found
    return credentials


def identify(credentials: Credentials, url: str) -> Identity:
    """Return who credentials are.

    https://developers.google.com/identity/sign-in/web/backend-auth#calling-the-tokeninfo-endpoint

    Args:
        credentials: Google credentials.
        url: Where `tokeninfo` is; where it is asked in plain text, the token is kept back.
    """
    known = own_email(credentials)
    if known or not may_have_credentials(url):
        return Identity(email=known)
    from google.api_core.exceptions import from_http_response
    from google.auth.transport.requests import Request
    from requests import Session

    if not credentials.valid:
        credentials.refresh(Request())
    if own_email(credentials):  # what a machine of Google is, it learns with its token
        return Identity(email=own_email(credentials))
    with Session() as session:
        form = {"access_token": credentials.token}
        answer = session.post(f"{url}/tokeninfo", data=form, timeout=TIMEOUT_SECONDS)
    if not answer.ok:
        raise from_http_response(answer)
    told: dict[str, Any] = answer.json()
    return Identity(email=told.get("email"))


def own_email(credentials: Credentials) -> str | None:
    """Return the address that credentials themselves say they have; None where they do not."""
    found = getattr(credentials, "service_account_email", None) or getattr(
        credentials, "signer_email", None
    )
    return str(found) if found and "@" in str(found) else None


def default_project(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the project that gcloud is set to or that the key file is of; None for none.

    Only files are read: gcloud itself takes a second to answer.

    Args:
        environ: Variables; None for this process's.
    """
    env = process_environment() if environ is None else environ
    for name in ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"):
        if env.get(name):
            return env[name]
    return _of_key_file(env) or _of_gcloud(env)


def _of_key_file(env: Mapping[str, str]) -> str | None:
    if not env.get(KEY_FILE):
        return None
    path = Path(env[KEY_FILE]).expanduser()
    return _text_in(path, "project_id") or _text_in(path, "quota_project_id")


def _of_gcloud(env: Mapping[str, str]) -> str | None:
    """Return the project of gcloud's active configuration, else that of its login's quota.

    https://cloud.google.com/sdk/docs/configurations
    """
    folder = gcloud_folder(env)
    active = env.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _first_line(folder / "active_config")
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read(folder / "configurations" / f"config_{active or 'default'}")
        project = config.get("core", "project", fallback=None)
    except (configparser.Error, OSError, UnicodeDecodeError):
        project = None
    return project or _text_in(login_file(env), "quota_project_id")


def _first_line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _text_in(path: os.PathLike[str], name: str) -> str | None:
    try:
        document = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    found = document.get(name) if isinstance(document, dict) else None
    return found if isinstance(found, str) else None
