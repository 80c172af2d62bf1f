"""A layer of several wheels without some of them, made from the layer itself.

A base has the bytecode of many wheels in one layer. An image with another version of one of them
must not have that one's: Python would run it, and see directories that are not there any more.
The files are in the archive in the order and form in which they would be written anew, so this
makes the same layer that is made from the other wheels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.assembly.site import metadata_folders, open_layer
from kinetic_flows.images.layers.archive import LayerWriter
from kinetic_flows.images.layers.bytecode import bytecode_path
from kinetic_flows.images.layers.model import LayerBlob, WheelFacts

_EXECUTABLE = 0o111


def leave_out(
    blob: Path, target: Path, *, gone: Iterable[WheelFacts], kept: Iterable[WheelFacts], python: str
) -> LayerBlob:
    """Copy a layer without the files of some wheels, and without their bytecode.

    Args:
        blob: The layer.
        target: The file that gets the other one.
        gone: The wheels that are left out.
        kept: The other wheels in it, whose files stay even where one that goes has them, too.
        python: Python minor version of the bytecode.

    Raises:
        ImageError: The layer cannot be read.
    """
    removal = _Removal.of(tuple(gone), tuple(kept), python)
    with open_layer(blob) as archive, LayerWriter(target) as writer:
        for entry in archive:
            if entry.isdir() or removal.takes(entry.name):
                continue
            if entry.issym():
                writer.add_link(entry.name, entry.linkname)
            elif file := archive.extractfile(entry):
                is_program = bool(entry.mode & _EXECUTABLE)
                writer.add_file(entry.name, file.read(), executable=is_program)
        return writer.close()


@dataclass(frozen=True, kw_only=True)
class _Removal:
    """What goes with some wheels of a layer.

    Attributes:
        paths: Files that go.
        folders: Folders that go with all that is in them.
        lost: Files of which the layer has the content of a wheel that goes, in the place of that
            of one that stays.
    """

    paths: frozenset[str]
    folders: tuple[str, ...]
    lost: frozenset[str]

    @classmethod
    def of(cls, gone: Sequence[WheelFacts], kept: Sequence[WheelFacts], python: str) -> _Removal:
        staying = {path: facts for facts in kept for path in facts.files}
        paths, lost = set(), set()
        for facts in gone:
            for path, content in facts.files.items():
                other = staying.get(path)
                # Equal files of two packages (`__init__.py` of a namespace) have equal bytecode.
                if other is not None and other.files[path] == content:
                    continue
                if path.endswith(".py"):
                    paths.add(bytecode_path(path, python))
                if other is None:
                    paths.add(path)
                elif other.name < facts.name:
                    lost.add(path)
        folders = tuple(folder for facts in gone for folder in metadata_folders(facts))
        return cls(paths=frozenset(paths), folders=folders, lost=frozenset(lost))

    def takes(self, path: str) -> bool:
        """Whether a file goes.

        Raises:
            ImageError: It must stay, and its content is not in the layer.
        """
        if path in self.lost:
            raise ImageError(
                f"two packages that the base holds in one layer both have /{path}, and one of "
                "them gives way to another version",
                value=path,
                hint="ask for the version that the base has, or build a base without it",
            )
        return path in self.paths or path.startswith(self.folders)
