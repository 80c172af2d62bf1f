"""Code that has some of its files from one run, and the rest from another."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Set
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from kinetic_flows.code.manifest import Entry, decode_manifest
from kinetic_flows.code.snapshot import CodeSnapshot, SnapshotOptions, take_snapshot
from kinetic_flows.code.stored_code import DIRECTORY_MODE, restore
from kinetic_flows.code.upload import upload_code
from kinetic_flows.core.errors import PackagingError
from kinetic_flows.core.files import scratch_directory
from kinetic_flows.core.job import CodeSpec
from kinetic_flows.runs.compare.changes import WHERE_FOUND, Side


class MixedCode:
    """Makes mixtures of two runs' code, which are stored as code is that is shipped.

    Args:
        good: The run that the rest is from.
        bad: The run that some files are from.
        home: `KINETIC_HOME`, where both are written out.
        open_until: What removes them.
    """

    def __init__(self, good: Side, bad: Side, home: Path, open_until: ExitStack) -> None:
        self._good = good
        self._bad = bad
        self._home = home
        self._open_until = open_until

    def with_files(self, taken: Set[str]) -> CodeSpec:
        """Return the code that has some files, and where modules are found, from the bad run.

        Args:
            taken: Their paths; `WHERE_FOUND` for where modules are found.

        Raises:
            PackagingError: Such code cannot be shipped.
        """
        good, bad = self._good.job.code, self._bad.job.code
        assert good is not None
        assert bad is not None
        places = bad if WHERE_FOUND in taken else good
        wanted = {**self._good.entries}
        for path in taken - {WHERE_FOUND}:
            entry = self._bad.entries.get(path)
            if entry is None:
                wanted.pop(path, None)
            else:
                wanted[path] = entry
        if wanted == self._good.entries:
            return replace(places, packs=good.packs, manifest=good.manifest)
        if wanted == self._bad.entries:
            return replace(places, packs=bad.packs, manifest=bad.manifest)
        _check_directories(wanted)
        with scratch_directory(self._home) as folder:
            self._write(wanted, taken, folder)
            sent = self._sent(wanted, folder)
        return replace(places, packs=sent.packs, manifest=sent.manifest_ref)

    def _sent(self, wanted: Mapping[str, Entry], folder: Path) -> CodeSnapshot:
        files = [path for path, entry in wanted.items() if not entry.is_directory]
        options = SnapshotOptions(default_excludes=False)
        snapshot = take_snapshot(folder, cache_home=None, options=options, only=files)
        sent = upload_code(snapshot, self._good.store, home=self._home).snapshot
        left_out = set(files) - {entry.path for entry in decode_manifest(sent.manifest)}
        if left_out:
            raise PackagingError(
                f"code of both runs together cannot be shipped: {min(left_out)} is left out",
                value=min(left_out),
                hint="a .kineticignore of one of them leaves out files of the other",
            )
        return sent

    def _write(self, wanted: Mapping[str, Entry], taken: Set[str], folder: Path) -> None:
        for path, entry in wanted.items():
            source = (self._bad_files if path in taken else self._good_files) / path
            target = folder / path
            target.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            if entry.is_directory:
                target.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)

    @cached_property
    def _good_files(self) -> Path:
        return self._restored(self._good)

    @cached_property
    def _bad_files(self) -> Path:
        return self._restored(self._bad)

    def _restored(self, side: Side) -> Path:
        folder = self._open_until.enter_context(scratch_directory(self._home))
        assert side.job.code is not None
        restore(side.job.code, side.entries, side.store, folder)
        return folder


def _check_directories(wanted: Mapping[str, Entry]) -> None:
    """Refuse files within what is a file or a link: that could lead anywhere.

    Raises:
        PackagingError: There are some.
    """
    others = {path for path, entry in wanted.items() if not entry.is_directory}
    for path in wanted:
        above = path.rpartition("/")[0]
        while above:
            if above in others:
                raise PackagingError(
                    f"code of both runs together cannot be shipped: {above} is a directory of "
                    "one of them and none of the other",
                    value=above,
                )
            above = above.rpartition("/")[0]
