"""Profiles: clusters saved as Prefect blocks.

Prefect is imported when a profile is asked for. The block's class is found through the entry point
by which Prefect finds it: this library imports none of its own blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.access import api_settings
from kinetic_flows.clients.prefect.sdk import httpx, pydantic
from kinetic_flows.core.api_boundary import ApiBoundary
from kinetic_flows.core.errors import ConfigurationError, PrefectServerError
from kinetic_flows.core.settings.table import Profile

BLOCK_TYPE_SLUG = "kinetic-cluster"
MAX_LISTED = 200

COLLECTIONS, COLLECTION = "prefect.collections", "kinetic_flows"

_REPOSITORIES = {"base_images": "base_image_repo", "images": "image_repo"}
"""Fields that hold a saved image repository, with the setting that each gives."""

_CREDENTIALS = "gcp_credentials"

_BLOCKS = {
    _CREDENTIALS: ("gcp-credentials", "Google credentials", "GCP Credentials"),
    **dict.fromkeys(_REPOSITORIES, ("image-repository", "image repository", "Image Repository")),
}
"""Fields that hold other saved blocks: the slug of their type, what they are, its name."""


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


@dataclass(frozen=True, kw_only=True)
class BlockLogin:
    """A login to a registry that is saved with an image repository.

    Attributes:
        name: The name the repository is saved under.
        block: The block.
    """

    name: str
    block: Any = field(repr=False)

    def load(self) -> tuple[str, str] | None:
        """Return user name and password; None where the repository is saved with neither.

        Raises:
            ConfigurationError: What is saved cannot be used.
        """
        from google.auth.exceptions import GoogleAuthError

        try:
            found = self.block.login()
        except (GoogleAuthError, OSError, ValueError) as error:
            raise ConfigurationError(
                f"the login of the image repository saved as {self.name!r} cannot be used: {error}",
                value=self.name,
                hint="save the ImageRepository block again, with credentials that may pull there",
            ) from error
        return None if found is None else (found.username, found.password)


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
        url = self._api_url()
        if url is None:
            return None
        with _current(url):
            block = _load(name)
        return None if block is None else _profile(name, block)

    def listed(self) -> tuple[Profile, ...]:
        """Return every profile by name, without the credentials that it may carry.

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
        found = {document.name: _plain(document.data) for document in documents if document.name}
        return tuple(Profile(name=name, values=found[name]) for name in sorted(found))

    def names(self) -> tuple[str, ...]:
        """Return the names of the saved profiles.

        Raises:
            PrefectServerError: Prefect cannot be asked.
        """
        return tuple(profile.name for profile in self.listed())

    def save(
        self, name: str, values: Mapping[str, object], blocks: Mapping[str, str] | None = None
    ) -> None:
        """Save a profile, in place of one of that name.

        Args:
            name: Its name.
            values: What it sets, by field of `CloudSettings`, checked.
            blocks: Names of the saved blocks that it is to carry, by field: `gcp_credentials`,
                `images`, `base_images`; None for none.

        Raises:
            ConfigurationError: There is no such block, or the profile refuses a value.
            PrefectServerError: There is no Prefect API, or it cannot be asked.
        """
        with _current(self._required(), "saved in"):
            _save(name, values, blocks)

    def update(
        self, name: str, values: Mapping[str, object], blocks: Mapping[str, str] | None = None
    ) -> None:
        """Change values of a profile that is there, and leave the rest of it; see `save`.

        Raises:
            ConfigurationError: There is no such block, or the profile refuses a value.
            PrefectServerError: There is no Prefect API, or it cannot be asked.
        """
        with _current(self._required(), "saved in"):
            block = _load(name)
            fields = type(block).model_fields if block is not None else ()
            _save(name, {**{key: getattr(block, key) for key in fields}, **values}, blocks)

    def delete(self, name: str) -> bool:
        """Delete a profile, and leave the credentials that it carries; return whether it was there.

        Raises:
            PrefectServerError: There is no Prefect API, or it cannot be asked.
        """
        url = self._required()
        with _current(url, "deleted from"), sdk.prefect.get_client(sync_client=True) as client:
            try:
                found = client.read_block_document_by_name(name, BLOCK_TYPE_SLUG)
                client.delete_block_document(found.id)
            except sdk.exceptions.ObjectNotFound:
                return False
        return True

    def _required(self) -> str:
        url = self._api_url()
        if url is None:
            raise PrefectServerError(
                "profiles are saved in Prefect, and no Prefect API is in use",
                hint="set PREFECT_API_URL, or start the background server: `kinetic server start`",
            )
        return url


