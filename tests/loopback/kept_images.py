"""Images that take long to make, kept between runs.

They are kept in the form in which docker-registry stores them, under a name that says what they
were made from: from anything else they are made anew.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from kinetic_flows import images
from kinetic_flows.core.files import exclusive_lock
from kinetic_flows.images.assembly.bases import base_digest
from kinetic_flows.images.bases import lean_inputs, read_base_inputs, read_bootstrap
from kinetic_flows.images.tags import base_tag
from loopback import lifted_python
from loopback.lifted_python import MINOR

KEPT = Path(__file__).parents[2] / ".dev" / "images"
STORED = Path("docker/registry/v2")
LOCK = KEPT / ".lock"


def restore_images(cluster_repository: str, registry: Path) -> bool:
    """Give a registry that has not started yet what was kept; return whether there was anything.

    Args:
        cluster_repository: Path of the repository that has the base images.
        registry: Root of the registry's files.
    """
    kept = KEPT / _identity(cluster_repository)
    with exclusive_lock(LOCK):
        if not kept.is_dir():
            return False
        shutil.copytree(kept, registry / STORED, copy_function=_link_blobs, dirs_exist_ok=True)
    return True


def keep_images(cluster_repository: str, registry: Path) -> None:
    """Keep a registry's images, in place of what else was kept; see `restore_images`."""
    kept = KEPT / _identity(cluster_repository)
    with (
        exclusive_lock(LOCK),
        tempfile.TemporaryDirectory(prefix=".making-", dir=KEPT) as directory,
    ):
        made = Path(directory, "images")
        for repository, tags in _wanted(cluster_repository).items():
            _copy_repository(registry / STORED, made, repository, tags)
        layers = f"{cluster_repository}/layers"
        if tags := _layers_of_bases(registry / STORED, layers):
            _copy_repository(registry / STORED, made, layers, tags)
        blobs = set(_blobs_of(made))
        # Processes that began with nothing each made their own: the fuller set stays.
        if len(_repositories_of(made)) <= len(_repositories_of(kept)):
            return
        for blob in blobs:
            (made / blob).parent.mkdir(parents=True)
            _link_blobs(str(registry / STORED / blob), str(made / blob))
        for old in KEPT.glob("[!.]*"):
            shutil.rmtree(old, ignore_errors=True)
        made.rename(kept)


def _copy_repository(stored: Path, target: Path, repository: str, tags: frozenset[str]) -> None:
    """Copy what is known of a repository, if it has all these tags, and no tag besides."""
    source = stored / "repositories" / repository
    there = {path.name for path in source.glob("_manifests/tags/*")}
    if tags <= there:
        unwanted = shutil.ignore_patterns(*(there - tags))
        shutil.copytree(source, target / "repositories" / repository, ignore=unwanted)


def _wanted(cluster_repository: str) -> Mapping[str, frozenset[str]]:
    """Return the repositories that are kept, and which tags of each."""
    inputs = read_base_inputs("cpu", MINOR)
    names = [name.removeprefix("docker.io/").partition(":") for name in lifted_python.NAMES]
    return {
        names[0][0]: frozenset(tag for _, _, tag in names),
        f"{cluster_repository}/base-cpu": frozenset({base_tag(MINOR, inputs.identity)}),
        f"{cluster_repository}/base-cpu-lean": frozenset(
            {base_tag(MINOR, lean_inputs(inputs).identity)}
        ),
    }


def _layers_of_bases(stored: Path, repository: str) -> frozenset[str]:
    """Return the tags of the layers that the bases are made of: a test's own are not kept."""
    lock = read_base_inputs("cpu", MINOR).lock
    folder = stored / "repositories" / repository / "_manifests" / "tags"
    tags = (path.name for path in folder.glob("*"))
    return frozenset(tag for tag in tags if _is_of_base(tag, lock))


def _is_of_base(tag: str, lock: str) -> bool:
    kind, digest, *_ = tag.split("-")
    return kind in ("site", "pyc", "set") or digest in lock


@cache
def _identity(cluster_repository: str) -> str:
    """Return a digest of everything that the images are made from, and of what makes them."""
    inputs, bootstrap = read_base_inputs("cpu", MINOR), read_bootstrap()
    bases = [base_digest(each, bootstrap) for each in (inputs, lean_inputs(inputs))]
    programs = sorted(Path(images.__file__).parent.rglob("*.py"))
    known = (version("kinetic-flows"), sys.version, sys.base_prefix, cluster_repository, *bases)
    parts = (
        Path(lifted_python.__file__).read_bytes(),
        *(program.read_bytes() for program in programs),
        " ".join(known).encode(),
    )
    return sha256(b"".join(parts)).hexdigest()[:16]


def _repositories_of(stored: Path) -> list[Path]:
    return list(stored.glob("repositories/**/_manifests"))


def _blobs_of(stored: Path) -> Iterator[Path]:
    for link in stored.glob("repositories/**/sha256/*/link"):
        digest = link.read_text().removeprefix("sha256:")
        yield Path("blobs/sha256", digest[:2], digest, "data")


def _link_blobs(source: str, target: str) -> str:
    """Copy a file; blobs, which never change, take no space of their own where that can be."""
    if Path(source).name == "data":
        with suppress(OSError):  # another file system
            os.link(source, target)
            return target
    return shutil.copy2(source, target)
