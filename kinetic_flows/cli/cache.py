"""`kinetic cache`: compiled programs that runs have kept for later runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import App, Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.cli.run_list import moment
from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.artifact_store import ArtifactStore, ObjectInfo
from kinetic_flows.core.compile_cache import EXPIRE_AFTER_DAYS
from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.moments import ago
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.quantities import memory_bytes
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.compile_cache import (
    remove_programs,
    size_of,
    stored_programs,
    summed,
    unused_programs,
)
from kinetic_flows.runs.session import configure

cache_app = App(name="cache", help_format="markdown", help_epilogue="")

DEFAULT_AGE = f"{EXPIRE_AFTER_DAYS}d"


@cache_app.command(name="ls")
def list_(*, as_json: Json = False) -> None:
    """List the compiled programs that runs have kept, by environment and accelerator.

    An environment is one set of packages in one image. Every host of a slice has programs of its
    own.

    Args:
        as_json: Print a JSON object with all of them.
    """
    store = _store()
    found = stored_programs(store)
    if as_json:
        print_json(_document(store, found))
    elif not found:
        print(f"{store.uri} keeps no compiled programs")
    else:
        _print(found)
        print(f"{store.uri}: {_how_many(found)} in all")


@cache_app.command
def prune(
    *,
    older_than: Annotated[str | None, Parameter(name="--older-than")] = None,
    max_size: Annotated[str | None, Parameter(name="--max-size")] = None,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    as_json: Json = False,
) -> None:
    """Delete compiled programs that no run has used for long; runs that need them compile again.

    Args:
        older_than: How long no run has used them, such as 14d; 30d where nothing else is said.
        max_size: How large what stays may be, such as 20Gi; the least recently used go first.
        everything: Delete all of them.
        dry_run: Only say what would be deleted.
        yes: Do not ask.
        as_json: Print a JSON object.
    """
    if everything and (older_than or max_size):
        raise UsageError(
            "--all goes with neither --older-than nor --max-size", hint="leave one of them out"
        )
    since, size = _since(older_than, max_size, everything=everything), _size(max_size)
    store = _store()
    objects = stored_programs(store)
    going = unused_programs(objects, unused_since=since, max_bytes=size)
    if going and not as_json:
        _print(going)
    if going and not dry_run:
        question, undone = f"Delete {_how_many(going)}?", "nothing was deleted"
        if not yes and not confirmed(question, undone=undone):
            raise UsageError(undone, hint="say --yes to delete them")
        remove_programs(going, store)
    if as_json:
        print_json({**_document(store, going), "deleted": not dry_run})
    elif going:
        print(f"{'would delete' if dry_run else 'deleted'} {_how_many(going)}")
    else:
        print(f"nothing to delete: {_how_many(objects)}")


def _store() -> ArtifactStore:
    environ = process_environment()
    settings = configure(load_settings(environ), environ, NullProgress())
    return choose_platform(settings, environ).store


def _since(older_than: str | None, max_size: str | None, *, everything: bool) -> datetime:
    """Return since when programs must have been used to stay."""
    if everything:
        return datetime.max.replace(tzinfo=UTC)
    if older_than is None and max_size is not None:
        return datetime.min.replace(tzinfo=UTC)
    return moment(older_than or DEFAULT_AGE, "--older-than")


def _size(text: str | None) -> int | None:
    """Return a size in bytes.

    Raises:
        UsageError: It is none.
    """
    if text is None:
        return None
    size = memory_bytes(text.strip().removesuffix("B"))
    if size is None:
        raise UsageError(
            f"--max-size is {text!r}", value=text, hint="give a size, such as 20Gi or 500M"
        )
    return size


def _document(store: ArtifactStore, objects: Sequence[ObjectInfo]) -> dict[str, Any]:
    return {
        "store": store.uri,
        "programs": len(objects),
        "size_bytes": size_of(objects),
        "environments": [each.to_json() for each in summed(objects)],
    }


def _print(objects: Sequence[ObjectInfo]) -> None:
    now = datetime.now(UTC)
    header = ("ENVIRONMENT", "ACCELERATOR", "HOSTS", "PROGRAMS", "SIZE", "LAST USED")
    rows = [
        (
            each.environment,
            each.accelerator,
            str(each.hosts),
            str(each.programs),
            size_in_units(each.size_bytes),
            ago(each.last_used, now),
        )
        for each in summed(objects)
    ]
    print_table([header, *rows])


def _how_many(objects: Sequence[ObjectInfo]) -> str:
    return f"{counted(len(objects), 'program')}, {size_in_units(size_of(objects))}"


add_examples(
    cache_app,
    {
        "ls": ("kinetic cache ls", "kinetic cache ls --json"),
        "prune": (
            "kinetic cache prune --dry-run",
            "kinetic cache prune --older-than 14d --max-size 20Gi --yes",
            "kinetic cache prune --all",
        ),
    },
)
