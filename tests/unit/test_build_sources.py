"""What Cloud Build is told to build is what was meant, whatever lay under its name."""

from __future__ import annotations

import hashlib

import pytest

from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core import object_names
from kinetic_flows.images.dockerfiles import BuildContext
from kinetic_flows.platforms.gke.builds.build import BuildOptions
from kinetic_flows.platforms.gke.builds.requests import BuildRequest, BuildSource

CONTENT = BuildSource(context=BuildContext(files={"Dockerfile": b"FROM scratch\n"}))
REQUEST = BuildRequest(reference="r.io/image:1", subject="s", source=lambda: CONTENT)
ARCHIVE = CONTENT.context.archive()
SOURCE = object_names.build_source_object(hashlib.sha256(ARCHIVE).hexdigest())


class Bucket(MemoryStore):
    """A store with the address of a bucket."""

    uri = "gs://builds"


@pytest.mark.parametrize("before", [None, ARCHIVE, b"somebody else's source"])
def test_a_build_gets_exactly_the_source_that_was_meant(before: bytes | None) -> None:
    store = Bucket()
    if before is not None:
        store.objects[SOURCE] = before

    spec = REQUEST.upload(CONTENT, store, BuildOptions())

    assert store.objects[SOURCE] == ARCHIVE
    assert spec.source_object == SOURCE
    assert spec.source_generation == store.get(SOURCE).generation


def test_a_source_that_is_replaced_while_it_is_uploaded_is_uploaded_again() -> None:
    class Contested(Bucket):
        """A store in which somebody is faster, twice."""

        faster = 2

        def replace_if_unchanged(
            self, name: str, data: bytes, generation: str | None
        ) -> str | None:
            if self.faster:
                self.faster -= 1
                self.objects[name] = b"theirs %d" % self.faster
            return super().replace_if_unchanged(name, data, generation)

    store = Contested()
    spec = REQUEST.upload(CONTENT, store, BuildOptions())

    assert store.objects[SOURCE] == ARCHIVE
    assert spec.source_generation == store.get(SOURCE).generation
