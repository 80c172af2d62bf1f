"""Following objects of one kind in one namespace: one list, then one watch."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    StreamBroken,
)
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.lines import LineReader

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 120.0
"""A watch in which nothing happened for so long is opened anew; its connection may be dead.

API servers send a bookmark about once a minute.
https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks
"""

WATCH_SECONDS = 3600
FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 15.0


class Sink(Protocol):
    """Receives the objects of one kind."""

    def replace(self, objects: Sequence[dict[str, Any]], began: float) -> None:
        """Take these objects for all there are, as of a monotonic time."""
        ...

    def put(self, item: dict[str, Any]) -> None:
        """Take an object's newest version."""
        ...

    def remove(self, item: dict[str, Any]) -> None:
        """Take note that an object is gone."""
        ...

    def heard(self) -> None:
        """Take note that the cluster tells what changes from now on."""
        ...

    def failed(self, error: KineticError) -> None:
        """Take note that the cluster does not tell, for now."""
        ...


class _Expired(Exception):
    """The version to go on from is too old; the objects have to be listed again."""


@dataclass(kw_only=True)
class Follower:
    """Keeps a sink up to date.

    Not kubernetes-asyncio's Watch (36.1), which makes a client of its own each time (21 ms), waits
    without end for a connection that is dead, and after a 410 asks again for what has expired. The
    list, its repetition and the pauses would be ours all the same.

    Attributes:
        client: The cluster.
        path: Path of the objects.
        selector: Label selector; empty for all.
        sink: Where they go.
        wanted: Asked now and then whether anybody still looks.
    """

    client: KubernetesClient
    path: str
    selector: str
    sink: Sink
    wanted: Callable[[], bool]

    async def follow(self) -> None:
        """Follow the objects until the task is cancelled."""
        version: str | None = None
        pause = FIRST_PAUSE_SECONDS
        while self.wanted():
            try:
                if version is None:
                    version = await self._list()
                version = await self._watch(version)
                pause = FIRST_PAUSE_SECONDS
                await asyncio.sleep(FIRST_PAUSE_SECONDS)
            except _Expired:
                version = None
            except KineticError as error:
                logger.debug("following %s: %s", self.path, error)
                self.sink.failed(error)
                version = None if isinstance(error, KubernetesRefused) else version
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
                pause = min(pause * 2, LAST_PAUSE_SECONDS)

    async def _list(self) -> str:
        began = time.monotonic()
        found = await self.client.ask_within("GET", self.path, query=self._query())
        self.sink.replace(found.get("items") or [], began)
        return str(found["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """Pass on what changes after a version; return the version to go on from."""
        query = {
            **self._query(),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": WATCH_SECONDS,
        }
        stream = self.client.open_stream(self.path, query, silence_seconds=SILENCE_SECONDS)
        try:
            async with stream as chunks:
                self.sink.heard()
                async for line in _lines(chunks):
                    version = self._take(json.loads(line)) or version
                    if not self.wanted():
                        break
        except KubernetesRefused as refusal:
            if refusal.status == 410:
                raise _Expired from refusal
            raise
        except StreamBroken as broken:
            logger.debug("watching %s: %s", self.path, broken)
        return version

    def _take(self, change: dict[str, Any]) -> str | None:
        kind, item = change["type"], change["object"]
        if kind == "ERROR":
            # https://kubernetes.io/docs/reference/using-api/api-concepts/#410-gone-responses
            raise _Expired(item.get("message"))
        if kind == "DELETED":
            self.sink.remove(item)
        elif kind != "BOOKMARK":
            self.sink.put(item)
        version = (item.get("metadata") or {}).get("resourceVersion")
        return str(version) if version else None

    def _query(self) -> dict[str, str | int]:
        return {"labelSelector": self.selector} if self.selector else {}


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Yield complete lines, of whatever length."""
    reader = LineReader()
    async for chunk in chunks:
        for line in reader.take(chunk):
            if line:
                yield line
