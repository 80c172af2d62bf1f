"""`kinetic images`: what a cluster's image repository keeps, and deleting what nothing uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter

from kinetic_flows.cli.cluster import open_cluster
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.cli.run_list import moment
from kinetic_flows.cli.tables import print_table
from kinetic_flows.clients.prefect.api import PrefectApi, connect
from kinetic_flows.clients.prefect.flow_names import DEPLOY_FLOW, GROUP_FLOW, PARENT_FLOW
from kinetic_flows.clients.prefect.labels import PLATFORM_LABEL, PREPARING
from kinetic_flows.clients.prefect.records import RunQuery
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import (
    ImageError,
    KineticError,
    RepositoryNotFoundError,
    UsageError,
)
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.moments import ago
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.core.settings import values as check
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.images.kept_images import (
    KeptImage,
    KeptState,
    Use,
    freed_bytes,
    judge,
    kept_bytes,
)
from kinetic_flows.platforms.gke.kept_images import (
    cluster_uses,
    names_in,
    prefect_uses,
    read_images,
)
from kinetic_flows.platforms.gke.registries import registry_writer
from kinetic_flows.runs.session import configure, prefect_api_url
from kinetic_flows.runs.settle import is_preparing

images_app = App(name="images", help_format="markdown", help_epilogue="")

DEFAULT_AGE = "30d"

DELETED_AT_A_TIME = 8

SHORTEST_AGE = timedelta(days=1)
"""Longer than an image takes to be put together, and than clocks are apart."""

LONGEST_PREPARATION = timedelta(hours=2)
"""A run that is prepared for longer has lost its client."""

OlderThan = Annotated[str, Parameter(name="--older-than")]


@dataclass(frozen=True, kw_only=True)
class _Repository:
    """A repository that is looked at.

    Attributes:
        name: The repository.
        cluster: The cluster's own repository, which may be the same.
        registry: Its registry.
        settings: The settings, of which a cluster is among.
        since: What was used or pushed later is in use.
    """

    name: str
    cluster: str
    registry: RegistryWriter
    settings: Settings
    since: datetime

    def states(self, images: Sequence[KeptImage], uses: Sequence[Use]) -> tuple[KeptState, ...]:
        """Return what is known of all that it keeps."""
        own = names_in(self.name)
        return judge(
            [image for image in images if image.name in own],
            uses,
            since=self.since,
            elsewhere=[image for image in images if image.name not in own],
        )

    def images(self) -> tuple[KeptImage, ...]:
        """Return what it keeps, and what the cluster's own keeps, which may be made from it.

        Raises:
            ImageError: It cannot be read.
        """
        home = self.settings.home
        found = read_images(self.registry, self.name, home)
        if names_in(self.cluster) == names_in(self.name):
            return found
        with suppress(RepositoryNotFoundError):
            return (*found, *read_images(self.registry, self.cluster, home))
        return found

    def delete(self, state: KeptState) -> None:
        """Delete an image or a layer.

        Raises:
            ImageError: The registry deletes nothing, or refuses this.
        """
        self.registry.delete(state.image.name, state.image.digest, state.image.tags)

    def uses(self, *, everywhere: bool = False, to_delete: bool = False) -> list[Use]:
        """Return what uses images of it.

        Args:
            everywhere: Whether it is not enough to look into one namespace of the cluster.
            to_delete: Whether there may be nothing that will use some image in a moment.

        Raises:
            KineticError: Prefect or the cluster cannot be asked, or a run is being prepared.
        """
        require_something_to_read()
        environ, names = process_environment(), {*names_in(self.name), *names_in(self.cluster)}
        progress = terminal_progress(self.settings.progress, environ)
        with connect(prefect_api_url(self.settings, environ, progress)) as api:
            if to_delete:
                # First: one that is launched meanwhile names its image.
                _require_nothing_preparing(api)
            found = prefect_uses(api, names, self.since)
        with open_cluster(self.settings) as client:
            namespace = self.settings.required_cloud().namespace
            return [*found, *cluster_uses(client, namespace, names, everywhere=everywhere)]


@images_app.command(name="ls")
def list_(
    *,
    repo: str | None = None,
    older_than: OlderThan = DEFAULT_AGE,
    layers: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """List the images of projects, the bases and the layers: how large, how old, used by what.

    What is shared with other images counts in SIZE and not in OWN.

    Args:
        repo: Image repository; the cluster's by default.
        older_than: What nothing has used for so long is called unused, such as 30d or 14d.
        layers: List each layer, too, and not only how many there are.
        as_json: Print a JSON object with all of them.
    """
    with _opened(repo, older_than) as repository:
        images = repository.images()
        try:
            uses, unknown = repository.uses(), None
        except KineticError as error:
            uses, unknown = [], error
        states = repository.states(images, uses)
    if as_json:
        print_json(_document(repository.name, states, uses_known=unknown is None))
        return
    if unknown is not None:
        print(f"kinetic: what uses them is not known: {unknown.message}", file=sys.stderr)
    _print_kept(repository.name, states, each_layer=layers, uses_known=unknown is None)


@images_app.command
def prune(
    *,
    repo: str | None = None,
    older_than: OlderThan = DEFAULT_AGE,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    as_json: Json = False,
) -> None:
    """Say which images and layers nothing has used for long; with --yes, delete them.

    In use is what a Job or pod of the cluster, a flow run of that time or one that is not over, a
    deployment or a work pool names, what was pushed within that time, and the base and the layers
    of an image that is in use.

    Args:
        repo: Image repository; the cluster's by default.
        older_than: How long nothing has used them, such as 30d or 14d.
        yes: Delete them.
        as_json: Print a JSON object.
    """
    with _opened(repo, older_than) as repository:
        # Images first: what begins to be used meanwhile is seen to be.
        images = repository.images()
        states = repository.states(images, repository.uses(everywhere=True, to_delete=yes))
        unused = [state for state in states if not state.used_by]
        if yes:
            # Registries keep what an index names until that has gone.
            for has_parts in (True, False):
                going = [state for state in unused if bool(state.image.parts) is has_parts]
                in_threads(repository.delete, going, threads=DELETED_AT_A_TIME)
    if as_json:
        freed = {"freed_bytes": freed_bytes(states), "deleted": yes}
        print_json({**_document(repository.name, unused), **freed})
        return
    _print_unused(states, unused, older_than, deleted=yes)


@contextmanager
def _opened(repo: str | None, older_than: str) -> Iterator[_Repository]:
    """Open a repository, and what knows of its use."""
    since = _moment(older_than)
    environ = process_environment()
    local = load_settings(environ)
    settings = configure(local, environ, terminal_progress(local.progress, environ))
    cloud = settings.required_cloud()
    with closing(registry_writer(environ, settings.home, cloud)) as registry:
        yield _Repository(
            name=check.image_repository(repo, "--repo") if repo else cloud.image_repo,
            cluster=cloud.image_repo,
            registry=registry,
            settings=settings,
            since=since,
        )


def _moment(older_than: str) -> datetime:
    """Return since when what is used or pushed counts as in use.

    Raises:
        UsageError: It is no moment, or a later one than is safe.
    """
    since = moment(older_than, "--older-than")
    if since > datetime.now(UTC) - SHORTEST_AGE:
        raise UsageError(
            f"--older-than is {older_than!r}, which is less than a day ago",
            value=older_than,
            hint="what was pushed within a day may be a part of an image that is just being put "
            "together: give 1d or more",
        )
    return since


def _require_nothing_preparing(api: PrefectApi) -> None:
    """See that every run names its image already, of those that began to be prepared lately.

    Raises:
        ImageError: One does not.
    """
    lately = datetime.now(UTC) - LONGEST_PREPARATION
    preparing = filter(is_preparing, api.find_runs(RunQuery(state_name=PREPARING, since=lately)))
    # What is launched, or deployed, once all is known that it needs.
    later = [
        run
        for flow in (PARENT_FLOW, GROUP_FLOW, DEPLOY_FLOW)
        for run in api.find_runs(RunQuery(flow=flow, state_types=("RUNNING",), since=lately))
        if not api.find_runs(RunQuery(parent=run.id), limit=1)
    ]
    for run in (*preparing, *later):
        if run.labels.get(PLATFORM_LABEL) != "local":
            raise ImageError(
                f"the run {short_id(run.id)} ({run.name}) is being prepared, and may use any image",
                value=run.id,
                hint="nothing was deleted; run it again once that run has begun",
            )


def _document(
    repository: str, states: Sequence[KeptState], *, uses_known: bool = True
) -> dict[str, Any]:
    images = [{**state.to_json(), **({} if uses_known else {"used_by": None})} for state in states]
    return {"repository": repository, "bytes": kept_bytes(states), "images": images}


def _print_kept(
    repository: str, states: Sequence[KeptState], *, each_layer: bool, uses_known: bool
) -> None:
    if not states:
        print(f"{repository} keeps no images")
        return
    layers = [state for state in states if state.image.kind == "layer"]
    shown = [state for state in states if each_layer or state not in layers]
    if shown:
        _print_states(shown, uses_known=uses_known)
    if layers and not each_layer:
        used = sum(bool(state.used_by) for state in layers)
        in_use = f", {used} in use" if uses_known else ""
        print(
            f"{counted(len(layers), 'layer')}, {size_in_units(kept_bytes(layers))}{in_use} "
            "(--layers lists them)"
        )
    print(f"{repository}: {_how_many(states)}, {size_in_units(kept_bytes(states))} in all")


def _print_unused(
    states: Sequence[KeptState], unused: Sequence[KeptState], older_than: str, *, deleted: bool
) -> None:
    if not unused:
        print(f"all {_how_many(states)} have been used or pushed within {older_than}")
    else:
        _print_states(unused, uses_known=False)
        freed = size_in_units(freed_bytes(states))
        if deleted:
            print(f"deleted {_how_many(unused)}, {freed}")
        else:
            print(f"would delete {_how_many(unused)}, {freed}: --yes deletes them")
    if any(state.image.pushed is None for state in states):
        print(
            "this registry does not tell when images were pushed: their age counts from when this "
            "machine listed them first"
        )


def _print_states(states: Sequence[KeptState], *, uses_known: bool) -> None:
    now = datetime.now(UTC)
    header = ("IMAGE", "SIZE", "OWN", "AGE", *(("USED BY",) if uses_known else ()))
    rows = [
        (
            state.image.title or state.image.label,
            size_in_units(state.image.size_bytes),
            size_in_units(state.own_bytes),
            ago(state.image.since, now).removesuffix(" ago"),
            *((_users(state),) if uses_known else ()),
        )
        for state in states
    ]
    print_table([header, *rows])


def _users(state: KeptState) -> str:
    if not state.used_by:
        return "nothing"
    first, *others = state.used_by
    return f"{first} and {len(others)} more" if others else first


def _how_many(states: Sequence[KeptState]) -> str:
    layers = sum(state.image.kind == "layer" for state in states)
    return f"{counted(len(states) - layers, 'image')} and {counted(layers, 'layer')}"


add_examples(
    images_app,
    {
        "ls": ("kinetic images ls", "kinetic images ls --layers", "kinetic images ls --json"),
        "prune": ("kinetic images prune", "kinetic images prune --older-than 14d --yes"),
    },
)