def _save(name: str, values: Mapping[str, object], blocks: Mapping[str, str] | None) -> None:
    carried = {field: _saved_block(field, saved) for field, saved in (blocks or {}).items()}
    try:
        block = _block_class()(**{**values, **carried})
    except pydantic.ValidationError as error:
        raise ConfigurationError(
            f"profile {name!r} cannot be saved: {_without_values(error)}",
            value=name,
            hint="change what is named there; nothing was saved",
        ) from None
    block.save(name, overwrite=True, _sync=True)


def _load(name: str) -> Any | None:
    """Return the block of a profile; None when none of that name is saved."""
    from google.auth.exceptions import GoogleAuthError

    try:
        # By its class: to find that by its slug, Prefect imports every collection there is.
        return _block(_block_class(), name)
    except RuntimeError as error:
        if not isinstance(error.__cause__, pydantic.ValidationError):
            raise
        # Neither the error's own text nor a traceback may show values: some are secret.
        raise _unreadable(name, _without_values(error.__cause__)) from None
    except ValueError as error:
        if isinstance(error.__cause__, sdk.exceptions.ObjectNotFound):
            return None
        raise _unreadable(name, str(error)) from error
    except GoogleAuthError as error:
        # A block of credentials tries them as it is loaded.
        raise _unreadable(name, str(error)) from error


def _block(block_class: Any, name: str) -> Any:
    # Prefect's `load` answers a coroutine inside an event loop (a notebook) unless told not
    # to, by an argument that its declared type does not know.
    return block_class.load(name, _sync=True)


def _saved_block(field: str, name: str) -> Any:
    from google.auth.exceptions import GoogleAuthError

    slug, what, title = _BLOCKS[field]
    try:
        return _block(sdk.blocks.Block, f"{slug}/{name}")
    except (ValueError, RuntimeError, GoogleAuthError, sdk.blocks.UnknownBlockType) as error:
        is_missing = isinstance(error.__cause__, sdk.exceptions.ObjectNotFound)
        said = f"there are no {what}" if what.endswith("s") else f"there is no {what}"
        # Not from it: its text may show a key.
        raise ConfigurationError(
            f"{said} saved as {name!r}"
            if is_missing
            else f"the {what} saved as {name!r} cannot be loaded",
            value=name,
            hint=f"give the name of a saved block of type {title}: "
            "`kinetic prefect block ls` lists them",
        ) from None


def _block_class() -> Any:
    found = next(iter(entry_points(group=COLLECTIONS, name=COLLECTION)), None)
    if found is None:
        raise ConfigurationError(
            "the Prefect blocks of kinetic-flows are not installed",
            value=COLLECTION,
            hint="install the package itself (pip install kinetic-flows) besides its files",
        )
    return found.load().KineticCluster


@contextmanager
def _current(url: str, done: str = "read from") -> Iterator[None]:
    """Make an API current, and translate what goes wrong with it."""
    try:
        # At the boundary, so that what Prefect's threads log of it is nobody's business.
        with ApiBoundary(), sdk.settings.temporary_settings(api_settings(url)):
            yield
    except httpx.HTTPError as error:
        raise PrefectServerError(
            f"profiles cannot be {done} Prefect at {url}: {error}",
            value=url,
            hint="check PREFECT_API_URL and PREFECT_API_KEY, and that the API can be reached",
        ) from error


def _profile(name: str, block: Any) -> Profile:
    values = {key: getattr(block, key) for key in type(block).model_fields}
    saved = values.pop(_CREDENTIALS, None)
    repositories = {key: values.pop(key) for key in _REPOSITORIES if values.get(key) is not None}
    credentials = None
    if saved is not None:
        document = getattr(saved, "_block_document_name", None)
        credentials = BlockCredentials(name=document or f"of {name}", profile=name, block=saved)
    return Profile(
        name=name,
        values=_with_repositories(_given(values), repositories),
        credentials=credentials,
        logins={
            each.registry: BlockLogin(
                name=getattr(each, "_block_document_name", None) or f"{key} of {name}", block=each
            )
            for key, each in repositories.items()
        },
    )


def _with_repositories(values: dict[str, Any], repositories: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a profile says with what the repositories saved in it say."""
    for key, block in repositories.items():
        values.setdefault(_REPOSITORIES[key], block.repository)
        if block.build_login:
            logins = {block.registry: block.build_login}
            values["registry_logins"] = {**logins, **(values.get("registry_logins") or {})}
    return values


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document of a profile says, without the blocks that are saved in it."""
    said = _given({**data, _CREDENTIALS: None})
    for key, setting in _REPOSITORIES.items():
        block = said.pop(key, None)
        if isinstance(block, Mapping) and block.get("repository"):
            said.setdefault(setting, block["repository"])
    return said


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


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
