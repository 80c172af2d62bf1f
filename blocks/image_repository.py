"""The block that saves where images are, and how to log in there."""

from __future__ import annotations

from typing import Any, ClassVar

from prefect.blocks.core import Block
from prefect_gcp.credentials import GcpCredentials
from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from kinetic_flows.clients.registry.credentials import GOOGLE_SCOPE, RegistryCredentials
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.image_reference import registry_of
from kinetic_flows.core.settings import values as check

from .kept_schema import KeptSchema


class ImageRepository(KeptSchema, Block):
    """A repository of container images, and how to log in to its registry.

    A Kinetic Cluster takes one for its prebuilt base images and one for the images that it builds.
    Without credentials the registry is reached with what `docker login` left, and Artifact
    Registry with Application Default Credentials.

    Example:
        Save a repository, and a cluster whose base images are in it:
        ```python
        from kinetic_flows.blocks import ImageRepository, KineticCluster

        ImageRepository(
            repository="registry.example.com/ml/kinetic",
            username="robot",
            password="...",
            build_login="registry-user:registry-token",
        ).save("BLOCK_NAME")
        bases = ImageRepository.load("BLOCK_NAME")
        KineticCluster(project="my-project-123", base_images=bases).save("training")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Image Repository"
    _block_type_slug: ClassVar[str | None] = "image-repository"
    _description: ClassVar[str | None] = (
        "A repository of container images that `@kinetic.run` pulls from or pushes to, with the "
        "login of its registry."
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://kinetic-flows.readthedocs.io/configuration/"
    )
    _logo_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://cdn.sanity.io/images/3ugk85nk/production/"
        "10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"
    )

    repository: str = Field(
        description="The repository with its registry, without a tag; a name without a registry "
        "is Docker Hub's.",
        examples=["registry.example.com/ml/kinetic"],
    )
    username: str | None = Field(
        default=None,
        description="The user name to log in with; empty for what `docker login` left, or Google "
        "credentials.",
        examples=["robot"],
    )
    password: SecretStr | None = Field(
        default=None,
        description="The password, or an access token.",
        examples=["a token of the registry's"],
    )
    gcp_credentials: GcpCredentials | None = Field(
        default=None,
        description="Google credentials to log in to Artifact Registry with; empty for Application "
        "Default Credentials.",
        examples=[{"service_account_file": "~/keys/images.json"}],
    )
    build_login: str | None = Field(
        default=None,
        description="How builds log in, which never get the password here: two secrets of Secret "
        "Manager, the user name's and the password's, with a colon between. Empty where the build "
        "service account may read, as it may in Artifact Registry.",
        examples=["registry-user:registry-token"],
    )

    @field_validator("repository", mode="before")
    @classmethod
    def _check_repository(cls, value: Any) -> Any:
        try:
            return check.image_repository(value, "repository")
        except ConfigurationError as error:
            raise ValueError(f"{error.message} ({error.hint})") from error

    @field_validator("build_login", mode="before")
    @classmethod
    def _check_build_login(cls, value: Any) -> Any:
        if value is None or value == "":
            return None
        try:
            return check.registry_logins({"registry": value}, "build_login")["registry"]
        except ConfigurationError as error:
            raise ValueError(f"{error.message} ({error.hint})") from error

    @field_validator("username", "password", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        """Take an empty form field for one left out."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        return None if text == "" else value

    @model_validator(mode="after")
    def _check_login(self) -> ImageRepository:
        if (self.username is None) != (self.password is None):
            raise ValueError("a user name and a password go together: give both, or neither")
        if self.username is not None and self.gcp_credentials is not None:
            raise ValueError("give a user name and a password, or Google credentials, not both")
        return self

    @property
    def registry(self) -> str:
        """The registry's host."""
        return registry_of(self.repository)

    def login(self) -> RegistryCredentials | None:
        """Return what to log in to the registry with; None where the block has nothing.

        An access token of Google's is made anew; it is valid for an hour.

        Raises:
            google.auth.exceptions.GoogleAuthError: The Google credentials cannot be used.
        """
        if self.username is not None and self.password is not None:
            return RegistryCredentials(
                username=self.username, password=self.password.get_secret_value()
            )
        if self.gcp_credentials is None:
            return None
        from google.auth.transport.requests import Request

        credentials = self.gcp_credentials.get_credentials_from_service_account()
        if getattr(credentials, "requires_scopes", False):
            credentials = credentials.with_scopes([GOOGLE_SCOPE])
        credentials.refresh(Request())
        return RegistryCredentials(username="oauth2accesstoken", password=str(credentials.token))
