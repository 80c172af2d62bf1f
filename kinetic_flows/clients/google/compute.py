"""The few calls of Compute Engine that setting up needs, by REST.

Google's client for it has 35 MB, which is more than all the others together.
https://cloud.google.com/compute/docs/reference/rest/v1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.google.sessions import open_session

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

TIMEOUT_SECONDS = 30.0
URL = "https://compute.googleapis.com"

Resource = dict[str, Any]


class Compute:
    """A project's routers, networks, zones and quotas.

    Resources are as the API's reference has them; errors are those of Google's clients.

    Args:
        project: The project; None for none, and then nothing can be asked.
        credentials: Google credentials.
        url: Where the API is.
    """

    def __init__(self, project: str | None, credentials: Credentials, *, url: str = URL) -> None:
        self._root = f"{url.rstrip('/')}/compute/v1/projects/{project}"
        self._credentials = credentials

    def region(self, region: str) -> Resource:
        """Return a region with its quotas: `{"metric": "CPUS", "limit": 24.0, "usage": 4.0}`."""
        return self._ask("GET", f"regions/{region}")

    def project_quotas(self) -> list[Resource]:
        """Return the quotas that count for all regions together, such as `GPUS_ALL_REGIONS`."""
        return list(self._ask("GET", "").get("quotas", ()))

    def accelerator_types(self, zone: str) -> list[Resource]:
        """Return the GPUs of a zone."""
        return self._list(f"zones/{zone}/acceleratorTypes")

    def machine_type(self, zone: str, name: str) -> Resource:
        """Return a machine type, which a zone may not have."""
        return self._ask("GET", f"zones/{zone}/machineTypes/{name}")

    def reservation(self, zone: str, name: str) -> Resource:
        """Return a reservation."""
        return self._ask("GET", f"zones/{zone}/reservations/{name}")

    def network(self, name: str) -> Resource:
        """Return a VPC network."""
        return self._ask("GET", f"global/networks/{name}")

    def routers(self, region: str) -> list[Resource]:
        """Return the Cloud Routers of a region, with their Cloud NATs."""
        return self._list(f"regions/{region}/routers")

    def insert_router(self, region: str, router: Mapping[str, Any]) -> Resource:
        """Make a Cloud Router, and return the operation."""
        return self._ask("POST", f"regions/{region}/routers", router)

    def patch_router(self, region: str, name: str, change: Mapping[str, Any]) -> Resource:
        """Change the parts of a Cloud Router that are named, and return the operation."""
        return self._ask("PATCH", f"regions/{region}/routers/{name}", change)

    def delete_router(self, region: str, name: str) -> Resource:
        """Remove a Cloud Router with its Cloud NATs, and return the operation."""
        return self._ask("DELETE", f"regions/{region}/routers/{name}")

    def operation(self, operation: Mapping[str, Any]) -> Resource:
        """Return an operation as it is now."""
        region = str(operation.get("region") or "").rpartition("/")[2]
        where = f"regions/{region}" if region else "global"
        return self._ask("GET", f"{where}/operations/{operation['name']}")

    def _list(self, path: str) -> list[Resource]:
        found: list[Resource] = []
        token: str | None = ""
        while token is not None:
            page = self._ask("GET", path, query={"pageToken": token} if token else {})
            found += page.get("items", ())
            token = page.get("nextPageToken")
        return found

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Resource:
        from google.api_core.exceptions import from_http_response

        url = f"{self._root}/{path}".rstrip("/")
        with open_session(self._credentials, url) as session:
            answer = session.request(method, url, json=body, params=query, timeout=TIMEOUT_SECONDS)
        if not answer.ok:
            raise from_http_response(answer)
        resource: Resource = answer.json()
        return resource
