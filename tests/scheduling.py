"""Which process passes which tests, and when, with `pytest -n 3 --dist loadfile`."""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

TOGETHER = ("cloud_calls", "cloud_image_cache", "image_modes", "loopback_cloud")
"""The files that run on the real base image: one process makes it for all of them."""

LONGEST = (*TOGETHER, "server_restarts", "build_image", "cloud_launch", "dependencies_guests")
"""What begins first, so that no process is left with it when the others have ended."""


class LongestFirst(LoadFileScheduling):
    """Keeps the tests of a file together, because they share the servers that it starts."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        # By the number of tests, which says little of how long they take.
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        name = name_of(nodeid)
        return "together" if name in TOGETHER else name


def rank(item: pytest.Item) -> int:
    """Return a test's place in the order of the files."""
    name = name_of(item.nodeid)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def name_of(nodeid: str) -> str:
    """Return the name of a test's file, without what is the same in all of them."""
    return nodeid.partition("::")[0].rpartition("/")[2].removeprefix("test_").removesuffix(".py")
