"""Images made by Cloud Build: each is built once, however many clients ask for it at once.

A bundled image is a base image plus one layer. Both are made the same way: the client that
holds the image's lease submits a build, all others follow that build.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.errors import BuildError, KineticError
from kinetic_flows.core.image_builder import OnBuild, unannounced
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.core.interruption import pause
from kinetic_flows.dependencies.wheels import stored_wheels as fetch_wheels
from kinetic_flows.images import tags
from kinetic_flows.images.base_image_specs import BaseImageSpec, find_existing
from kinetic_flows.images.base_lookup import check_base
from kinetic_flows.images.bases import (
    lean_inputs,
    read_base_inputs,
    read_bootstrap,
    read_project_template,
)
from kinetic_flows.images.dockerfiles import BuildContext, base_context, project_context
from kinetic_flows.platforms.gke.builds.build import (
    TRANSIENT,
    BuildOptions,
    BuildState,
    RegistryLogin,
    started_build,
)
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from kinetic_flows.platforms.gke.builds.failures import base_build_error
from kinetic_flows.platforms.gke.builds.followers import (
    Followers,
    GrowingLog,
    cancelled_if,
    follow_build,
)
from kinetic_flows.platforms.gke.builds.lease import TERM_SECONDS, Lease
from kinetic_flows.platforms.gke.builds.requests import BuildRequest, Listener, OnOutput


@dataclass(frozen=True, kw_only=True)
class BuilderSettings:
    """Where images go and how builds run.

    Attributes:
        repository: The cluster's own repository, where bases are built to.
        base_repository: The configured repository of base images; None when there is none, so
            that bases are looked up in, and built into, the cluster's own.
        version: This product's version.
        base_tag: Version tag of the configured base images; None for this product's version.
        options: How builds run.
        logins: How builds log in to registries, by host, when they pull from them.
        poll_seconds: How often a running build is looked at.
        term_seconds: How long a lease is believed that nobody renews.
    """

    repository: str
    base_repository: str | None
    version: str
    base_tag: str | None = None
    options: BuildOptions = field(default_factory=BuildOptions)
    logins: Mapping[str, RegistryLogin] = field(default_factory=dict)
    poll_seconds: float = 2.0
    term_seconds: float = TERM_SECONDS


class CloudBuildBuilder:
    """Makes images with Cloud Build.

    Args:
        builds: Cloud Build.
        store: Where leases and shipped wheels are.
        build_store: The bucket of sources and logs, which the build's service account reads
            and writes.
        registry: Where images are looked up.
        settings: Where images go and how builds run.
    """

    def __init__(
        self,
        *,
        builds: CloudBuild,
        store: ArtifactStore,
        build_store: ArtifactStore,
        registry: ImageRegistry,
        settings: BuilderSettings,
    ) -> None:
        self._builds = builds
        self._store = store
        self._build_store = build_store
        self._registry = registry
        self._settings = settings
        self._started: dict[str, Callable[[str], None]] = {}

    def build(
        self,
        request: ImageRequest,
        environment: EnvironmentSpec,
        on_output: OnOutput,
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Return the image of an environment, built unless it exists or is being built.

        Raises:
            BuildError: The build failed.
            ImageError: The registry cannot be asked, or the base image does not fit.
            StoreError: The source cannot be uploaded.
        """

        def context() -> BuildContext:
            base = self.ensure_base(environment, on_output, on_build=on_build)
            return project_context(
                environment,
                base=base.reference,
                template=read_project_template(),
                wheels=fetch_wheels(self._store, environment),
                version=self._settings.version,
            )

        wanted = BuildRequest(
            reference=request.reference,
            subject=environment.dependency_hash,
            context=context,
            logins=self._logins_for(environment),
        )
        return self._ensure(wanted, Listener(on_output, on_build), self._store)

    def ensure_base(
        self,
        environment: EnvironmentSpec,
        on_output: OnOutput,
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Return the base image of an environment, built if nobody has built it yet.

        Raises:
            BuildError: The build failed, or this version of the product makes another base.
            ImageError: The configured base does not exist or does not fit.
        """
        if environment.base_identity.startswith("sha256:"):
            return self._configured_base(environment)
        inputs = read_base_inputs(
            environment.category, environment.python, environment.made_base_lock
        )
        inputs = lean_inputs(inputs) if environment.variant == "lean" else inputs
        if inputs.identity != environment.base_identity:
            raise BuildError(
                f"this version makes the {environment.category} base {inputs.identity[:12]}, "
                f"and the environment was locked for {environment.base_identity[:12]}",
                value=environment.base_identity,
                hint="plan the run again with this version",
            )
        tag = tags.base_tag(inputs.python, inputs.identity)
        wanted = BuildRequest(
            reference=f"{_base_name(self._settings.repository, environment)}:{tag}",
            subject=f"base-{inputs.identity}",
            context=lambda: base_context(
                inputs, bootstrap=read_bootstrap(), version=self._settings.version
            ),
        )
        return self._ensure(wanted, Listener(on_output, on_build), self._store)

    def build_base(
        self,
        base: BaseImageSpec,
        logins: tuple[RegistryLogin, ...],
        on_output: OnOutput,
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Build and push an image under all its names, unless they hold exactly it already.

        Clients that ask for the same at the same time follow the one build. From scratch, it is
        built even if it is there.

        Args:
            base: What to build.
            logins: Registries to log in to first.
            on_output: Called with each line of the build's log.
            on_build: Told of the build, for a link to it.

        Raises:
            BuildError: The build failed.
            StoreError: The source cannot be uploaded.
        """

        def find(_: BuildRequest, registry: ImageRegistry) -> ResolvedImage | None:
            if base.recipe.from_scratch:
                return None
            existing = find_existing(base, registry)
            return existing.image if existing.is_current else None

        wanted = BuildRequest(
            reference=base.references[0],
            subject=base.subject,
            context=lambda: base.context,
            also=base.references[1:],
            recipe=base.recipe,
            logins=logins,
            find=find,
            failure=lambda state, lines: base_build_error(state, lines, base, logins=len(logins)),
        )
        # The bucket of sources is all that a deployment of the flow has to be let at.
        return self._ensure(wanted, Listener(on_output, on_build), self._build_store)

    def cancel_started(self) -> None:
        """Cancel every build that was started here and that nobody else follows."""
        for build, cancel in list(self._started.items()):
            with contextlib.suppress(KineticError):  # it has ended, or goes on to no harm
                cancel(build)

    def _logins_for(self, environment: EnvironmentSpec) -> tuple[RegistryLogin, ...]:
        """Return the logins without which an environment's base cannot be pulled."""
        repository = self._settings.base_repository
        if repository is None:
            return ()
        name = _base_name(repository, environment)
        login = self._settings.logins.get(parse_reference(name).registry)
        return (login,) if login else ()

    def _configured_base(self, environment: EnvironmentSpec) -> ResolvedImage:
        repository = self._settings.base_repository or self._settings.repository
        name = _base_name(repository, environment)
        reference = str(parse_reference(name).at(environment.base_identity))
        tag = self._settings.base_tag or self._settings.version
        image = self._registry.resolve(reference)
        if image is None:
            raise BuildError(
                f"the base image {reference} is gone",
                value=reference,
                hint="build it anew with: kinetic build-image "
                f"--repo {repository} --category "
                f"{tags.base_kind(environment.category, environment.variant)} --tag {tag}",
            )
        return check_base(
            image,
            repository=repository,
            category=environment.category,
            python=environment.python,
            tag=tag,
            variant=environment.variant,
        )

    def _ensure(
        self, request: BuildRequest, listener: Listener, store: ArtifactStore
    ) -> ResolvedImage:
        """Return an image; a lease in the store says which client builds it."""
        image = request.find(request, self._registry)
        if image is not None:
            return image
        lease = Lease(
            store,
            object_names.lease_object(request.subject),
            term_seconds=self._settings.term_seconds,
        )
        followers = Followers(
            store,
            request.subject,
            holder=lease.holder,
            max_age_seconds=self._settings.options.timeout_seconds,
        )
        over: str | None = None
        with followers.joined():
            while True:
                if lease.acquire():
                    with lease.kept():
                        return self._make(request, lease, followers, listener)
                if over is None:
                    over = self._build_of_the_past(lease)
                image = self._join(request, lease, followers, listener, over)
                if image is not None:
                    return image

    def _build_of_the_past(self, lease: Lease) -> str:
        """Return the build that a lease speaks of if it was over before anybody here waited.

        How it ended is no news: its holder is about to give the lease back or has died, and
        what it had pushed the registry knows better. Empty when there is no such build.
        """
        build = self._builds.find(lease.build) if lease.build else None
        return "" if build is not None and build.is_running else lease.build

    def _make(
        self, request: BuildRequest, lease: Lease, followers: Followers, listener: Listener
    ) -> ResolvedImage:
        """Make an image as the holder of its lease; a transient failure is tried once more."""

        def cancel_if_abandoned(build: str) -> None:
            if followers.are_none():
                self._builds.cancel(build)

        for is_last in (False, True):
            # The registry counts more than anything that is said of builds.
            image = request.find(request, self._registry)
            if image is not None:
                return image
            running = self._running_build(request, lease)
            if running:
                state = self._builds.get(running)
            else:
                state = self._submit(request, cancel_if_abandoned)
            with cancelled_if(followers.are_none, self._builds, state.id):
                lease.record_build(state.id)
                state, lines = self._follow(request, state, listener)
            if state.status not in TRANSIENT or is_last:
                return self._result(request, state, lines)
            listener.on_output(f"build {state.id} ended as {state.status}: trying once more")
        raise AssertionError("unreachable")

    def _join(
        self,
        request: BuildRequest,
        lease: Lease,
        followers: Followers,
        listener: Listener,
        over: str,
    ) -> ResolvedImage | None:
        """Follow the lease holder's build, unless it is over; None to look again."""
        image = request.find(request, self._registry)
        if image is not None:
            return image
        if lease.build in ("", over):
            pause(self._settings.poll_seconds)
            return None
        state = self._builds.get(lease.build)
        with cancelled_if(followers.are_none, self._builds, state.id):
            state, lines = self._follow(request, state, listener)
        if state.status in TRANSIENT or state.status == "CANCELLED":
            pause(self._settings.poll_seconds)
            return None
        return self._result(request, state, lines)

    def _running_build(self, request: BuildRequest, lease: Lease) -> str:
        """Return the running build of an image, as the lease or Cloud Build's tags know it."""
        if lease.build:
            state = self._builds.find(lease.build)
            if state is not None and state.is_running:
                return state.id
        found = self._builds.find_running(request.tag)
        return found.id if found else ""

    def _submit(self, request: BuildRequest, on_orphan: Callable[[str], None]) -> BuildState:
        spec = request.upload(self._build_store, self._settings.options)
        state = self._builds.submit(spec, on_orphan=on_orphan)
        self._started[state.id] = on_orphan
        return state

    def _follow(
        self, request: BuildRequest, state: BuildState, listener: Listener
    ) -> tuple[BuildState, list[str]]:
        listener.on_build(started_build(state, request.reference))
        listener.on_output(f"Cloud Build {state.id}: {state.log_url}")
        log = GrowingLog(self._build_store, state.id, listener.on_output)
        ended = follow_build(self._builds, state, log, poll_seconds=self._settings.poll_seconds)
        return ended, log.lines

    def _result(self, request: BuildRequest, state: BuildState, lines: list[str]) -> ResolvedImage:
        """Return the image that a build has pushed, by the digest that it reports."""
        if state.status != "SUCCESS":
            raise request.failure(state, lines)
        digest = state.images.get(request.reference)
        name = parse_reference(request.reference)
        image = self._registry.resolve(str(name.at(digest) if digest else name))
        if image is None:
            raise BuildError(
                f"build {state.id} succeeded, and {request.reference} is not in the registry",
                value=request.reference,
                hint="something deletes it: look at the repository's cleanup policies",
            )
        return image


def _base_name(repository: str, environment: EnvironmentSpec) -> str:
    return tags.base_image(repository, environment.category, environment.variant)
