"""One watcher for all runs of a namespace: one list and one watch per kind of object."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future

from kinetic_flows.clients.kubernetes.client import (
    BUSY,
    KubernetesClient,
    KubernetesRefused,
    core_path,
    jobs_path,
)
from kinetic_flows.clients.kubernetes.watch import Follower
from kinetic_flows.core.errors import KineticError, LaunchError
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.state import KindSink, NamespaceState, RunView

KINDS = ("jobs", "pods", "events")
REQUIRED = ("jobs", "pods")
"""Events only explain; a user who may not read them can still launch runs."""

SERVER = "server"
"""Stands for the API server itself, beside the kinds that it tells of."""

SILENCE_SECONDS = 5.0
"""After so long without a word the API server is asked whether it is there.

One that is being stopped holds watches open for a minute, and tells nothing in them.
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
"""

FIRST_ANSWER_SECONDS = 30.0
EVENTS_ANSWER_SECONDS = 2.0
IDLE_SECONDS = 300.0


class NamespaceWatcher:
    """Watches the Jobs and pods of one namespace for as long as a client asks for them.

    Args:
        client: The cluster.
        namespace: The namespace.
    """

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self.state = NamespaceState()
        self._client = client
        self._namespace = namespace
        self._guard = threading.Lock()
        self._following: list[Future[None]] = []
        self._asked = 0.0

    def view(self, run_id: str) -> RunView:
        """Return what is known of a run.

        Raises:
            KineticError: The cluster has not told yet, and does not.
        """
        self._asked = time.monotonic()
        if not self.state.is_listed(REQUIRED) or not self._is_following():
            self._begin()
            self._await_lists()
        return self.state.view(run_id)

    def slices(self, key: str) -> tuple[str, ...]:
        """Return the keys of the slices of what was launched; its own for what has one.

        Raises:
            KineticError: The cluster has not told yet, and does not.
        """
        self.view(key)
        return self.state.slices(key)

    def _is_following(self) -> bool:
        return bool(self._following) and not any(each.done() for each in self._following)

    def _begin(self) -> None:
        with self._guard:
            if self._is_following():
                return
            for each in self._following:
                each.cancel()
            self.state.clear()
            work = (*(self._follower(kind).follow() for kind in KINDS), self._ask_for_life())
            self._following = [self._client.spawn(each) for each in work]

    def _follower(self, kind: str) -> Follower:
        path = jobs_path(self._namespace)
        if kind != "jobs":
            path = core_path(self._namespace, kind)
        return Follower(
            client=self._client,
            path=path,
            selector="" if kind == "events" else RUN_ID_POD_LABEL,
            sink=KindSink(state=self.state, kind=kind),
            wanted=self._is_wanted,
        )

    async def _ask_for_life(self) -> None:
        """Ask the API server whether it is there while it says nothing."""
        while self._is_wanted():
            await asyncio.sleep(SILENCE_SECONDS)
            if self.state.silent_seconds() < SILENCE_SECONDS:
                continue
            try:
                await self._client.ask_within("GET", "/version")
            except KineticError as error:
                if not (isinstance(error, KubernetesRefused) and error.status not in BUSY):
                    self.state.failed(SERVER, error)
                    continue
            self.state.heard(SERVER)

    def _is_wanted(self) -> bool:
        return time.monotonic() - self._asked < IDLE_SECONDS

    def _await_lists(self) -> None:
        state = self.state
        state.wait(
            lambda: state.is_listed(REQUIRED) or state.trouble(REQUIRED) is not None,
            FIRST_ANSWER_SECONDS,
        )
        if not state.is_listed(REQUIRED):
            raise state.trouble(REQUIRED) or LaunchError(
                "the cluster does not say which Jobs it has",
                value=self._namespace,
                hint="is its API server overloaded? try again",
            )
        state.wait(
            lambda: state.is_listed(KINDS) or state.trouble(KINDS) is not None,
            EVENTS_ANSWER_SECONDS,
        )
