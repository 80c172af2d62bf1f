"""Secret blocks of a Prefect API: what they hold, and those that hold keys of sealed values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.access import api_settings
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.errors import translated

BLOCK_TYPE = "secret"


class SecretBlocks:
    """The Secret blocks behind one Prefect API.

    Args:
        api: The API, which is current in this thread.
    """

    def __init__(self, api: PrefectApi) -> None:
        self._api = api
        self.url = api.url

    @translated
    def read(self, name: str) -> str | None:
        """Return what a block holds, as JSON where it is no text; None when there is none.

        Raises:
            PrefectServerError: This user may not read it, or Prefect does not answer.
        """
        value = self._read(name)
        return value if value is None or isinstance(value, str) else json.dumps(value)

    @translated
    def exists(self, name: str) -> bool:
        """Whether there is a block; what it holds is not read."""
        try:
            self._api.client.read_block_document_by_name(name, BLOCK_TYPE, include_secrets=False)
        except sdk.exceptions.ObjectNotFound:
            return False
        return True

    @translated
    def keep(self, name: str, value: str) -> str:
        """Save a block unless there is one, and return what the one that is there holds."""
        found = self._read(name)
        if found is not None:
            return str(found)
        kind: Any = sdk.system_blocks.Secret
        try:
            with sdk.settings.temporary_settings(api_settings(self.url)):
                kind(value=sdk.pydantic.SecretStr(value)).save(name, _sync=True)
        except (sdk.exceptions.ObjectAlreadyExists, ValueError):
            # Another client was faster, or it cannot be saved.
            found = self._read(name)
            if found is None:
                raise
            return str(found)
        return value

    @translated
    def delete(self, names: Iterable[str]) -> None:
        """Delete blocks; those that are not there are passed over."""
        for name in names:
            try:
                found = self._api.client.read_block_document_by_name(
                    name, BLOCK_TYPE, include_secrets=False
                )
                self._api.client.delete_block_document(found.id)
            except sdk.exceptions.ObjectNotFound:
                continue

    def _read(self, name: str) -> Any:
        try:
            found = self._api.client.read_block_document_by_name(name, BLOCK_TYPE)
        except sdk.exceptions.ObjectNotFound:
            return None
        return found.data.get("value")
