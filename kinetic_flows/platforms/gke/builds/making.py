"""Making one image once, however many clients ask for it at once.

The client that holds the image's lease makes it: it assembles it itself, or submits a build. All
others follow that build, or look for the image until it is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import BuildError, KineticError
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.core.interruption import pause
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.platforms.gke.builds.activity import started_build
from kinetic_flows.platforms.gke.builds.build import (
    TRANSIENT,
    BuildOptions,
    BuildState,
    RegistryLogin,
)
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from kinetic_flows.platforms.gke.builds.followers import (
    Followers,
    GrowingLog,
    cancelled_if,
    follow_build,
)
from kinetic_flows.platforms.gke.builds.lease import TERM_SECONDS, Lease
from kinetic_flows.platforms.gke.builds.requests import BuildRequest, BuildSource, Listener
from kinetic_flows.platforms.gke.builds.routes import Assembler


@dataclass(frozen=True, kw_only=True)
class BuilderSettings:
    """Where images go, and how builds run.

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


class ImageMaker:
    """Makes images, each once.

    Args:
        builds: Cloud Build.
        build_store: The bucket of sources and logs, which the build's service account reads
            and writes.
        registry: Where images are looked up.
        assembler: Assembles images here.
        settings: How builds run.
    """

    def __init__(
        self,
        *,
        builds: CloudBuild,
        build_store: ArtifactStore,
        registry: ImageRegistry,
        assembler: Assembler,
        settings: BuilderSettings,
    ) -> None:
        self._builds = builds
        self._build_store = build_store
        self._registry = registry
        self._assembler = assembler
        self._settings = settings
        self._started: dict[str, Callable[[str], None]] = {}

    def cancel_started(self) -> None:
        """Cancel every build that was started here and that nobody else follows."""
        for build, cancel in list(self._started.items()):
            with contextlib.suppress(KineticError):  # it has ended, or goes on to no harm
                cancel(build)

    def ensure(
        self, request: BuildRequest, listener: Listener, store: ArtifactStore
    ) -> ResolvedImage:
        """Return an image, made unless it is there; a lease says which client makes it.

        Args:
            request: The image.
            listener: Whom to tell.
            store: Where the lease is.

        Raises:
            KineticError: It cannot be made.
        """
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
                    listener.on_output(f"another client makes {request.reference}")
                    over = self._build_of_the_past(lease)
                image = self._join(request, lease, followers, listener, over)
                if image is not None:
                    return image

    def _build_of_the_past(self, lease: Lease) -> str:
        """Return the build that a lease speaks of if it was over before anybody here waited.

        How it ended is no news: its holder is about to give the lease back or has died, and
        what it had pushed the registry knows better. Empty when there is no such build.
        """
        return "" if self._running_build(lease) else lease.build

    def _make(
        self, request: BuildRequest, lease: Lease, followers: Followers, listener: Listener
    ) -> ResolvedImage:
        """Make an image as the holder of its lease; a transient failure is tried once more."""
        source: BuildSource | Assembly | None = None
        for is_last in (False, True):
            # The registry counts more than anything that is said of builds. It was asked a moment
            # ago, and has nothing new where nobody else ever held the lease.
            image = request.find(request, self._registry) if is_last or not lease.is_first else None
            if image is not None:
                return image
            # That of a holder who has died, perhaps.
            state = self._running_build(lease)
            if state is None:
                source = source or request.source()
                made = self._assembled(request, source, listener)
                if made is not None:
                    return made
                state = self._joined_or_submitted(request, source, followers)
            with cancelled_if(followers.are_none, self._builds, state.id):
                lease.record_build(state.id)
                state, lines = self._follow(request, state, listener)
            if state.status not in TRANSIENT or is_last:
                return self._result(request, state, lines)
            listener.on_output(f"build {state.id} ended as {state.status}: trying once more")
        raise AssertionError("unreachable")

    def _assembled(
        self, request: BuildRequest, source: BuildSource | Assembly, listener: Listener
    ) -> ResolvedImage | None:
        """Assemble an image here, if that is the way it is to be made; None if a build makes it."""
        try:
            digest = self._assembler.made_here(source, listener.on_output)
        except KineticError:
            raise
        except BaseException as interruption:
            interruption.add_note(
                f"{request.reference} was not pushed; the next call uses the layers that were made"
            )
            raise
        if digest is None:
            return None
        reference = str(parse_reference(request.reference).at(digest))
        return self._found(reference, request, "it was pushed")

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
        if lease.build in ("", over) or self._assembler.is_alone:
            pause(self._settings.poll_seconds)
            return None
        state = self._builds.get(lease.build)
        with cancelled_if(followers.are_none, self._builds, state.id):
            state, lines = self._follow(request, state, listener)
        if state.status in TRANSIENT or state.status == "CANCELLED":
            pause(self._settings.poll_seconds)
            return None
        return self._result(request, state, lines)

    def _running_build(self, lease: Lease) -> BuildState | None:
        """Return the build that a lease speaks of, while it runs."""
        if not lease.build or self._assembler.is_alone:
            return None
        state = self._builds.find(lease.build)
        return state if state is not None and state.is_running else None

    def _joined_or_submitted(
        self, request: BuildRequest, source: BuildSource | Assembly, followers: Followers
    ) -> BuildState:
        """Return the build of an image that Cloud Build runs already, else a new one."""

        def cancel_if_abandoned(build: str) -> None:
            if followers.are_none():
                self._builds.cancel(build)

        found = self._builds.find_running(request.tag)
        if found is not None:
            return self._builds.get(found.id)
        if isinstance(source, Assembly):
            source = self._assembler.source_of(source)
        spec = request.upload(source, self._build_store, self._settings.options)
        state = self._builds.submit(spec, on_orphan=cancel_if_abandoned)
        self._started[state.id] = cancel_if_abandoned
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
            raise request.failure(request, state, lines)
        digest = state.images.get(request.reference)
        name = parse_reference(request.reference)
        reference = str(name.at(digest) if digest else name)
        return self._found(reference, request, f"build {state.id} succeeded")

    def _found(self, reference: str, request: BuildRequest, because: str) -> ResolvedImage:
        image = self._registry.resolve(reference)
        if image is None:
            raise BuildError(
                f"{because}, and {request.reference} is not in the registry",
                value=request.reference,
                hint="something deletes it: look at the repository's cleanup policies",
            )
        return image
