"""Buckets that data is in: somebody's, which are read and never written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kinetic_flows.clients.google.login import require_login
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import ConfigurationError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


def open_data_bucket(
    name: str,
    *,
    project: str | None = None,
    endpoint: str | None = None,
    credentials: Credentials | None = None,
) -> GoogleStore:
    """Return a bucket that data is in.

    Args:
        name: Its name.
        project: Project that is billed; None for the credentials' own.
        endpoint: URL of another Cloud Storage endpoint; None for Google's.
        credentials: Google credentials; None for Application Default Credentials, and for none
            where there are none: some buckets are open to everybody.
    """
    if credentials is None and endpoint is None:
        try:
            require_login(project)
        except ConfigurationError:
            from google.auth.credentials import AnonymousCredentials

            credentials, project = AnonymousCredentials(), project or "anonymous"
    return GoogleStore(name, project=project, endpoint=endpoint, credentials=credentials)
