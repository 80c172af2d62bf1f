"""Profiles: clusters saved as Prefect blocks.

Prefect, and through it the block's class, is imported when a profile is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.cloud_settings import Profile
from kinetic_flows.errors import ConfigurationError, PrefectServerError

BLOCK_TYPE_SLUG = "kinetic-cluster"
MAX_LISTED = 200

_CREDENTIALS = "gcp_credentials"


@dataclass(frozen=True, kw_only=True)
class BlockCredentials:
    """Google credentials saved as a block of prefect-gcp.

    Attributes:
        name: The name they are saved under.
        block: The block.
    """

    name: str
    block: Any = field(repr=False)

    def load(self) -> Any:
        """Return them as `google.auth` credentials."""
        return self.block.get_credentials_from_service_account()


class SavedProfiles:
    """The `KineticCluster` blocks of a Prefect API.

    Args:
        api_url: Returns the API to ask; called when a profile is asked for, not before.
    """

    def __init__(self, api_url: Callable[[], str]) -> None:
        self._api_url = api_url

    def load(self, name: str) -> Profile | None:
        """Return a profile; None when no block of that name is saved.

        Raises:
            ConfigurationError: The block cannot be read by this version.
            PrefectServerError: Prefect cannot be asked.
        """
        from prefect.blocks.core import Block, UnknownBlockType
        from prefect.exceptions import ObjectNotFound

        # Prefect's `load` answers a coroutine inside an event loop (a notebook) unless told not
        # to, by an argument that its declared type does not know.
        load: Any = Block.load
        with self._api():
            try:
                block = load(f"{BLOCK_TYPE_SLUG}/{name}", _sync=True)
            except ValueError as error:
                if isinstance(error.__cause__, ObjectNotFound):
                    return None
                raise _unreadable(name, error) from error
            except UnknownBlockType as error:
                raise _unreadable(name, error) from error
        return _profile(name, block)

    def names(self) -> tuple[str, ...]:
        """Return the names of the saved profiles.

        Raises:
            PrefectServerError: Prefect cannot be asked.
        """
        from prefect import get_client
        from prefect.exceptions import ObjectNotFound

        with self._api(), get_client(sync_client=True) as client:
            try:
                documents = client.read_block_documents_by_type(BLOCK_TYPE_SLUG, limit=MAX_LISTED)
            except ObjectNotFound:
                return ()
            return tuple(sorted(document.name for document in documents if document.name))

    @contextmanager
    def _api(self) -> Iterator[None]:
        """Make the API current, and translate what goes wrong with it."""
        import httpx
        from prefect.settings import PREFECT_API_URL, temporary_settings

        url = self._api_url()
        try:
            with temporary_settings({PREFECT_API_URL: url}):
                yield
        except httpx.HTTPError as error:
            raise PrefectServerError(
                f"profiles cannot be read from Prefect at {url}: {error}",
                value=url,
                hint="check PREFECT_API_URL and PREFECT_API_KEY, and that the API can be reached",
            ) from error


def _profile(name: str, block: Any) -> Profile:
    values = {key: getattr(block, key) for key in type(block).model_fields}
    saved = values.pop(_CREDENTIALS, None)
    credentials = None
    if saved is not None:
        document = getattr(saved, "_block_document_name", None)
        credentials = BlockCredentials(name=document or f"of {name}", block=saved)
    return Profile(
        name=name,
        values={key: value for key, value in values.items() if value is not None},
        credentials=credentials,
    )


def _unreadable(name: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"profile {name!r} cannot be used: {error}",
        value=name,
        hint=f"save it again with this version: KineticCluster(...).save({name!r}, overwrite=True)",
    )
