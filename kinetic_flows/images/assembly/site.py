"""The site layer: what an image of Python has in its site-packages, moved to where wheels lie.

Packages lie in one directory whatever the minor version, and the directory of the version is a
link to it. What was there before (pip, and setuptools in older images) would be hidden by the
link, so it is moved; a package that an image gets as a wheel is left out.
"""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from csv import reader
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from packaging.utils import canonicalize_name

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.images.assembly.base_check import glibc_of
from kinetic_flows.images.layers.archive import LayerWriter
from kinetic_flows.images.layers.model import PREFIX, SITE_PACKAGES, MadeLayer, WheelFacts

C_LIBRARIES = frozenset(
    f"{root}lib/{machine}-linux-gnu/libc.so.6"
    for root in ("", "usr/")
    for machine in ("x86_64", "aarch64")
)
_REMOVED = ".wh."
_EMPTIED = ".wh..wh..opq"
_METADATA = ".dist-info/METADATA"
_EXECUTABLE = 0o111


@dataclass(frozen=True, kw_only=True)
class SiteLayer:
    """A site layer that was made.

    Attributes:
        layer: The layer, with what is known of each package in it.
        glibc: Release of the image's C library, such as `2.36`; empty where none was seen.
    """

    layer: MadeLayer
    glibc: str


@dataclass(frozen=True)
class _File:
    data: bytes
    is_program: bool
    link: str = ""


@dataclass
class _Tree:
    """What layers put in the places that are looked at, one on top of the other."""

    is_wanted: Callable[[str], bool]
    files: dict[str, _File] = field(default_factory=dict)

    def apply(self, blob: Path) -> None:
        """Put a layer on top; see https://github.com/opencontainers/image-spec, layer.md."""
        fresh: dict[str, _File] = {}
        with open_layer(blob) as archive:
            for entry in archive:
                path = entry.name.removeprefix("./").strip("/")
                self._apply(archive, entry, path, fresh)
        self.files.update(fresh)

    def _apply(
        self, archive: tarfile.TarFile, entry: tarfile.TarInfo, path: str, fresh: dict[str, _File]
    ) -> None:
        folder, _, name = path.rpartition("/")
        if name == _EMPTIED:
            self._remove(f"{folder}/")
        elif name.startswith(_REMOVED):
            gone = f"{folder}/{name.removeprefix(_REMOVED)}".lstrip("/")
            self.files.pop(gone, None)
            self._remove(f"{gone}/")
        elif entry.isdir() or not self.is_wanted(path):
            return
        elif entry.issym():
            fresh[path] = _File(b"", is_program=False, link=entry.linkname)
        elif entry.islnk():
            known = {**self.files, **fresh}.get(entry.linkname.removeprefix("./").strip("/"))
            fresh.update({path: known} if known else {})
        elif content := archive.extractfile(entry):
            fresh[path] = _File(content.read(), is_program=bool(entry.mode & _EXECUTABLE))

    def _remove(self, prefix: str) -> None:
        for path in [path for path in self.files if path.startswith(prefix)]:
            del self.files[path]


def make_site_layer(
    blobs: Sequence[Path], target: Path, *, python: str, keeps: Collection[str] | None = None
) -> SiteLayer:
    """Make a site layer.

    Args:
        blobs: The layers of an image of Python, the lowest first; or one site layer.
        target: The file that gets it.
        python: Python minor version.
        keeps: Names of the packages that it keeps; None for all that there are.

    Raises:
        ImageError: A layer cannot be read.
    """
    minor = f"{PREFIX}/lib/python{python}/site-packages"
    places = (f"{minor}/", f"{SITE_PACKAGES}/")
    tree = _Tree(lambda path: path.startswith(places) or path in C_LIBRARIES)
    for blob in blobs:
        tree.apply(blob)
    libraries = [tree.files.pop(path, None) for path in sorted(C_LIBRARIES)]
    tree.files.pop(minor, None)
    moved = {
        f"{SITE_PACKAGES}/{_below(path, places)}": file
        for path, file in tree.files.items()
        if not path.endswith(".pyc")
    }
    packages = dict(sorted(_packages(moved)))
    gone = [name for name in packages if keeps is not None and name not in keeps]
    removed = [facts for name in gone if (facts := packages.pop(name))]
    left_out = {path for facts in removed for path in facts.files}
    folders = tuple(folder for facts in removed for folder in metadata_folders(facts))
    kept = {
        path: file
        for path, file in moved.items()
        if path not in left_out and not path.startswith(folders)
    }
    with LayerWriter(target) as writer:
        for path, file in sorted(kept.items()):
            if file.link:
                writer.add_link(path, file.link)
            else:
                writer.add_file(path, file.data, executable=file.is_program)
        writer.add_link(minor, "../python3/site-packages")
        layer = MadeLayer(blob=writer.close(), path=target, facts=tuple(packages.values()))
    glibc = next((glibc_of(file.data) for file in libraries if file and not file.link), None)
    return SiteLayer(layer=layer, glibc=glibc or "")


@contextmanager
def open_layer(blob: Path) -> Iterator[tarfile.TarFile]:
    """Open a layer, to be read from its beginning to its end.

    Raises:
        ImageError: It is damaged, or compressed by something else than gzip.
    """
    try:
        # `tarfile` itself reads only the first member of a gzip file.
        with gzip.open(blob) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
            yield archive
    except (OSError, EOFError, tarfile.TarError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ImageError(
            f"a layer of the image cannot be read: {error}",
            hint="only layers compressed by gzip can: name an image that has such",
        ) from error


def _below(path: str, places: Iterable[str]) -> str:
    return next(path.removeprefix(place) for place in places if path.startswith(place))


def _packages(files: Mapping[str, _File]) -> Iterator[tuple[str, WheelFacts]]:
    """Yield what is known of each installed package, by its name."""
    for path, file in files.items():
        if not path.endswith(_METADATA):
            continue
        metadata = HeaderParser().parsestr(file.data.decode("utf-8", "replace"))
        name = canonicalize_name(metadata["Name"] or "")
        folder = path.rpartition("/")[0]
        owned = {
            owned: sha256_hex(files[owned].data)[:16]
            for owned in _recorded(files.get(f"{folder}/RECORD"))
            if owned in files
        }
        yield (
            name,
            WheelFacts(
                name=name,
                version=metadata["Version"] or "0",
                sha256="",
                requires=tuple(metadata.get_all("Requires-Dist") or ()),
                requires_python=metadata["Requires-Python"] or "",
                files={**owned, path: sha256_hex(file.data)[:16]},
                source_bytes=0,
            ),
        )


def _recorded(record: _File | None) -> Iterator[str]:
    for row in reader((record.data if record else b"").decode("utf-8", "replace").splitlines()):
        if row:
            yield f"{SITE_PACKAGES}/{row[0]}"


def metadata_folders(facts: WheelFacts) -> Iterator[str]:
    """Yield where the metadata of a package lies, all of which belongs to it."""
    for path in facts.files:
        if path.endswith(_METADATA):
            yield path.rpartition("/")[0] + "/"
