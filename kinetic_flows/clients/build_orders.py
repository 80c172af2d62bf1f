"""An image that must exist, and who is told of its builds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from kinetic_flows import naming
from kinetic_flows.images.builds import BuildOptions, BuildRecipe, BuildSpec, RegistryLogin
from kinetic_flows.images.dockerfiles import BuildContext
from kinetic_flows.protocols import ArtifactStore, OnBuild

OnOutput: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Listener:
    """Whom to tell of a build: of each line of its log, and of the build itself."""

    on_output: OnOutput
    on_build: OnBuild


@dataclass(frozen=True, kw_only=True)
class Order:
    """One image that must exist.

    Attributes:
        reference: Its name, with a tag.
        subject: What its lease and its builds are called after.
        context: Makes its build context, when it has to be built after all.
        also: Its further names.
        recipe: How it is built.
        logins: Registries that its build logs in to first.
    """

    reference: str
    subject: str
    context: Callable[[], BuildContext]
    also: tuple[str, ...] = ()
    recipe: BuildRecipe = field(default_factory=BuildRecipe)
    logins: tuple[RegistryLogin, ...] = ()

    @property
    def tag(self) -> str:
        """Tag by which its builds are found."""
        return naming.build_tag(self.reference, self.subject)

    def upload(self, store: ArtifactStore, options: BuildOptions) -> BuildSpec:
        """Upload its source, unless it is there, and return the build to submit.

        Args:
            store: The bucket of sources and logs.
            options: How builds run.

        Raises:
            StoreError: The source cannot be uploaded.
        """
        archive = self.context().archive()
        source = naming.build_source_object(hashlib.sha256(archive).hexdigest())
        store.put_if_absent(source, archive)
        bucket, _, prefix = store.uri.removeprefix("gs://").partition("/")
        folder = f"{prefix}/" if prefix else ""
        return BuildSpec(
            image=self.reference,
            bucket=bucket,
            source_object=f"{folder}{source}",
            logs_prefix=f"{folder}{naming.BUILD_LOGS}",
            tags=("kinetic", self.tag),
            also=self.also,
            options=replace(options, logins=self.logins),
            recipe=self.recipe,
        )
