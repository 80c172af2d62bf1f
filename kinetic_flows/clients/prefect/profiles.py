"""Profiles: clusters saved as Prefect blocks.

Prefect, and through it the block's class, is imported when a profile is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.access import api_settings
from kinetic_flows.clients.prefect.sdk import httpx, pydantic
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError
from kinetic_flows.core.settings.table import Profile

BLOCK_TYPE_SLUG = "kinetic-cluster"
MAX_LISTED = 200

_CREDENTIALS = "gcp_credentials"


@dataclass(frozen=True, kw_only=True)
class BlockCredentials:
    """Google credentials saved as a block of prefect-gcp.

    Attributes:
        name: The name they are saved under.
        profile: The profile that carries them.
        block: The block.
    """

    name: str
    profile: str
    block: Any = field(repr=False)

    def load(self) -> Any:
        """Return them as `google.auth` credentials.

        Raises:
            ConfigurationError: What is saved cannot be used.
        """
        from google.auth.exceptions import GoogleAuthError

        try:
            return self.block.get_credentials_from_service_account()
        except (GoogleAuthError, OSError, ValueError) as error:
            raise ConfigurationError(
                f"the Google credentials saved as {self.name!r} cannot be used: {error}",
                value=self.name,
                hint="save the GcpCredentials block again, with a whole service account key",
            ) from error


class SavedProfiles:
    """The `KineticCluster` blocks of a Prefect API.

    Args:
        api_url: Returns the API to ask, or None where there is none, and so no profile; called
            when a profile is asked for, not before.
    """

    def __init__(self, api_url: Callable[[], str | None]) -> None:
        self._api_url = api_url

    def load(self, name: str) -> Profile | None:
        """Return a profile; None when no block of that name is saved.

        Raises:
            ConfigurationError: The block cannot be read by this version.
            PrefectServerError: Prefect cannot be asked.
        """
        from google.auth.exceptions import GoogleAuthError

        # Prefect's `load` answers a coroutine inside an event loop (a notebook) unless told not
        # to, by an argument that its declared type does not know.
        load: Any = sdk.blocks.Block.load
        url = self._api_url()
        if url is None:
            return None
        with _current(url):
            try:
                block = load(f"{BLOCK_TYPE_SLUG}/{name}", _sync=True)
            except RuntimeError as error:
                if not isinstance(error.__cause__, pydantic.ValidationError):
                    raise
                # Neither the error's own text nor a traceback may show values: some are secret.
                raise _unreadable(name, _without_values(error.__cause__)) from None
            except ValueError as error:
                if isinstance(error.__cause__, sdk.exceptions.ObjectNotFound):
                    return None
                raise _unreadable(name, str(error)) from error
            except (GoogleAuthError, sdk.blocks.UnknownBlockType) as error:
                # A block of credentials tries them as it is loaded.
                raise _unreadable(name, str(error)) from error
        return _profile(name, block)

    def names(self) -> tuple[str, ...]:
        """Return the names of the saved profiles.

        Raises:
            PrefectServerError: Prefect cannot be asked.
        """
        url = self._api_url()
        if url is None:
            return ()
        with _current(url), sdk.prefect.get_client(sync_client=True) as client:
            try:
                documents = client.read_block_documents_by_type(BLOCK_TYPE_SLUG, limit=MAX_LISTED)
            except sdk.exceptions.ObjectNotFound:
                return ()
            return tuple(sorted(document.name for document in documents if document.name))


@contextmanager
def _current(url: str) -> Iterator[None]:
    """Make an API current, and translate what goes wrong with it."""
    try:
        with sdk.settings.temporary_settings(api_settings(url)):
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
        credentials = BlockCredentials(name=document or f"of {name}", profile=name, block=saved)
    return Profile(
        name=name,
        values={key: value for key, value in values.items() if value is not None},
        credentials=credentials,
    )


def _without_values(error: pydantic.ValidationError) -> str:
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems
    )


def _unreadable(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"profile {name!r} cannot be used: {why}",
        value=name,
        hint="check it with `kinetic prefect block inspect "
        f"{BLOCK_TYPE_SLUG}/{name}`, or save it again with overwrite=True",
    )
