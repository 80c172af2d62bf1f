"""Data of a run: everything that its job names is brought here before the function is called."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from .contract import EXIT_DATA_UNAVAILABLE, Fault
from .data_cache import Copies, NoCache
from .data_draft import Draft
from .data_own import OwnDirectory
from .data_selected import is_selective, select
from .data_sources import Source, clients, open_source
from .data_space import MEMORY, Room
from .data_work import Work
from .stores import BucketStore, DirectoryStore
from .volumes import require_mounted

CACHE = "KINETIC_DATA_CACHE"
"""Names a directory in which copies stay, for other runs."""


class Around(NamedTuple):
    """What data is brought with.

    Attributes:
        store: Where the job's objects are.
        client: A `google.cloud.storage.Client`; None where the store needs none.
        environ: The run's variables, secrets among them.
        scratch: A directory that lasts as long as this process, for copies of this run alone.
        say: Takes lines that tell how far it is.
        leaving: Takes what is to be done when the run has ended.
    """

    store: DirectoryStore | BucketStore
    client: Any
    environ: Mapping[str, str]
    scratch: str
    say: Callable[[str], None]
    leaving: ExitStack


def bring_data(
    data: Sequence[Mapping[str, Any]], around: Around, own: Mapping[int, str] | None = None
) -> list[str]:
    """Bring data here, checked, and return the path of each.

    Args:
        data: The job's `data`.
        around: What it is brought with.
        own: Directories that are this run's alone, into which some of it goes, by its place in the
            job; None for none.

    Raises:
        Fault: Something of it is not there, is not what the job says, or has no room.
    """
    environ = {**clients(around.environ)["environment"], **around.environ}
    around = around._replace(environ=environ)
    places = _Places(around)
    found = []
    for number, said in enumerate(data):
        # A path may end so that it names nothing.
        spec = {**said, "name": "data"} if said["name"] in ("", ".", "..") else said
        directory = (own or {}).get(number)
        copies = [OwnDirectory(directory, around.scratch)] if directory else None
        found.append(_bring(spec, around, places if copies is None else copies))
    return found


class _Places:
    """Where copies are put, each place opened when it is needed first."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._opened: dict[str, Copies] = {}

    def of(self, spec: Mapping[str, Any]) -> list[Copies]:
        """Return where a copy may be put, the best place first."""
        scratch = os.path.join(self._around.scratch, "data")
        if spec["in_memory"] and os.path.isdir(MEMORY):
            root = os.path.join(MEMORY, f"kinetic-{os.geteuid()}")
            return self._open((root, False, True))
        if spec["in_memory"]:
            self._around.say(f"data {spec['source']} is kept on disk: there is no {MEMORY} here")
        cache = self._around.environ.get(CACHE)
        wanted = [(os.path.abspath(cache), True, True)] if cache else []
        return self._open(*wanted, (scratch, True, False))

    def _open(self, *wanted: tuple[str, bool, bool]) -> list[Copies]:
        found = []
        for root, is_kept, is_shared in wanted:
            if root not in self._opened:
                copies = Copies(root, is_kept=is_kept, is_shared=is_shared)
                try:
                    copies.prepare()
                except NoCache as error:
                    self._around.say(f"no copies of data can be kept: {error}")
                    continue
                self._around.leaving.callback(copies.release)
                self._opened[root] = copies
            found.append(self._opened[root])
        return found


def _bring(spec: Mapping[str, Any], around: Around, places: _Places | list[OwnDirectory]) -> str:
    if spec["path"] is not None:
        path = _require(spec)
        return select(spec, around.scratch) if is_selective(spec) else path
    what = f"data {spec['source']}"
    work = Work(what, spec["size_bytes"], around.say)
    source = open_source(spec, around, work)
    for copies in places.of(spec) if isinstance(places, _Places) else places:
        room = Room(copies.root, what, around.environ, in_memory=spec["in_memory"])
        try:
            return copies.bring(
                work.ask(partial(source.settled, around.scratch)),
                partial(_make, source, work, room),
                lambda: work.say_once(f"{what}: another run brings it, which is waited for"),
            )
        except NoCache as error:
            around.say(f"{what} is copied for this run alone: {error}")
        except OSError as error:
            raise room.fault(error) from error
    raise Fault(EXIT_DATA_UNAVAILABLE, f"{what} can be put nowhere")


def _require(spec: Mapping[str, Any]) -> str:
    """Return where data is that is not brought, having looked that it is there."""
    path: str = spec["path"]
    if spec["mode"] == "mount":
        require_mounted(path, spec["source"])
    if not os.path.lexists(path):
        message = f"data {spec['source']} is not at {path} any more, or not on this machine"
        raise Fault(EXIT_DATA_UNAVAILABLE, message)
    return path


def _make(source: Source, work: Work, room: Room, place: str, path: str) -> None:
    """Make a copy at a path below a directory, which may have what an earlier try has left."""
    size_bytes, files = work.ask(partial(source.prepare, place))
    work.size_bytes = size_bytes
    room.require(size_bytes, files, place)
    root = os.path.dirname(path) if source.is_file else path
    draft = Draft(root, os.path.join(place, "slices"), work)
    work.run(source.jobs(draft))
    source.finish(draft)
    work.tell_end()
